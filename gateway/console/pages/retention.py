"""Retention: what of its tags a project keeps; a plan that says of each tag why it stays, and the act."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.responses import Response

from gateway.access.rules import parse_patterns
from gateway.administration import Condition, edition_of
from gateway.administration.retention import Decision, Retention, RetentionPlan
from gateway.console.form import Form
from gateway.console.frame import plural, render, render_project
from gateway.console.leaves import Leaf, leaf
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit
from gateway.errors import Invalid, Stale
from gateway.oci.names import ProjectName

#: So many tags are named in a question.
_NAMED: Final = 20
_DIGITS: Final = 9


async def show(visit: Visit) -> Response:
    """What the project keeps."""
    project = ProjectName.parse(visit.path["project"])
    found = await visit.acts.retention.show(visit.caller, project.name)
    return await _page(visit, project, found, _filled(found))


async def save(visit: Visit) -> Response:
    """Changes what is kept, unless somebody else has since the form was opened; nothing goes at once."""
    project, form = ProjectName.parse(visit.path["project"]), visit.form
    present = await visit.acts.retention.show(visit.caller, project.name)
    last = form.parsed("last", lambda text: Retention.parse(_number(text), (), None).last)
    days = form.parsed("pulled_days", lambda text: Retention.parse(None, (), _number(text)).pulled_days)
    matching = form.parsed("matching", lambda text: parse_patterns(text.split()))
    if form.sound:
        try:
            seen = Condition.on_retention(project.name, frozenset({form.text("version")}))
            with form.blaming(""):
                await visit.acts.expecting(seen).retention.set(
                    visit.caller, project.name, last=last, matching=matching or (), pulled_days=days
                )
                return visit.go(f"/projects/{project}/settings/retention", said="saved")
        except Stale as stale:
            return await _overtaken(visit, project, stale)
    return await _page(visit, project, present, form, 422)


async def plan(visit: Visit, status: int = 200) -> Response:
    """Of every tag, whether it would stay now, and why."""
    project = ProjectName.parse(visit.path["project"])
    plans = await visit.acts.retention.plan(visit.caller, project.name)
    wanted = visit.query.text("q")
    # Many tags take a moment to be put in order, in which others are answered.
    shown = await asyncio.to_thread(_leaf, plans, wanted, visit.query)
    going, staying = ([row for row in shown.rows if row[2].stays is stays] for stays in (False, True))
    return await render_project(
        visit,
        project,
        "retention_plan.html",
        status,
        going=going,
        staying=staying,
        all_going=sum(len(each.going) for each in plans),
        count=sum(len(each.decisions) for each in plans),
        leaf=shown,
        wanted=wanted,
    )


def _leaf(plans: Sequence[RetentionPlan], wanted: str, query: Form) -> Leaf[tuple[str, str, Decision]]:
    rows = ((f"{each.repository}:{one.tag.name}", each.repository, one) for each in plans for one in each.decisions)
    return leaf((row for row in rows if wanted in row[0]), lambda row: f"{row[2].stays:d} {row[0]}", query)


async def ask(visit: Visit, status: int = 200) -> Response:
    """Asks whether what the project does not keep is to go."""
    project = ProjectName.parse(visit.path["project"])
    plans = await visit.acts.retention.plan(visit.caller, project.name)
    names = [f"{each.repository}:{tag.name}" for each in plans for tag in each.going]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    back = f"/projects/{project}/settings/retention"
    seconds = visit.acts.retention.trash_seconds
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return await render(
        visit,
        "confirm.html",
        status,
        trail=[("Projects", "/projects"), (project.name, f"/projects/{project}"), ("Retention", back), ("Apply", "")],
        question=f"Remove {plural(len(names), 'tag')} from {project}?",
        told=[
            f"These go: {', '.join(names[:_NAMED])}{more}." if names else "Nothing is to go now.",
            "A manifest goes too when its last tag does, with what only it names.",
            f"They can be had back until {until:%d %b %Y, %H:%M} UTC: see Deleted in the project."
            if seconds
            else "They cannot be had back.",
        ],
        action=f"{back}/apply",
        hidden=(("seen", _mark(plans)),),
        button="Remove them",
        back=f"{back}/plan",
        typed="",
    )


async def apply(visit: Visit) -> Response:
    """Removes it, if what would go is still what was shown."""
    project = ProjectName.parse(visit.path["project"])
    plans = await visit.acts.retention.plan(visit.caller, project.name)
    if visit.form.value("seen") != _mark(plans):
        visit.form.blame("", "What would go has changed meanwhile; this is how it is now.")
        return await ask(visit, 409)
    with visit.form.blaming(""):
        await visit.acts.retention.apply(visit.caller, project.name)
        return visit.go(f"/projects/{project}/deleted", said="applied")
    return await ask(visit, 422)


async def _page(
    visit: Visit, project: ProjectName, found: Retention, form: Form, status: int = 200, *, changed: bool = False
) -> Response:
    values = {"kept": str(found), "form": form, "changed": changed, "hindrance": visit.acts.trash.hindrance}
    return await render_project(visit, project, "retention.html", status, **values)


async def _overtaken(visit: Visit, project: ProjectName, stale: Stale) -> Response:
    present = stale.present
    assert isinstance(present, Retention)
    kept = [(name, value) for name, value in visit.form.pairs if name != "version"]
    return await _page(visit, project, present, Form([*kept, ("version", edition_of(present))]), 409, changed=True)


def _filled(found: Retention) -> Form:
    last, days = (str(number) if number is not None else "" for number in (found.last, found.pulled_days))
    pairs = [("last", last), ("pulled_days", days), ("matching", "\n".join(found.matching))]
    return Form([*pairs, ("version", edition_of(found))])


def _number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS:
        raise Invalid("Write a whole number, or nothing.")
    return int(text)


def _mark(plans: Sequence[RetentionPlan]) -> str:
    """What of the *plans* would go, told apart from any other."""
    lines = [f"{each.repository}:{tag.name}@{tag.digest}\n" for each in plans for tag in each.going]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


GROUP = Group(
    pages=(
        Page("/projects/{project}/settings/retention", show, save),
        Page("/projects/{project}/settings/retention/plan", plan),
        Page("/projects/{project}/settings/retention/apply", ask, apply),
    ),
)
