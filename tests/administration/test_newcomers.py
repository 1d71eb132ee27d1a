from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.access import passwords
from gateway.administration import Arrival, planned_users
from gateway.errors import Invalid
from gateway.records.schema import accounts
from tests.administration.rooms import Rooms
from tests.house import OPERATOR

PASSWORD = "correct horse"
KEPT = passwords.hash_password(PASSWORD, 4)


def test_users_keep_the_passwords_that_can_be_kept(rooms: Rooms) -> None:
    rooms.user("writer")
    lines = ["# comment", "", f"alice:{KEPT.replace('$2b$', '$2y$')}", "old:$apr1$salt$hash", "Bob:" + KEPT]
    content = "\n".join((*lines, f"writer:{KEPT}", f"slow:$2y$31${'a' * 53}")).encode()
    before = rooms.house.database.read_now(lambda connection: _secret(connection, "writer"))

    plan = rooms.run(rooms.acts.newcomers.plan(content))
    found = rooms.run(rooms.acts.newcomers.import_users(OPERATOR, content))

    assert {each.name: each.arrival for each in found} == {
        "alice": Arrival.ADDED,
        "old": Arrival.NEEDS_PASSWORD,
        "Bob": Arrival.ILLEGAL,
        "writer": Arrival.EXISTS,
        "slow": Arrival.NEEDS_PASSWORD,
    }
    assert plan == found
    read = rooms.house.database.read_now
    assert passwords.verify(PASSWORD, read(lambda connection: _secret(connection, "alice")))
    assert not passwords.verify("", read(lambda connection: _secret(connection, "old")))
    assert read(lambda connection: _secret(connection, "writer")) == before
    events = rooms.house.records(kind="account.import")
    assert [event["detail"]["account"] for event in events] == ["alice", "old", "slow"]
    assert KEPT[7:] not in json.dumps(events)
    assert not rooms.may("alice", "pull", "gallery/ui")


def test_users_are_imported_once(rooms: Rooms) -> None:
    content = f"alice:{KEPT}\n".encode()
    rooms.run(rooms.acts.newcomers.import_users(OPERATOR, content))
    (again,) = rooms.run(rooms.acts.newcomers.import_users(OPERATOR, content))
    assert again.arrival is Arrival.EXISTS
    assert len(rooms.house.records(kind="account.import")) == 1


def test_of_a_user_that_occurs_twice_the_last_counts(rooms: Rooms) -> None:
    other = passwords.hash_password("another one", 4)
    rooms.run(rooms.acts.newcomers.import_users(OPERATOR, f"alice:{other}\nalice:{KEPT}\n".encode()))
    secret = rooms.house.database.read_now(lambda connection: _secret(connection, "alice"))
    assert passwords.verify(PASSWORD, secret)


def test_what_is_no_htpasswd_file_is_refused_with_its_line(rooms: Rooms) -> None:
    for content in (b"alice:x\nnonsense\n", b"a:b\n:hash\n", b"a:b\nname:\n"):
        with pytest.raises(Invalid, match="Line 2"):
            rooms.run(planned_users(content))


def _secret(connection: Any, name: str) -> str:
    return str(connection.execute(accounts.select().where(accounts.c.name == name)).one().secret)
