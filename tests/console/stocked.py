"""A console whose projects hold something: content pushed into the desk's own engine."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from gateway.access.principals import Caller, Credential, CredentialKind, Principal
from gateway.oci.media import OCI_MANIFEST
from gateway.records import accounts
from gateway.records.schema import manifests, projects, repositories
from tests.administration.stocking import Stock
from tests.console.browsing import Desk
from tests.house import ORIGIN
from tests.records.rows import written


def stock_of(desk: Desk, name: str) -> Stock:
    """What *name*, who exists, pushes and pulls."""
    account = desk.house.database.read_now(lambda connection: accounts.get(connection, name))
    caller = Caller(Principal(account.kind, account.id, name), ORIGIN, Credential(CredentialKind.PASSWORD))
    return Stock(desk.house, desk.acts.engine, caller)


def team(desk: Desk) -> Stock:
    """Projects gallery of jane, with a reader, and attic of joe; what jane pushes."""
    for owner, project in (("jane", "gallery"), ("joe", "attic")):
        desk.user(owner)
        desk.project(project)
        desk.grant(owner, "owner", project)
    desk.user("reader")
    desk.grant("reader", "puller", "gallery")
    return stock_of(desk, "jane")


def copied(desk: Desk, project: str, names: Sequence[str]) -> None:
    """Repositories of *project* that hold a manifest each, put straight into the records."""

    def write(connection: Connection) -> None:
        number = connection.execute(select(projects.c.id).where(projects.c.name == project)).scalar_one()
        digest = "sha256:" + "b" * 64
        body = {"media_type": OCI_MANIFEST, "size_bytes": 10, "digest": digest}
        for name in names:
            made = insert(repositories).values(project_id=number, name=f"{project}/{name}", created_at=1)
            place = connection.execute(made.returning(repositories.c.id)).scalar_one()
            row = {**body, "repository_id": place, "pushed_at": 1, "pushed_by": "user:1"}
            connection.execute(insert(manifests).values(row))

    written(desk.house, write)
