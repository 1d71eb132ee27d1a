"""Members of a project: who holds which role, on what part of it, until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from starlette.responses import Response

from gateway.access.names import parse_principal
from gateway.access.policy import ACTIONS, Reach, Role
from gateway.access.scopes import Action
from gateway.administration import Condition, GrantRow, edition_of
from gateway.console.form import Form
from gateway.console.frame import render, render_project
from gateway.console.leaves import leaf
from gateway.console.plan import Group, Page, Tab
from gateway.console.visit import Visit
from gateway.errors import Invalid, Stale, Unknown
from gateway.oci.names import ProjectName

#: The roles, with what each may do.
ROLES = tuple(
    (role.value, f"{role.value}: {', '.join(a.value for a in Action if a in ACTIONS[role])}") for role in Role
)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Held:
    """The grant that a page is about: whose, and on what."""

    project: ProjectName
    principal: str
    reach: Reach

    @classmethod
    def of(cls, visit: Visit) -> _Held:
        """The grant that the fields of *visit* name; raises `Unknown` for one of another project."""
        project = ProjectName.parse(visit.path["project"])
        reach = Reach.parse(visit.form.text("reach"))
        if reach.project != project:
            raise Unknown("There is no such grant in this project; go back to its members.")
        return cls(project, parse_principal(visit.form.text("principal")), reach)

    @property
    def members(self) -> str:
        return f"/projects/{self.project}/members"

    async def found(self, visit: Visit) -> GrantRow:
        """The grant as it is; raises `Unknown`."""
        grants = await visit.acts.grants.list_grants(visit.caller, principal=self.principal, project=self.project.name)
        row = next((row for row in grants if row.reach == str(self.reach)), None)
        if row is None:
            raise Unknown("There is no such grant (any more); go back to the members of the project.")
        return row


async def index(visit: Visit, status: int = 200) -> Response:
    """Who holds what in the project; and, for who manages it, a form to give more."""
    project, wanted = ProjectName.parse(visit.path["project"]), visit.query.text("q").lower()
    grants = await visit.acts.grants.list_grants(visit.caller, project=project.name)
    found = leaf([grant for grant in grants if wanted in grant.principal], named, visit.query)
    values = {"leaf": found, "all": len(grants), "wanted": wanted, "roles": ROLES}
    return await render_project(visit, project, "members.html", status, **values)


def named(grant: GrantRow) -> str:
    """What a grant is called in a list: no other has the same principal and reach."""
    return f"{grant.principal} {grant.reach}"


async def add(visit: Visit) -> Response:
    """Gives a role to somebody who holds none on that part of the project."""
    project, form = ProjectName.parse(visit.path["project"]), visit.form
    reach = form.parsed("pattern", lambda text: Reach.parse(f"{project}/{text}" if text else project.name))
    principal, expires = form.parsed("principal", parse_principal), form.parsed("expires", lasting)
    form.parsed("role", Role.parse)
    if form.sound and reach is not None and principal is not None:
        fresh = visit.acts.expecting(Condition.on_grant(principal, str(reach), None, absent=True)).grants
        try:
            with form.blaming("principal"):
                await fresh.add_grant(visit.caller, principal, form.value("role"), str(reach), expires=expires)
                return visit.go(f"/projects/{project}/members", said="added")
        except Stale as stale:
            form.blame("principal", stale.message)
    return await index(visit, 422)


async def edit(visit: Visit) -> Response:
    """One grant, to be changed."""
    held = _Held.of(visit)
    row = await held.found(visit)
    filled = Form([("role", row.role), ("expires", _shown(row)), ("version", edition_of(row))])
    return await _editing(visit, held, filled)


async def save(visit: Visit) -> Response:
    """Changes a grant, unless somebody else has done so since the form was opened."""
    held, form = _Held.of(visit), visit.form
    row = await held.found(visit)
    # The day is all that a form shows of an expiry: one that was not touched stays as it is, to the second.
    untouched, expires = form.text("expires") == _shown(row), None
    with form.blaming("expires"):
        expires = _left(row) if untouched else lasting(form.text("expires"))
    form.parsed("role", Role.parse)
    if form.sound:
        try:
            seen = Condition.on_grant(held.principal, str(held.reach), frozenset({form.text("version")}))
            grants = visit.acts.expecting(seen).grants
            with form.blaming("role"):
                await grants.add_grant(
                    visit.caller, held.principal, form.value("role"), str(held.reach), expires=expires
                )
                return visit.go(held.members, said="saved")
        except Stale as stale:
            return await _overtaken(visit, held, stale)
    return await _editing(visit, held, form, 422)


async def ask_remove(visit: Visit) -> Response:
    held = _Held.of(visit)
    row = await held.found(visit)
    return await _removing(visit, held, row)


async def remove(visit: Visit) -> Response:
    """Takes a grant away, unless it is another one than was looked at."""
    held = _Held.of(visit)
    try:
        seen = Condition.on_grant(held.principal, str(held.reach), frozenset({visit.form.text("version")}))
        await visit.acts.expecting(seen).grants.remove_grant(visit.caller, held.principal, str(held.reach))
    except Stale as stale:
        if not isinstance(stale.present, GrantRow):
            raise Unknown(stale.message) from stale
        visit.form.blame("", f"{stale.message} This is what would be taken away now.")
        return await _removing(visit, held, stale.present, 409)
    return visit.go(held.members, said="removed")


async def _editing(
    visit: Visit, held: _Held, form: Form, status: int = 200, changed: GrantRow | None = None
) -> Response:
    values = {"principal": held.principal, "reach": str(held.reach), "roles": ROLES, "changed": changed}
    return await render_project(visit, held.project, "member_edit.html", status, form=form, **values)


async def _overtaken(visit: Visit, held: _Held, stale: Stale) -> Response:
    """The form again, with what was typed in it, beside what somebody else made of the grant meanwhile."""
    if not isinstance(stale.present, GrantRow):
        raise Unknown(stale.message) from stale
    kept = [(name, value) for name, value in visit.form.pairs if name != "version"]
    form = Form([*kept, ("version", edition_of(stale.present))])
    return await _editing(visit, held, form, 409, stale.present)


async def _removing(visit: Visit, held: _Held, row: GrantRow, status: int = 200) -> Response:
    hidden = (("principal", row.principal), ("reach", row.reach), ("version", edition_of(row)))
    return await render(
        visit,
        "confirm.html",
        status,
        trail=[("Projects", "/projects"), (held.project.name, f"/projects/{held.project}"), ("Members", held.members)],
        question=f"Take {row.role} on {row.reach} from {row.principal}?",
        told=[f"{row.principal} loses this at once, with tokens that were issued already too."],
        action=f"{held.members}/remove",
        hidden=hidden,
        button="Take it away",
        back=held.members,
        typed="",
    )


def lasting(text: str) -> timedelta | None:
    """How long it is until the end (UTC) of the day that *text* names; None for "". Raises `Invalid`."""
    if not text:
        return None
    try:
        end = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + _DAY
    except (ValueError, OverflowError):
        raise Invalid(f"Write a day as in {datetime.now(UTC) + 90 * _DAY:%Y-%m-%d}.") from None
    left = end - datetime.now(UTC)
    if left <= timedelta(0):
        raise Invalid("Choose today or a day to come; to end it at once, take it away.")
    return left


def _shown(row: GrantRow) -> str:
    """The last day on which the grant holds, as a form shows it."""
    return f"{row.expires_at - timedelta(seconds=1):%Y-%m-%d}" if row.expires_at is not None else ""


def _left(row: GrantRow) -> timedelta | None:
    if row.expires_at is None:
        return None
    left = row.expires_at - datetime.now(UTC)
    if left <= timedelta(0):
        raise Invalid("This grant has expired; choose until when it holds from now on.")
    return left


GROUP = Group(
    pages=(
        Page("/projects/{project}/members", index, add),
        Page("/projects/{project}/members/edit", edit, save),
        Page("/projects/{project}/members/remove", ask_remove, remove),
    ),
    tabs=(Tab("Members", "/members", Action.REVIEW),),
)
