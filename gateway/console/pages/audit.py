"""The audit trail: searched with every filter, over time, one event in its place, exported and verified."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from markupsafe import Markup
from starlette.responses import Response

from gateway.access.names import is_robot
from gateway.access.principals import PrincipalKind
from gateway.access.scopes import Action
from gateway.administration.exports import Slot
from gateway.audit.chain import Sealed
from gateway.audit.event import Kind, Outcome
from gateway.audit.searching import FILTERS, Asked, asked
from gateway.audit.spreadsheet import csv_lines, heading
from gateway.audit.trail import Search
from gateway.console.chart import bars, drawing
from gateway.console.download import Download
from gateway.console.form import Form
from gateway.console.frame import render, render_project
from gateway.console.plan import Group, Page, Place, Tab
from gateway.console.session import CSRF_FIELD
from gateway.console.visit import Visit
from gateway.errors import Unknown
from gateway.oci.names import ProjectName

#: Events of one page, and of one piece of an export.
_ROWS: Final = 50
_PIECE: Final = 1000
_KINDS: Final = sorted({kind.value for kind in Kind} | {f"{kind.value.partition('.')[0]}.*" for kind in Kind})
#: The kinds to choose from, spelled once: they are a fifth of what a page of the trail spells.
_OPTIONS: Final = Markup().join(Markup('<option value="{}"></option>').format(kind) for kind in _KINDS)
#: Principals whose credentials may leak.
_WITH_ACCOUNTS: Final = (PrincipalKind.USER.value, PrincipalKind.ROBOT.value)
_NO_EVENT: Final = "There is no such event that you may see; search for those you may."
#: What the address of a search may hold: its filters, its page, how it is exported, and what pages' forms bring along.
_KNOWN: Final = frozenset({*FILTERS, "before", "format", "said", "name", CSRF_FIELD})
_LISTED: Final = ("outcome", "kind", "principal", "address", "reason")
_OUTCOMES: Final = (("", "any"), *((outcome.value, outcome.value) for outcome in Outcome))


async def index(visit: Visit) -> Response:
    """What a search finds; a filter that cannot be is told beside its field, and the others are kept."""
    return await _found(visit, None)


async def project_index(visit: Visit) -> Response:
    """As `index`, of one project."""
    return await _found(visit, ProjectName.parse(visit.path["project"]))


async def event(visit: Visit) -> Response:
    """Everything an event says, and its place in the chain."""
    place = await visit.acts.audit.locate_event(visit.caller, _number(visit.path["number"]))
    found = place.event
    everywhere = Action.REVIEW in await visit.rights()
    name = str(found["project"])
    theirs = is_robot(str(found["principal"])) and str(found["principal"]).startswith(f"{name}+")
    return await render(
        visit,
        "audit_event.html",
        place=place,
        fields=[(field.replace("_", " "), _spelled(value)) for field, value in found.items() if value != ""],
        number=found["id"],
        base=await visit.trail(ProjectName(name) if name else None),
        held=found.get("principal_kind") in _WITH_ACCOUNTS and (everywhere or theirs),
        everywhere=everywhere,
    )


async def save(visit: Visit) -> Response:
    """Keeps what stands in the fields of the search, under a name of the caller's own."""
    form = visit.form
    filters = _texts(form)
    if not any(filters.values()):
        form.blame("name", "Fill in what to search for first: there is nothing to keep.")
    if not form.sound or _asked(form).flaws:
        return await _found(visit, None, 422)
    with form.blaming("name"):
        await visit.acts.audit.save_search(visit.caller, form.text("name"), filters)
        return visit.go("/audit", said="saved", **{name: text for name, text in filters.items() if text})
    return await _found(visit, None, 422)


async def forget(visit: Visit) -> Response:
    await visit.acts.audit.remove_search(visit.caller, visit.form.text("name"))
    return visit.go("/audit", said="removed")


async def export(visit: Visit) -> Response:
    """Every event that matches, one a line, as long as it takes; as a table for spreadsheets when asked."""
    return await _exported(visit, None)


async def project_export(visit: Visit) -> Response:
    """As `export`, of one project."""
    return await _exported(visit, ProjectName.parse(visit.path["project"]))


async def verify(visit: Visit) -> Response:
    await visit.require(Action.REVIEW)
    return await render(visit, "audit_verify.html", found=None)


async def verified(visit: Visit) -> Response:
    """Reads the whole trail, and says whether it is as it was written."""
    return await render(visit, "audit_verify.html", found=await visit.acts.audit.verify(visit.caller))


async def _exported(visit: Visit, project: ProjectName | None) -> Response:
    found = _asked(visit.form, project)
    if found.flaws:
        return await _found(visit, project, 422)
    with visit.acts.exporting.slot(visit.caller) as slot:
        return _download(slot, await visit.acts.audit.export_events(visit.caller, found.search), visit)


def _download(slot: Slot, events: Iterator[Sealed], visit: Visit) -> Download:
    def lines() -> Generator[bytes, None, None]:
        # A thousand at a time: each piece costs a thread's turn.
        for some in batched(events, _PIECE):
            yield b"".join(json.dumps(sealed.record()).encode() + b"\n" for sealed in some)

    def cells() -> Generator[bytes, None, None]:
        yield heading().encode()
        for some in batched(events, _PIECE):
            yield csv_lines(some).encode()

    if visit.form.value("format") == "csv":
        return Download(slot, cells(), "audit.csv", "text/csv; charset=utf-8")
    return Download(slot, lines(), "audit.jsonl", "application/x-ndjson")


async def _found(visit: Visit, project: ProjectName | None, status: int = 200) -> Response:
    form = visit.form
    searched = _asked(form, project)
    for name, flaw in searched.flaws.items():
        form.blame(name, flaw)
    _blame_unknown(form)
    before = int(form.text("before")) if _is_number(form.text("before")) else None
    search = searched.search
    if project is None and form.text("project"):
        form.parsed("project", ProjectName.parse)
    with form.blaming("project" if "project" in form.errors else "repository"):
        overview = await visit.acts.audit.overview(visit.caller, search)
        found = await visit.acts.audit.find_events(visit.caller, search, before=before, limit=_ROWS)
        saved = await visit.acts.audit.list_searches(visit.caller) if project is None else ()
        return await _page(visit, project, form, search, overview, found, saved, status)
    _blame_unkept(visit)
    scoped = {"base": f"/projects/{project}/audit" if project is not None else "/audit", "scoped": project is not None}
    return await render(visit, "audit_flawed.html", 422, **_choices(), **scoped)


async def _page(
    visit: Visit,
    project: ProjectName | None,
    form: Form,
    search: Search,
    overview: Any,
    found: Any,
    saved: Any,
    status: int,
) -> Response:
    rows = [_row(each) for each in found.events]
    filters = {name: text for name, text in _texts(form).items() if text and name not in form.errors}
    values = {
        **_choices(),
        "overview": overview,
        "searched": search,
        "bars": drawing(bars(overview.timeline)),
        "events": rows,
        "older": str(found.before) if found.before is not None else "",
        "short": len(rows) < _ROWS,
        "sealed": found.sealed,
        "filters": filters,
        "saved": saved,
        "base": f"/projects/{project}/audit" if project is not None else "/audit",
    }
    status = 422 if form.errors and status == 200 else status
    if project is not None:
        return await render_project(visit, project, "audit_project.html", status, **values)
    # After the status: the search was done, and it is that which was asked for.
    _blame_unkept(visit)
    return await render(visit, "audit.html", status, **values)


def _choices() -> dict[str, object]:
    return {"kinds": _OPTIONS, "outcomes": _OUTCOMES}


def _texts(form: Form) -> dict[str, str]:
    return {name: form.text(name) for name in FILTERS}


def _asked(form: Form, project: ProjectName | None = None) -> Asked:
    texts = _texts(form)
    if project is not None:
        texts["project"] = project.name
    return asked(texts, datetime.now(UTC))


def batched(events: Iterable[Sealed], most: int) -> Iterator[tuple[Sealed, ...]]:
    """*events*, so many at a time."""
    remaining = iter(events)
    while some := tuple(islice(remaining, most)):
        yield some


def _blame_unknown(form: Form) -> None:
    """Tells of what the address asks for and no search has; it is left out, and the rest is kept."""
    unknown = sorted({name for name, _ in form.pairs} - _KNOWN)
    if unknown:
        form.blame("", f"There is no filter {', '.join(unknown)[:100]!r}; it was left out.")
    if form.text("before") and not _is_number(form.text("before")):
        form.blame("", "There is no such page of this search; this is its first one.")


def _blame_unkept(visit: Visit) -> None:
    """Tells who pressed Enter in the name of a search to be kept that this searched, and no more."""
    if visit.request.method != "POST" and visit.form.text("name"):
        visit.form.blame("name", "Nothing was kept yet: press Keep this search.")


def _is_number(text: str) -> bool:
    """Whether *text* can be the number of an event: no longer than either database has room for."""
    return text.isascii() and text.isdecimal() and len(text) <= 18


def _number(text: str) -> int:
    if not _is_number(text):
        raise Unknown(_NO_EVENT)
    return int(text)


def _row(found: Mapping[str, Any]) -> tuple[object, ...]:
    """What the list shows of an event, in the order in which it does."""
    at = datetime.fromisoformat(str(found["time"]))
    outcome, kind, principal, address, reason = (str(found.get(name, "")) for name in _LISTED)
    return found["id"], at, outcome, kind, principal, _target(found), address, reason


def _target(found: Mapping[str, Any]) -> str:
    place = str(found.get("repository") or found.get("project") or "")
    reference = str(found.get("reference") or found.get("digest") or "")
    if reference:
        return f"{place}@{reference[:19]}" if ":" in reference else f"{place}:{reference}"
    about = found.get("detail")
    return place or (str(about.get("account", "")) if isinstance(about, Mapping) else "")


def _spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, dict | list) else str(value)


GROUP = Group(
    pages=(
        Page("/audit", index),
        Page("/audit/events/{number}", event),
        Page("/audit/saved", post=save),
        Page("/audit/forget", post=forget),
        Page("/audit/export", export),
        Page("/audit/verify", verify, verified),
        Page("/projects/{project}/audit", project_index),
        Page("/projects/{project}/audit/export", project_export),
    ),
    places=(Place("Audit", "/audit", Action.REVIEW),),
    tabs=(Tab("Audit", "/audit", Action.REVIEW),),
)
