"""The oracle: whether all that was acknowledged is there, all that was deleted is gone, and both are told of."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.harness.figures import Figures
from tests.faults.harness.journal import GONE, Noun, Thing
from tests.faults.harness.operations import sha256
from tests.faults.harness.site import Site, Unanswered

#: What a write that was broken off may leave, unseen by any client; a repair or a sweep removes it.
LITTER = frozenset({"blob_unrecorded", "blob_stray", "blob_left", "upload_orphan", "import_left"})
_HTTP = (Noun.BLOB, Noun.MANIFEST, Noun.TAG, Noun.UPLOAD)
_LISTED = {
    Noun.ACCOUNT: ("user", "list"),
    Noun.PROJECT: ("project", "list"),
    Noun.GRANT: ("grant", "list"),
}
_TYPES = ", ".join(
    f"application/vnd.{name}+json" for name in ("oci.image.manifest.v1", "oci.image.index.v1", "docker.distribution.v2")
)


@dataclass(slots=True)
class Oracle:
    """Judges one site for one kind of fault, and adds to the figures what it finds."""

    site: Site
    figures: Figures
    fault: str
    allowed: frozenset[str] = LITTER
    _counted: int = field(default=0)

    def judge(self) -> None:
        """Asks for all there is, and checks what lies on the disk. The site answers."""
        self.replay()
        self.check()

    # what clients see

    def replay(self) -> None:
        """Every thing of the journal has a value that it may have."""
        for thing, values in self.site.journal.things(*_HTTP):
            self._compare(thing, self._told(thing), values)
        for noun, words in _LISTED.items():
            wanted = list(self.site.journal.things(noun))
            listed = self._listed(noun, words) if wanted else {}
            for thing, values in wanted:
                self._compare(thing, listed.get(thing, GONE), values)

    def _compare(self, thing: Thing, found: str, values: frozenset[str]) -> None:
        if found in values:
            # Nobody was told, and this is how it stands: it has to stay so.
            self.site.journal.observes(thing, found)
            return
        wanted = " or ".join(value or "gone" for value in sorted(values))
        self.figures.problem(self.fault, f"{thing.noun} {thing.place} {thing.name} is {found or 'gone'}, not {wanted}")
        with self.figures.line(self.fault) as line:
            line.lost += 1

    def _told(self, thing: Thing) -> str:
        try:
            return self._found(thing)
        except Unanswered:
            time.sleep(0.5)
        try:
            return self._found(thing)
        except Unanswered as error:
            # Whatever it is that it cannot give, the client does not have it.
            return f"refused ({error})"

    def _found(self, thing: Thing) -> str:
        match thing.noun:
            case Noun.UPLOAD:
                answer = self.site.client.ask("GET", thing.name, 204, 404)
                # An upload without a byte is told as one of a byte: the header cannot say it otherwise.
                end = int(answer.headers["range"].partition("-")[2]) if answer.status == 204 else 0
                return str(end + 1 if end else 0) if answer.status == 204 else GONE
            case Noun.BLOB:
                path, headers = f"/v2/{thing.place}/blobs/{thing.name}", {}
            case _:
                path, headers = f"/v2/{thing.place}/manifests/{thing.name}", {"Accept": _TYPES}
        answer = self.site.client.ask("GET", path, 200, 404, headers=headers)
        if answer.status == 404:
            return GONE
        found = sha256(answer.body)
        if found != answer.headers["docker-content-digest"]:
            self.figures.problem(self.fault, f"{path} has other bytes than its digest")
            with self.figures.line(self.fault) as line:
                line.wrong += 1
        return found

    def _listed(self, noun: Noun, words: tuple[str, ...]) -> dict[Thing, str]:
        rows = self.site.table(*words)
        if noun is Noun.GRANT:
            return {Thing(noun, str(row["principal"]), str(row["reach"])): str(row["role"]) for row in rows}
        return {Thing(noun, "", str(row["name"])): "there" for row in rows}

    # what lies on the disk

    def check(self, *words: str) -> None:
        """`gateway check --deep` finds nothing but litter; with `--repair`, nothing is left."""
        ended = self.site.command("check", "--deep", "--json", *words)
        try:
            told = json.loads(ended.stdout)
        except ValueError:
            self.figures.problem(self.fault, f"check said {ended.output[-500:]}")
            return
        for flaw in told["flaws"]:
            if flaw["kind"] in self.allowed:
                with self.figures.line(self.fault) as line:
                    line.litter += 1
            if not flaw["remark"] and not flaw["mended"] and (flaw["kind"] not in self.allowed or "--repair" in words):
                self.figures.problem(self.fault, f"check: {flaw['kind']} {flaw['what']}: {flaw['text']}")
                with self.figures.line(self.fault) as line:
                    line.lost += 1

    # at the end

    def conclude(self) -> None:
        """After the last fault: what was left is mended, and then all is well; the trail is whole and has each act."""
        self.judge()
        self.check("--repair")
        self.allowed = frozenset()
        self.judge()
        verified = self.site.command("audit", "verify")
        if not verified.ok:
            self.figures.problem(self.fault, f"audit verify: {verified.output[-300:]}")
            with self.figures.line(self.fault) as line:
                line.lost += 1
        self._audit()
        with self.figures.line(self.fault) as line:
            line.operations += self.site.journal.operations

    def _audit(self) -> None:
        events = [event for event in self.site.gateway.events() if event["outcome"] == "allowed"]
        by_request = Counter((event["kind"], event["request_id"]) for event in events)
        texts: dict[str, list[str]] = {}
        for event in events:
            texts.setdefault(str(event["kind"]), []).append(json.dumps(event))
        wanted: Counter[tuple[str, str]] = Counter()
        for act in self.site.journal.acts:
            if act.request_id:
                found = by_request[act.kind, act.request_id]
                if found != 1:
                    self._untold(1, f"{act.kind} of request {act.request_id} has {found} events")
            else:
                wanted[act.kind, act.word] += 1
        for (kind, word), count in wanted.items():
            found = sum(f'"{word}"' in text for text in texts.get(kind, []))
            if found < count:
                self._untold(count - found, f"{kind} of {word}: {count} acknowledged, {found} events")

    def _untold(self, count: int, text: str) -> None:
        self.figures.problem(self.fault, text)
        with self.figures.line(self.fault) as line:
            line.unaudited += count
