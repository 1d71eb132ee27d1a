"""Signing keys: seen, rotated and revoked by administrators; private halves are never shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.access.secrets import Secrets
from gateway.audit.event import Event, Kind
from gateway.errors import Conflict, Denied, Unknown
from gateway.gate import Act
from gateway.records.keys import StoredKeys
from tests.administration.rooms import Rooms, rooms_of
from tests.house import GATEWAY, OPERATOR, House


@pytest.fixture
def rooms(house: House) -> Rooms:
    stored = StoredKeys(house.database, Secrets(b"s" * 32))
    first = Act(Event(Kind.KEY_ADD, GATEWAY), stored.add_first(datetime.now(UTC)))
    house.run(house.ledger.commit(first))
    return rooms_of(house, stored_keys=stored)


def states(rooms: Rooms) -> dict[str, str]:
    return {row.state: row.kid for row in rooms.run(rooms.acts.keys.list_keys(OPERATOR))}


def test_rotation_lets_the_next_key_sign_and_the_old_one_verify(rooms: Rooms) -> None:
    before = states(rooms)

    signing = rooms.run(rooms.acts.keys.rotate_key(OPERATOR))

    after = states(rooms)
    assert signing.kid == after["current"] == before["next"]
    assert after["previous"] == before["current"]
    assert after["next"] not in before.values()
    event = rooms.last("key.rotate")
    assert (event["before"], event["after"]["current"]) == (before, signing.kid)


def test_a_revoked_key_says_so_and_is_revoked_once(rooms: Rooms) -> None:
    kid = states(rooms)["current"]

    rooms.run(rooms.acts.keys.revoke_key(OPERATOR, kid))

    assert states(rooms)["revoked"] == kid
    assert states(rooms)["current"] != kid
    event = rooms.last("key.revoke")
    assert (event["outcome"], event["detail"], event["before"]["current"]) == ("allowed", {"kid": kid}, kid)
    with pytest.raises(Conflict):
        rooms.run(rooms.acts.keys.revoke_key(OPERATOR, kid))
    with pytest.raises(Unknown):
        rooms.run(rooms.acts.keys.revoke_key(OPERATOR, "none"))
    assert rooms.last("key.revoke")["detail"] == {"kid": "none"}


def test_who_is_no_administrator_does_nothing_with_keys(rooms: Rooms) -> None:
    auditor = rooms.user("auditor", auditor=True)
    before = states(rooms)

    for act in (
        rooms.acts.keys.list_keys(auditor),
        rooms.acts.keys.rotate_key(auditor),
        rooms.acts.keys.revoke_key(auditor, before["current"]),
    ):
        with pytest.raises(Denied):
            rooms.run(act)

    assert states(rooms) == before
    assert {record["outcome"] for record in rooms.house.records(principal="auditor")} == {"denied"}
