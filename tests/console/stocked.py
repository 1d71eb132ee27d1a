"""A console whose projects hold something: content pushed into the desk's own engine."""

from __future__ import annotations

from gateway.access.principals import Caller, Credential, CredentialKind, Principal
from gateway.records import accounts
from tests.administration.stocking import Stock
from tests.console.browsing import Desk
from tests.house import ORIGIN


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
