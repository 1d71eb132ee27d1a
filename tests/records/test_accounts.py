"""Accounts, projects and grants as rows: true when committed, whoever else commits at the same time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.access.names import AccountName, RobotName
from gateway.access.policy import Reach, Role
from gateway.access.principals import Principal, PrincipalKind
from gateway.audit.event import Event, Kind
from gateway.change import Change
from gateway.errors import Conflict
from gateway.gate import Act
from gateway.oci.names import ProjectName
from gateway.records import accounts, grants, projects, robots, rules
from gateway.records.credentials import CredentialRecords
from gateway.records.directory import SqlDirectory
from gateway.records.schema import accounts as account_table
from tests.house import GATEWAY, House, opened
from tests.records.rows import an_offline_token, column

GALLERY = ProjectName("gallery")


def commit(house: House, *changes: Change) -> list[Any]:
    """All *changes* at once; what each found out, or its refusal."""

    async def all_at_once() -> list[Any]:
        acts = [Act(Event(Kind.ACCOUNT_SET, GATEWAY), change) for change in changes]
        return await asyncio.gather(*(house.ledger.commit(act) for act in acts), return_exceptions=True)

    return [getattr(found, "result", found) for found in house.run(all_at_once())]


def user(name: str, *, administrator: bool = False) -> Change:
    return accounts.add_user(AccountName(name), "hash", administrator=administrator, auditor=False, now=5)


def test_of_two_administrators_demoted_at_once_one_stays(house: House) -> None:
    commit(house, user("ann", administrator=True), user("ben", administrator=True))

    found = commit(
        house,
        accounts.set_roles("ann", administrator=False, auditor=None),
        accounts.set_enabled("ben", enabled=False),
    )

    assert [isinstance(result, Conflict) for result in found] == [False, True]
    left = house.database.read_now(accounts.every_account)
    assert [(account.name, account.administrator, account.enabled) for account in left] == [
        ("ann", False, True),
        ("ben", True, True),
    ]


def test_of_two_accounts_added_at_once_under_one_name_one_is(house: House) -> None:
    found = commit(house, user("ann"), user("ann", administrator=True))

    assert isinstance(found[1], Conflict)
    assert column(house, account_table.c.administrator) == [False]


def test_an_id_is_never_given_twice(house: House) -> None:
    seen = set()
    for _ in range(3):
        (account,) = commit(house, user("ann"))
        (project,) = commit(house, projects.add(GALLERY, public=False, now=5))
        seen |= {("account", account.id), ("project", project.id)}
        commit(house, accounts.remove("ann"), projects.remove(GALLERY, (), force=False))

    assert len(seen) == 6


@pytest.mark.parametrize(
    "change",
    [
        accounts.set_roles("ann", administrator=True, auditor=None),
        accounts.set_enabled("ann", enabled=False),
        accounts.set_secret(1, "other", now=6),
        accounts.remove("ann"),
        accounts.revoke_tokens("ann"),
        projects.set_project(GALLERY, projects.Wishes(public=True)),
        rules.set_freeze("a new disk", 5),
        projects.remove(GALLERY, (), force=True),
        grants.add("ann", Role.OWNER, Reach(GALLERY), expires_at=None, now=6),
        grants.remove("ann", Reach(GALLERY)),
        robots.add(RobotName(GALLERY, "ci"), "hash", Role.PUSHER, expires_at=9, now=6),
    ],
)
def test_every_change_of_policy_is_seen_by_every_process(database_url: str, tmp_path: Any, change: Change) -> None:
    with opened(database_url, tmp_path) as house, opened(database_url, tmp_path) as other:
        (account,) = commit(house, user("ann"))
        commit(house, projects.add(GALLERY, public=False, now=5))
        commit(house, grants.add("ann", Role.PULLER, Reach(GALLERY), expires_at=None, now=5))
        directory = SqlDirectory(other.database)
        principal = Principal(PrincipalKind.USER, account.id, "ann")
        other.run(directory.standing(principal))
        before = directory.version()

        found = commit(house, change)

        assert not any(isinstance(result, Exception) for result in found)
        assert directory.version() != before
        fresh = other.run(SqlDirectory(other.database).standing(principal))
        assert other.run(directory.standing(principal)) == fresh


def test_an_offline_token_moves_no_policy_and_is_known_to_every_process_that_is_asked_about_it(
    database_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(database_url, tmp_path) as house, opened(database_url, tmp_path) as other:
        (account,) = commit(house, user("ann"))
        principal = Principal(PrincipalKind.USER, account.id, "ann")
        reads: list[int] = []
        read = other.database.read

        async def counted(look: Any) -> Any:
            reads.append(1)
            return await read(look)

        def asked(number: int) -> tuple[bool, int]:
            """Whether the other process knows the token, and how often it looked."""
            reads.clear()
            standing = other.run(other.directory.standing(principal, offline_token=number))
            assert standing is not None
            return number in standing.offline_tokens, len(reads)

        monkeypatch.setattr(type(other.database), "read", lambda _, look: counted(look))
        assert asked(0) == (False, 1)
        version = other.directory.version()
        numbers = [made(house, account.id, f"{count}" * 64) for count in range(2)]

        assert other.directory.version() == version
        assert [asked(number) for number in (*numbers, *numbers)] == [(True, 1), (True, 0), (True, 0), (True, 0)]
        assert [asked(numbers[1] + 1) for _ in range(3)] == [(False, 1), (False, 0), (False, 0)]
        assert asked(0) == (False, 0)
        commit(house, accounts.revoke_token(numbers[0]))
        assert [asked(number) for number in (*numbers, *numbers)] == [(False, 1), (True, 0), (False, 0), (True, 0)]


def made(house: House, account: int, hashed: str) -> int:
    records, now = CredentialRecords(house.database), datetime(2026, 5, 1, tzinfo=UTC)
    change = records.add_offline_token(account, hashed, "registry", "docker", "192.0.2.7", now, generation=0)
    (number,) = commit(house, change)
    return int(number)


def test_a_new_secret_moves_the_generation_and_the_time(house: House) -> None:
    (account,) = commit(house, user("ann"))
    an_offline_token(house, account.id)

    (changed,) = commit(house, accounts.set_secret(account.id, "other", now=6))

    assert column(house, account_table.c.secret) == ["other"]
    assert column(house, account_table.c.generation) == [1]
    assert (changed.created_at.timestamp(), changed.changed_at.timestamp()) == (5, 6)
    assert house.database.read_now(lambda connection: accounts.offline_token_count(connection, account.id)) == 0


def test_names_are_listed_bytewise_with_a_robots_project(house: House) -> None:
    commit(house, user("b_b"), user("b-b"), user("bb"), projects.add(GALLERY, public=False, now=5))
    commit(house, robots.add(RobotName(GALLERY, "ci"), "hash", Role.PUSHER, expires_at=9, now=6))

    listed = house.database.read_now(accounts.every_account)

    assert [(account.name, account.project) for account in listed] == [
        ("b-b", ""),
        ("b_b", ""),
        ("bb", ""),
        ("gallery+ci", "gallery"),
    ]


def test_owners_are_named_as_long_as_they_are_there(house: House) -> None:
    (ann,) = commit(house, user("ann"))

    def named(*owners: str) -> dict[str, str]:
        return house.database.read_now(lambda connection: accounts.account_names(connection, owners))

    assert named(f"user:{ann.id}", "user:99", "operator:0", "") == {f"user:{ann.id}": "ann"}
    assert named(f"robot:{ann.id}") == {f"user:{ann.id}": "ann"}
