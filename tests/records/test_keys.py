"""Signing keys in the database: sealed, rotated, revoked, and seen by every process from the moment it is committed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select, update

from gateway.access.keys import ROTATION, KeyRing, KeyState, SigningKey, new_key
from gateway.access.principals import Principal, PrincipalKind
from gateway.access.scopes import Access
from gateway.access.secrets import Secrets
from gateway.access.tokens import Tokens
from gateway.audit.event import Event, Kind
from gateway.change import Change
from gateway.errors import Conflict, Invalid, Unauthorized, Unknown
from gateway.gate import Act
from gateway.records.keys import StoredKeys, check, keep_fingerprint
from gateway.records.schema import signing_keys
from tests.house import GATEWAY, House
from tests.records.rows import column, written

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECRETS = Secrets(b"s" * 32)
OTHERS = Secrets(b"t" * 32)
WRITER = Principal(PrincipalKind.USER, 7, "writer")


def commit(house: House, change: Change) -> SigningKey:
    notes = house.run(house.ledger.commit(Act(Event(Kind.KEY_ROTATE, GATEWAY), change)))
    key: SigningKey = notes.result
    return key


@pytest.fixture
def stored(house: House) -> StoredKeys:
    stored = StoredKeys(house.database, SECRETS)
    commit(house, stored.add_first(NOW))
    return stored


def states(stored: StoredKeys) -> list[str]:
    return sorted(key.state.value for key in stored.read())


def the(stored: StoredKeys, state: KeyState) -> SigningKey:
    return next(key for key in stored.read() if key.state is state)


def test_the_first_keys_are_made_once(house: House, stored: StoredKeys) -> None:
    first = the(stored, KeyState.CURRENT)

    assert commit(house, stored.add_first(NOW)).kid == first.kid
    assert states(stored) == ["current", "next"]


def test_what_is_stored_opens_in_another_process_and_under_no_other_secret(house: House, stored: StoredKeys) -> None:
    elsewhere = StoredKeys(house.database, Secrets(b"s" * 32))

    for mine, theirs in zip(stored.read(), elsewhere.read(), strict=True):
        assert mine.private is not None
        assert theirs.private is not None
        assert mine.private.private_numbers() == theirs.private.private_numbers()
        assert (mine.kid, mine.created_at) == (theirs.kid, NOW)
    with pytest.raises(Invalid):
        StoredKeys(house.database, OTHERS).read()


def test_no_private_half_lies_open_in_the_database(house: House, stored: StoredKeys) -> None:
    private = the(stored, KeyState.CURRENT).private
    assert private is not None
    number = private.private_numbers().private_value.to_bytes(32, "big")

    assert not any(number in bytes(sealed) for sealed in column(house, signing_keys.c.sealed))


def test_a_public_half_that_was_put_in_anothers_place_is_noticed(house: House, stored: StoredKeys) -> None:
    strange = new_key(KeyState.CURRENT, NOW).public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    written(house, lambda connection: connection.execute(update(signing_keys).values(public=strange.decode())))

    with pytest.raises(Invalid):
        stored.read()


def test_rotation_moves_every_key_on_and_drops_the_private_half_of_the_old(house: House, stored: StoredKeys) -> None:
    old, waiting = the(stored, KeyState.CURRENT), the(stored, KeyState.NEXT)
    later = NOW + timedelta(days=1)

    assert commit(house, stored.rotate(later)).kid == waiting.kid
    assert the(stored, KeyState.CURRENT).kid == waiting.kid
    previous = the(stored, KeyState.PREVIOUS)
    assert (previous.kid, previous.private) == (old.kid, None)
    assert previous.retires_at == later + timedelta(seconds=930)
    assert the(stored, KeyState.NEXT).kid not in {old.kid, waiting.kid}
    event = house.records(kind="key.rotate")[-1]
    assert event["before"] == {"current": old.kid, "next": waiting.kid}
    assert event["after"]["current"] == waiting.kid


def test_keys_long_retired_go_with_a_rotation(house: House, stored: StoredKeys) -> None:
    for day in range(1, 5):
        commit(house, stored.rotate(NOW + timedelta(days=day)))

    assert states(stored) == ["current", "next", "previous"]


def test_of_several_that_find_a_rotation_due_one_rotates(house: House, stored: StoredKeys) -> None:
    early = commit(house, stored.rotate(NOW + ROTATION - timedelta(seconds=1), if_due=True))
    changes = [stored.rotate(NOW + ROTATION, if_due=True) for _ in range(3)]
    rotated = [commit(house, change) for change in changes]

    assert early is None
    assert [key is not None for key in rotated] == [True, False, False]
    assert states(stored) == ["current", "next", "previous"]


@pytest.mark.parametrize("state", [KeyState.CURRENT, KeyState.NEXT])
def test_whichever_key_is_revoked_one_signs_and_one_waits(house: House, stored: StoredKeys, state: KeyState) -> None:
    revoked, waiting = the(stored, state), the(stored, KeyState.NEXT)

    commit(house, stored.revoke(revoked.kid, NOW))

    assert states(stored) == ["current", "next", "revoked"]
    assert the(stored, KeyState.REVOKED).kid == revoked.kid
    assert the(stored, KeyState.REVOKED).private is None
    if state is KeyState.CURRENT:
        assert the(stored, KeyState.CURRENT).kid == waiting.kid


def test_a_previous_key_is_revoked_and_nothing_else_moves(house: House, stored: StoredKeys) -> None:
    old = the(stored, KeyState.CURRENT)
    commit(house, stored.rotate(NOW))
    current, waiting = the(stored, KeyState.CURRENT).kid, the(stored, KeyState.NEXT).kid

    commit(house, stored.revoke(old.kid, NOW))

    assert the(stored, KeyState.REVOKED).kid == old.kid
    assert (the(stored, KeyState.CURRENT).kid, the(stored, KeyState.NEXT).kid) == (current, waiting)


def test_a_key_there_is_not_and_one_that_is_revoked_cannot_be_revoked(house: House, stored: StoredKeys) -> None:
    kid = the(stored, KeyState.CURRENT).kid
    commit(house, stored.revoke(kid, NOW))

    with pytest.raises(Unknown):
        commit(house, stored.revoke("unknown", NOW))
    with pytest.raises(Conflict):
        commit(house, stored.revoke(kid, NOW))
    assert states(stored) == ["current", "next", "revoked"]


def test_a_lost_next_key_does_not_stop_a_rotation(house: House, stored: StoredKeys) -> None:
    gone = signing_keys.delete().where(signing_keys.c.state == "next")
    written(house, lambda connection: connection.execute(gone))

    commit(house, stored.rotate(NOW))

    assert states(stored) == ["current", "next", "previous"]


def test_tokens_follow_the_keys_of_the_database_at_once(house: House, stored: StoredKeys) -> None:
    tokens = Tokens(KeyRing(stored, house.directory.version), "gateway", "registry", 300)
    elsewhere = Tokens(
        KeyRing(StoredKeys(house.database, SECRETS), house.directory.version), "gateway", "registry", 300
    )
    text = tokens.issue(WRITER, Access(), generation=1, projects={}, now=NOW).text
    assert elsewhere.verify(text, NOW).principal == WRITER

    commit(house, stored.rotate(NOW))
    fresh = elsewhere.issue(WRITER, Access(), generation=1, projects={}, now=NOW).text
    assert tokens.verify(text, NOW).principal == tokens.verify(fresh, NOW).principal == WRITER

    commit(house, stored.revoke(tokens.verify(text, NOW).kid, NOW))
    for verifier in (tokens, elsewhere):
        with pytest.raises(Unauthorized):
            verifier.verify(text, NOW)
        assert verifier.verify(fresh, NOW).principal == WRITER


def test_a_database_knows_the_secret_it_was_made_with(house: House) -> None:
    with pytest.raises(Invalid, match="gateway up"):
        house.database.read_now(lambda connection: check(connection, SECRETS))
    for _ in range(2):
        commit(house, keep_fingerprint(SECRETS))
    house.database.read_now(lambda connection: check(connection, SECRETS))

    with pytest.raises(Invalid, match="same backup"):
        house.database.read_now(lambda connection: check(connection, OTHERS))
    with pytest.raises(Invalid, match="same backup"):
        commit(house, keep_fingerprint(OTHERS))
    rows = house.database.read_now(lambda connection: connection.execute(select(signing_keys)).all())
    assert rows == []
