"""The evidence pack: a signed review to be handed over, read in any browser and verified with nothing but Python.

README.txt   what this is, what it proves, how to verify it
review.html  to be read; it holds no script and loads nothing
review.json  what was signed, byte for byte
events.jsonl the events as they were sealed, one a line
checkpoint.json  a signed checkpoint of the chain, where the gateway makes them
verify.py    recomputes every hash
offline.py   verifies the checkpoint's signature too, of a whole chain, with the public key that one has from elsewhere
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import IO, Any, Final

from gateway.audit.chain import Sealed

#: Events shown of one finding on the page; all of them are in the lines.
SHOWN: Final = 5
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;"
    "background:#fff}table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #d0d7de;padding:.4rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}code{font-size:.9em;overflow-wrap:anywhere}"
    "h2{margin-top:2rem}.follow_up{font-weight:bold}small{color:#57606a}"
)


@dataclass(frozen=True, slots=True)
class Told:
    """
    The review as the pack tells it: *review* is the canonical line whose SHA-256 is *content*, the sign-off's.

    *whys* are title and reason of each rule, by its name.
    """

    title: str
    scope: str
    review: str
    content: str
    signed_at: str
    signed_by: str
    whys: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Pack:
    """
    What is handed over. *events* reads them anew each time, oldest first; *chained* says that they have no gaps.

    *event* finds one by its number, to show it beside a finding. Nothing is held in memory but the review itself.
    """

    told: Told
    events: Callable[[], Iterator[Sealed]]
    event: Callable[[int], Sealed | None]
    checkpoint: Mapping[str, object] | None
    chained: bool

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Each file's name and its bytes, piece by piece; take one whole before the next."""
        yield "README.txt", iter([self._readme().encode()])
        yield "review.html", (piece.encode() for piece in self._page())
        yield "review.json", iter([self.told.review.encode()])
        yield "events.jsonl", (_line(event) for event in self.events())
        if self.checkpoint is not None:
            yield "checkpoint.json", iter([f"{json.dumps(self.checkpoint)}\n".encode()])
            if self.chained:
                yield "offline.py", iter([(resources.files("gateway.audit") / "offline.py").read_bytes()])
        yield "verify.py", iter([_template("verify.txt").encode()])

    def zipped(self, stream: IO[bytes]) -> None:
        """Writes the pack as one zip file into *stream*, which need not be sought in."""
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, pieces in self.parts():
                with archive.open(name, "w", force_zip64=True) as part:
                    for piece in pieces:
                        part.write(piece)

    def _readme(self) -> str:
        chain = "chain" if self.chained else "single"
        checkpoint = "checkpoint" if self.checkpoint is not None else "no-checkpoint"
        kept = (chain, checkpoint, f"{chain}_{checkpoint}")
        lines = [line for line in _template("readme.txt").splitlines() if _kept(line, *kept)]
        text = "\n".join(line.partition("|")[2] if "|" in line else line for line in lines) + "\n"
        for name in ("title", "scope", "content", "signed_at", "signed_by"):
            text = text.replace(f"{{{name}}}", _printable(getattr(self.told, name)))
        return text

    def _page(self) -> Iterator[str]:
        told = self.told
        review: dict[str, Any] = json.loads(told.review)
        yield '<!doctype html><html lang="en"><meta charset="utf-8">'
        yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        yield f"<title>{escape(told.title)}</title><style>{_STYLE}</style><h1>{escape(told.title)}</h1>"
        period = f"from {review['since']} to before {review['until']}"
        yield f"<p>{escape(told.scope)}, {escape(period)}. Begun by {escape(review['begun_by'])}, "
        yield f"signed off by <b>{escape(told.signed_by)}</b> at {escape(told.signed_at)}.</p>"
        if review["note"]:
            yield f"<p>{escape(review['note'])}</p>"
        yield f"<p><small>SHA-256 of review.json, as the event of the sign-off has it: <code>{escape(told.content)}"
        yield "</code></small></p>"
        for run in review["runs"]:
            yield from self._rule(run, [each for each in review["findings"] if each["rule"] == run["rule"]])

    def _rule(self, run: Mapping[str, Any], found: list[dict[str, Any]]) -> Iterator[str]:
        title, why = self.told.whys.get(run["rule"], (run["rule"], ""))
        yield f"<h2>{escape(title)}</h2><p>{escape(why)}</p>"
        if not run["whole"]:
            yield "<p>Only the newest events of the period were looked at for this.</p>"
        if run["found"] > len(found):
            yield f"<p>{run['found'] - len(found)} more were found and are not listed.</p>"
        if not found:
            yield "<p>Nothing was found.</p>"
            return
        yield "<table><tr><th>No.<th>About<th>What<th>Mark<th>Note"
        for each in found:
            mark = {"fine": "fine", "follow_up": "follow up"}.get(each["mark"], "-")
            yield f"<tr><td>{each['number']}<td>{escape(each['subject'])}<td>{escape(each['summary'])}"
            yield from self._events_of(each["events"])
            yield f'<td class="{escape(each["mark"], quote=True)}">{mark}<br><small>{escape(each["marked_by"])}</small>'
            yield f"<td>{escape(each['note'])}"
        yield "</table>"

    def _events_of(self, numbers: list[int]) -> Iterator[str]:
        for number in numbers[:SHOWN]:
            event = self.event(number)
            if event is not None:
                record = event.record()
                words = (record.get(name, "") for name in ("time", "kind", "outcome", "principal", "address", "reason"))
                yield f"<br><small>{number}: {escape(' '.join(str(word) for word in words if word))}</small>"
        if len(numbers) > SHOWN:
            more = ", ".join(str(number) for number in numbers[SHOWN:])
            yield f"<br><small>and {len(numbers) - SHOWN} more: {more}</small>"


def _line(event: Sealed) -> bytes:
    """The event as it was sealed: its canonical form is a text in the line, so that no reader changes a byte of it."""
    return json.dumps({"seq": event.seq, "hash": event.hash.hex(), "body": event.body}).encode() + b"\n"


def _kept(line: str, *wanted: str) -> bool:
    """Whether a line of the README is for this pack: those that are for some alone begin with a word and a bar."""
    return "|" not in line or line.partition("|")[0] in wanted


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _template(name: str) -> str:
    return (resources.files("gateway.audit") / "pack_texts" / name).read_text(encoding="utf-8")
