"""Grants: who holds which role where, in every project; for administrators and auditors to look through."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from gateway.access.names import parse_principal
from gateway.access.policy import Role
from gateway.administration import GrantRow
from gateway.console.frame import render
from gateway.console.leaves import leaf
from gateway.console.pages.members import named
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit
from gateway.oci.names import ProjectName

_ROLES: Final = (("", "any"), *((role.value, role.value) for role in Role))


async def index(visit: Visit) -> Response:
    """Every grant, expired ones too; a filter that cannot be is told beside its field, and excludes nothing."""
    form = visit.form
    account = form.parsed("account", parse_principal) if form.text("account") else None
    project = form.parsed("project", ProjectName.parse) if form.text("project") else None
    role = form.parsed("role", Role.parse) if form.text("role") else None
    grants = await visit.acts.grants.list_grants(visit.caller)
    found = [grant for grant in grants if _wanted(grant, account, project, role)]
    filters = {name: form.text(name) for name in ("account", "project", "role") if form.text(name)}
    status = 200 if form.sound else 422
    return await render(visit, "grants.html", status, leaf=leaf(found, named, form), roles=_ROLES, filters=filters)


def _wanted(grant: GrantRow, account: str | None, project: ProjectName | None, role: Role | None) -> bool:
    return (
        account in {None, grant.principal}
        and role in {None, grant.role}
        and (project is None or grant.reach.partition("/")[0] == project.name)
    )


GROUP = Group(pages=(Page("/grants", index),))
