"""Personal tokens as acts: made by their user, seen by administrators, and none makes another."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from gateway.access.personal import Bound, parse_bound
from gateway.access.principals import Caller, Credential, CredentialKind
from gateway.access.secrets import PERSONAL_PREFIX, well_formed
from gateway.administration import NewSecret
from gateway.change import Notes
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.gate import Act
from gateway.records.schema import personal_tokens
from tests.administration.rooms import Rooms
from tests.house import OPERATOR
from tests.records.rows import column

PULL = ("pull",)


def issue(
    rooms: Rooms, caller: Caller, name: str = "laptop", *, days: int = 90, account: str | None = None
) -> NewSecret:
    return rooms.run(rooms.acts.personal_tokens.issue(caller, name, PULL, ["gallery"], days, account=account))


def with_token(caller: Caller, number: int, bound: Bound) -> Caller:
    """*caller*, as it would come with its token of that number."""
    credential = Credential(CredentialKind.PERSONAL_TOKEN, str(number))
    return replace(caller, credential=credential, bound=bound, personal_token=number)


def test_a_user_makes_a_token_that_is_shown_once_and_kept_as_a_hash(rooms: Rooms) -> None:
    made = issue(rooms, rooms.user("writer"))

    assert made.secret is not None
    assert made.expires is not None
    assert well_formed(made.secret, PERSONAL_PREFIX)
    assert abs(made.expires.timestamp() - time.time() - 90 * 86400) < 10
    assert made.secret not in repr(made)
    assert made.secret not in str(rooms.house.records())
    assert made.secret not in column(rooms.house, personal_tokens.c.hashed)


def test_making_one_records_what_it_may_be_used_for(rooms: Rooms) -> None:
    made = issue(rooms, rooms.user("writer"))

    event = rooms.last("personal_token.issue")
    assert (event["outcome"], event["principal"]) == ("allowed", "writer")
    assert event["after"] | {"expires_at": ""} == {
        "personal_token": made.number,
        "account": "writer",
        "name": "laptop",
        "actions": ["pull"],
        "projects": ["gallery"],
        "expires_at": "",
    }


def test_the_operator_makes_one_for_anybody_and_nobody_else_does(rooms: Rooms) -> None:
    root, _ = rooms.user("root", administrator=True), rooms.user("writer")

    issue(rooms, OPERATOR, account="writer")

    with pytest.raises(Denied, match="their own"):
        issue(rooms, root, "another", account="writer")
    with pytest.raises(Denied):
        issue(rooms, rooms.caller("writer"), account="root")
    with pytest.raises(Unknown):
        issue(rooms, OPERATOR, account="nobody")
    assert [row.account for row in rooms.run(rooms.acts.personal_tokens.list(OPERATOR))] == ["writer"]


def test_no_token_makes_tokens_whatever_it_bounds(rooms: Rooms) -> None:
    root = rooms.user("root", administrator=True)
    made = issue(rooms, root)
    everything = parse_bound(["pull", "push", "delete", "manage", "review"], None)

    with pytest.raises(Denied, match="makes no tokens"):
        issue(rooms, with_token(root, made.number, everything), "another")

    event = rooms.last("personal_token.issue")
    assert (event["outcome"], event["credential"]) == ("denied", "personal_token")


@pytest.mark.parametrize("act", ["leak", "reset", "disable", "add again"])
@pytest.mark.parametrize("kind", [CredentialKind.SESSION, CredentialKind.PASSWORD])
def test_a_token_that_is_being_made_while_its_user_is_revoked_is_not_made(
    rooms: Rooms, act: str, kind: CredentialKind
) -> None:
    acts = rooms.acts
    writer = replace(rooms.user("writer"), credential=Credential(kind, "1"))
    ledger = cast(Any, Before(rooms.house.ledger.commit, rooms, act))
    tokens = replace(acts.personal_tokens, gate=replace(rooms.house.gate, ledger=ledger))

    with pytest.raises((Denied, Unknown)):
        rooms.run(tokens.issue(writer, "laptop", PULL, None, 365))

    assert rooms.last("personal_token.issue")["outcome"] == "denied" or act == "add again"
    assert column(rooms.house, personal_tokens.c.id) == []


@dataclass(frozen=True, slots=True)
class Before:
    """A ledger that does something else before each act."""

    then: Callable[[Act], Awaitable[Notes]]
    rooms: Rooms
    act: str

    async def commit(self, act: Act) -> Notes:
        acts = self.rooms.acts
        if self.act == "leak":
            await acts.tracing.leak(OPERATOR, "writer", datetime.now(UTC) - timedelta(days=1))
        elif self.act == "reset":
            await acts.accounts.set_password(OPERATOR, "writer", "rescued horse battery")
        elif self.act == "disable":
            await acts.accounts.disable(OPERATOR, "writer")
        else:
            await acts.accounts.remove_user(OPERATOR, "writer")
            await acts.accounts.add_user(OPERATOR, "writer", password="rescued horse battery")
        return await self.then(act)


def test_a_name_is_used_once_and_again_after_its_token_was_revoked(rooms: Rooms) -> None:
    writer, reader = rooms.user("writer"), rooms.user("reader")
    made = issue(rooms, writer)
    issue(rooms, reader)

    with pytest.raises(Conflict, match="called laptop"):
        issue(rooms, writer)
    rooms.run(rooms.acts.personal_tokens.revoke(writer, made.number))
    assert issue(rooms, writer).number != made.number


def test_there_is_an_end_to_how_many_an_account_has(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.records.personal_tokens.MOST_TOKENS", 2)
    writer = rooms.user("writer")
    issue(rooms, writer, "one")
    issue(rooms, writer, "two")
    with pytest.raises(Conflict, match="2 live tokens"):
        issue(rooms, writer, "three")


def test_a_disabled_user_gets_none(rooms: Rooms) -> None:
    writer = rooms.user("writer")
    rooms.run(rooms.acts.accounts.disable(OPERATOR, "writer"))

    with pytest.raises(Denied):
        issue(rooms, writer)
    with pytest.raises(Denied):
        issue(rooms, OPERATOR, account="writer")
    assert column(rooms.house, personal_tokens.c.id) == []


def test_wrong_words_make_no_token(rooms: Rooms) -> None:
    writer = rooms.user("writer")
    for name, days in (("", 90), ("x" * 65, 90), ("laptop", 0), ("laptop", 366)):
        with pytest.raises(Invalid):
            issue(rooms, writer, name, days=days)
    assert column(rooms.house, personal_tokens.c.id) == []


def test_a_user_sees_its_own_and_an_administrator_everybodys(rooms: Rooms) -> None:
    writer, reader, root = rooms.user("writer"), rooms.user("reader"), rooms.user("root", administrator=True)
    issue(rooms, writer)
    issue(rooms, reader)

    [row] = rooms.run(rooms.acts.personal_tokens.list(writer))
    assert (row.account, row.name, row.used_at) == ("writer", "laptop", None)
    assert len(rooms.run(rooms.acts.personal_tokens.list(OPERATOR))) == 2
    assert [row.account for row in rooms.run(rooms.acts.personal_tokens.list(root, "reader"))] == ["reader"]
    with pytest.raises(Denied):
        rooms.run(rooms.acts.personal_tokens.list(writer, "reader"))


def test_a_token_of_somebody_else_is_neither_seen_nor_revoked(rooms: Rooms) -> None:
    writer, reader = rooms.user("writer"), rooms.user("reader")
    made = issue(rooms, reader)

    told = set()
    for number in (made.number, made.number + 1):
        with pytest.raises(Denied) as refusal:
            rooms.run(rooms.acts.personal_tokens.revoke(writer, number))
        told.add(refusal.value.message)
    assert len(told) == 1
    assert len(column(rooms.house, personal_tokens.c.id)) == 1
    rooms.run(rooms.acts.personal_tokens.revoke(OPERATOR, made.number))
    with pytest.raises(Unknown):
        rooms.run(rooms.acts.personal_tokens.revoke(OPERATOR, made.number))


def test_a_narrow_token_may_end_itself_and_look_after_nothing_else(rooms: Rooms) -> None:
    writer = rooms.user("writer")
    first, second = issue(rooms, writer, "one"), issue(rooms, writer, "two")
    narrow = with_token(writer, first.number, parse_bound(PULL, ["gallery"]))

    with pytest.raises(Denied, match="look after its account"):
        rooms.run(rooms.acts.personal_tokens.list(narrow))
    with pytest.raises(Denied, match="look after its account"):
        rooms.run(rooms.acts.personal_tokens.revoke(narrow, second.number))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.personal_tokens.revoke_all(narrow, "writer"))
    rooms.run(rooms.acts.personal_tokens.revoke(narrow, first.number))
    assert column(rooms.house, personal_tokens.c.id) == [second.number]


def test_all_are_revoked_at_once_and_counted(rooms: Rooms) -> None:
    writer = rooms.user("writer")
    issue(rooms, writer, "one")
    issue(rooms, writer, "two")
    assert rooms.run(rooms.acts.personal_tokens.revoke_all(OPERATOR, "writer")) == 2
    assert rooms.last("personal_token.revoke")["detail"] == {"account": "writer", "personal_tokens_revoked": 2}


def test_a_removed_user_leaves_none(rooms: Rooms) -> None:
    issue(rooms, rooms.user("writer"))
    rooms.run(rooms.acts.accounts.remove_user(OPERATOR, "writer"))
    assert column(rooms.house, personal_tokens.c.id) == []


def test_a_bounded_administrator_administers_within_the_bound_alone(rooms: Rooms) -> None:
    root = rooms.user("root", administrator=True)
    for name in ("gallery", "museum"):
        rooms.run(rooms.acts.projects.add_project(OPERATOR, name))
    made = issue(rooms, root)
    narrow = with_token(root, made.number, parse_bound(["manage"], ["gallery"]))

    rooms.run(rooms.acts.projects.set_project(narrow, "gallery", public=True))
    with pytest.raises(Denied, match="not among what this token may be used for"):
        rooms.run(rooms.acts.projects.set_project(narrow, "museum", public=True))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.accounts.add_user(narrow, "friend", administrator=True))
    assert [row.name for row in rooms.run(rooms.acts.projects.list_projects(narrow))] == ["gallery"]
    assert rooms.last("account.add")["reason"] == "insufficient_scope"


def test_an_act_that_is_under_way_is_refused_when_its_token_is_revoked(rooms: Rooms) -> None:
    root = rooms.user("root", administrator=True)
    made = issue(rooms, root)
    holder = with_token(root, made.number, parse_bound(["manage"], None))
    rooms.run(rooms.acts.accounts.add_user(holder, "friend"))
    rooms.run(rooms.acts.personal_tokens.revoke(root, made.number))

    with pytest.raises(Denied):
        rooms.run(rooms.acts.accounts.add_user(holder, "another"))
    assert rooms.last("account.add")["reason"] == "credential_revoked"
    with pytest.raises(Denied, match="revoked"):
        rooms.run(rooms.acts.projects.list_projects(holder))
