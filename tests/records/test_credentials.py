"""Credentials in the database: secrets as committed, counters shared and pruned, offline tokens that end in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from gateway.access.credentials import Believed, Credentials, Disbelieved
from gateway.access.directory import Attempts, StoredAccount
from gateway.access.passwords import HashingPool, hash_password
from gateway.access.principals import Principal, PrincipalKind
from gateway.access.secrets import Secrets, keyed_hash, new_robot_secret
from gateway.access.throttle import user_keys
from gateway.audit.event import Event, Kind
from gateway.change import Change
from gateway.errors import Unauthorized
from gateway.gate import Act
from gateway.records import credentials as module
from gateway.records.credentials import CredentialRecords
from gateway.records.schema import accounts, attempts, offline_tokens
from tests.house import GATEWAY, ORIGIN, House, opened
from tests.records.rows import column, written

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECRETS = Secrets(b"s" * 32)
KEYS = ("pair:a:192.0.2.7", "address:192.0.2.7", "account:a")


def an_account(house: House, name: str = "writer", *, kind: str = "user", secret: str = "hash", **facts: object) -> int:
    row: dict[str, object] = {
        "kind": kind,
        "name": name,
        "secret": secret,
        "enabled": True,
        "administrator": False,
        "auditor": False,
        "generation": 3,
        "created_at": 1,
        "changed_at": 1,
    }

    def write(connection: Connection) -> int:
        made = connection.execute(insert(accounts).values(row | facts).returning(accounts.c.id))
        return int(made.scalar_one())

    return int(written(house, write))


def commit(house: House, change: Change) -> object:
    return house.run(house.ledger.commit(Act(Event(Kind.SIGN_IN, GATEWAY), change))).result


def seen(house: House, *keys: str) -> list[Attempts | None]:
    return list(house.run(CredentialRecords(house.database).attempts(keys)))


def test_an_account_is_found_by_its_whole_name_with_its_secret(house: House) -> None:
    user = an_account(house)
    robot = an_account(house, "gallery+ci", kind="robot", secret="00" * 32, expires_at=int(NOW.timestamp()))
    records = CredentialRecords(house.database)

    assert house.run(records.account("writer")) == StoredAccount(
        Principal(PrincipalKind.USER, user, "writer"), "hash", True, 3
    )
    assert house.run(records.account("gallery+ci")) == StoredAccount(
        Principal(PrincipalKind.ROBOT, robot, "gallery+ci"), "00" * 32, True, 3, NOW
    )
    for name in ("Writer", "write", "writer ", "%", "w_iter", ""):
        assert house.run(records.account(name)) is None


def test_failures_are_counted_under_every_key_until_they_are_cleared(house: House) -> None:
    records = CredentialRecords(house.database)
    assert seen(house, *KEYS) == [None, None, None]

    for number in range(3):
        commit(house, records.count_failure(KEYS, NOW + timedelta(seconds=number)))
    assert seen(house, *KEYS) == [Attempts(3, NOW, NOW + timedelta(seconds=2))] * 3
    assert seen(house, KEYS[2], "account:b") == [Attempts(3, NOW, NOW + timedelta(seconds=2)), None]

    commit(house, records.clear(KEYS[:1]))
    assert [found is None for found in seen(house, *KEYS)] == [True, False, False]


def test_a_window_that_is_over_begins_again(house: House) -> None:
    records = CredentialRecords(house.database)
    commit(house, records.count_failure(KEYS, NOW))
    later = NOW + timedelta(minutes=15)
    commit(house, records.count_failure(KEYS, later))

    assert seen(house, *KEYS) == [Attempts(2, NOW, later), Attempts(1, later, later), Attempts(2, NOW, later)]


def test_counters_are_shared_with_other_processes_and_survive_them(database_url: str, tmp_path: Path) -> None:
    with opened(database_url, tmp_path) as first:
        commit(first, CredentialRecords(first.database).count_failure(KEYS, NOW))
        with opened(database_url, tmp_path) as second:
            assert seen(second, KEYS[0]) == [Attempts(1, NOW, NOW)]
    with opened(database_url, tmp_path) as third:
        assert seen(third, KEYS[0]) == [Attempts(1, NOW, NOW)]


def test_counters_that_say_nothing_any_more_go_a_few_at_a_time(house: House) -> None:
    records = CredentialRecords(house.database)
    for number in range(50):
        commit(house, records.count_failure([f"pair:{number}"], NOW))
    commit(house, records.count_failure(["pair:recent"], NOW + timedelta(hours=23)))
    assert len(column(house, attempts.c.key)) == 51

    commit(house, records.count_failure(["pair:new"], NOW + timedelta(hours=25)))
    assert len(column(house, attempts.c.key)) == 32
    for _ in range(2):
        commit(house, records.count_failure(["pair:new"], NOW + timedelta(hours=25)))
    assert sorted(column(house, attempts.c.key)) == ["pair:new", "pair:recent"]


def test_suppressed_sign_ins_are_counted_in_the_event_and_the_counter(house: House) -> None:
    records = CredentialRecords(house.database)
    commit(house, records.count_failure(KEYS, NOW))
    commit(house, records.suppress(KEYS[0], 89, NOW))
    commit(house, records.suppress(KEYS[0], 1, NOW))
    commit(house, records.suppress("pair:unknown", 1, NOW))

    found = seen(house, KEYS[0])[0]
    assert found is not None
    assert found.suppressed == 90
    assert [record["detail"] for record in house.records(kind="account.sign_in") if "detail" in record] == [
        {"suppressed": 89},
        {"suppressed": 1},
        {"suppressed": 1},
    ]


def test_a_hash_is_renewed_for_the_same_password_alone_and_ends_nothing(house: House) -> None:
    account, records = an_account(house, secret="old"), CredentialRecords(house.database)
    other = an_account(house, "reader", secret="old")
    policy = house.directory.version()

    commit(house, records.renew_secret(account, "old", "new"))
    commit(house, records.renew_secret(account, "old", "late"))
    commit(house, records.renew_secret(other + 1, "old", "nobody's"))

    found = {row.name: (row.secret, row.generation) for row in house.database.read_now(every_secret)}
    assert found == {"writer": ("new", 3), "reader": ("old", 3)}
    assert house.directory.version() == policy


def every_secret(connection: Connection) -> Sequence[Any]:
    return connection.execute(select(accounts.c.name, accounts.c.secret, accounts.c.generation)).all()


def keep_token(house: House, account: int, hashed: str, *, generation: int = 3, seconds: int = 0) -> object:
    records, now = CredentialRecords(house.database), NOW + timedelta(seconds=seconds)
    change = records.add_offline_token(account, hashed, "registry", "docker", "192.0.2.7", now, generation=generation)
    return commit(house, change)


def test_an_offline_token_is_found_by_its_hash_until_it_is_revoked(house: House) -> None:
    account, records = an_account(house), CredentialRecords(house.database)
    number = keep_token(house, account, "ab" * 32)

    found = house.run(records.offline_token("ab" * 32))
    assert found is not None
    assert (found.id, found.service, found.account.principal.id) == (number, "registry", account)
    assert house.run(records.offline_token("ac" * 32)) is None

    commit(house, records.touch_offline_token(found.id, NOW))
    assert column(house, offline_tokens.c.used_at) == [int(NOW.timestamp())]
    written(house, lambda connection: connection.execute(offline_tokens.delete()))
    with pytest.raises(Unauthorized):
        commit(house, records.touch_offline_token(found.id, NOW))


@pytest.mark.parametrize("changed", [{"generation": 4}, {"enabled": False}])
def test_no_token_outlives_the_sign_in_it_was_got_with(house: House, changed: dict[str, object]) -> None:
    account = an_account(house)
    written(house, lambda connection: connection.execute(update(accounts).values(changed)))

    with pytest.raises(Unauthorized):
        keep_token(house, account, "ab" * 32)
    with pytest.raises(Unauthorized):
        keep_token(house, account + 1, "ab" * 32)
    assert column(house, offline_tokens.c.id) == []


def test_an_account_has_room_for_so_many_tokens_and_the_unused_go_first(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_ACCOUNT", 3)
    account, other = an_account(house), an_account(house, "reader")
    keep_token(house, other, "ff" * 32)
    first = keep_token(house, account, "00" * 32)
    for number in (1, 2):
        keep_token(house, account, f"{number:02d}" * 32, seconds=number)
    assert isinstance(first, int)
    commit(house, CredentialRecords(house.database).touch_offline_token(first, NOW + timedelta(seconds=10)))

    keep_token(house, account, "03" * 32, seconds=20)

    kept = {hashed[:2] for hashed in column(house, offline_tokens.c.hashed)}
    assert kept == {"ff", "00", "02", "03"}
    made = [record["detail"] for record in house.records(kind="account.sign_in") if "detail" in record]
    assert made[-1] == {"offline_token": first + 3, "client": "docker", "offline_tokens_ended": [first + 1]}
    assert [told.get("offline_tokens_ended") for told in made[:-1]] == [None] * 4


def test_the_whole_of_a_sign_in_works_on_the_database(house: House) -> None:
    secret = new_robot_secret()
    an_account(house, secret=hash_password("correct horse", 4))
    an_account(house, "gallery+ci", kind="robot", secret=keyed_hash(SECRETS.robots, secret))
    records, pool = CredentialRecords(house.database), HashingPool(4)
    credentials = Credentials(records, records, SECRETS, pool, records, clock=lambda: NOW, floor_seconds=0)

    async def believe(name: str, password: str) -> Believed | Disbelieved:
        belief = await credentials.believe(name, password, ORIGIN)
        if belief.change is not None:
            await house.ledger.commit(Act(Event(Kind.SIGN_IN, GATEWAY), belief.change))
        return belief

    async def story() -> None:
        for number in range(4):
            assert isinstance(await believe("writer", f"guess {number}"), Disbelieved)
        assert isinstance(await believe("writer", "correct horse"), Believed)
        assert isinstance(await believe("gallery/ci", secret), Believed)
        for number in range(5):
            belief = await believe("writer", f"guess again {number}")
            assert isinstance(belief, Disbelieved)
            assert belief.reason == "wrong_secret"
        throttled = await believe("writer", "correct horse")
        assert isinstance(throttled, Disbelieved)
        assert throttled.reason == "throttled"

    asyncio.run(story())
    pool.close()
    keys = user_keys(SECRETS.throttle, "writer", ORIGIN.address)
    assert [found.failures if found else 0 for found in seen(house, *keys.all())] == [5, 9, 9]
    names = house.database.read_now(lambda connection: connection.execute(select(attempts.c.key)).scalars().all())
    assert not any("writer" in name for name in names)
