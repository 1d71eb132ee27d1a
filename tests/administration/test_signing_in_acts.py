"""Signing in: by token, by password, with a second factor; every failure recorded, counted, and told alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from gateway.access.passwords import HashingPool
from gateway.access.principals import Caller, CredentialKind, Origin
from gateway.access.secrets import new_personal_token
from gateway.administration import SecondFactorNeeded
from gateway.errors import Conflict, Denied, Invalid, TooManyRequests
from gateway.records.schema import attempts, personal_tokens
from tests.administration.entrance import PASSWORD, Entrance, in_session
from tests.administration.rooms import Rooms
from tests.house import OPERATOR, ORIGIN
from tests.records.rows import column


@pytest.fixture
def entrance(rooms: Rooms) -> Entrance:
    return Entrance(rooms)


def a_token(entrance: Entrance, name: str = "writer") -> tuple[str, int]:
    acts = entrance.rooms.acts
    made = entrance.rooms.run(acts.personal_tokens.issue(OPERATOR, "laptop", ["pull"], ["gallery"], 90, account=name))
    assert made.secret is not None
    return made.secret, made.number


def by_token(entrance: Entrance, text: str) -> Caller:
    return entrance.rooms.run(entrance.sign_in.by_token(text, ORIGIN))


def test_a_token_says_who_calls_and_for_what(entrance: Entrance) -> None:
    entrance.rooms.user("writer")
    text, number = a_token(entrance)

    caller = by_token(entrance, text)

    assert (caller.principal.name, caller.credential.kind) == ("writer", CredentialKind.PERSONAL_TOKEN)
    assert (caller.credential.id, caller.personal_token) == (str(number), number)
    assert caller.bound is not None
    assert caller.bound.told() == {"actions": ["pull"], "projects": ["gallery"]}


def test_the_use_of_a_token_is_noted_once_a_minute_and_is_no_event(entrance: Entrance) -> None:
    entrance.rooms.user("writer")
    text, _ = a_token(entrance)
    before, used = len(entrance.rooms.house.records()), []
    for _ in range(4):
        by_token(entrance, text)
        used += column(entrance.rooms.house, personal_tokens.c.used_at)
        entrance.move(seconds=25)
    assert len(set(used)) == 2
    assert used[0] is not None
    assert len(entrance.rooms.house.records()) == before


def test_what_is_no_token_is_denied_recorded_and_never_kept(entrance: Entrance) -> None:
    entrance.rooms.user("writer")
    text, number = a_token(entrance)
    entrance.rooms.run(entrance.rooms.acts.personal_tokens.revoke(OPERATOR, number))
    told = set()
    for wrong in (text, new_personal_token(), "", "gwp_", PASSWORD, "x" * 5000, "\0"):
        with pytest.raises(Denied) as refusal:
            by_token(entrance, wrong)
        told.add(refusal.value.message)
    assert len(told) == 1
    event = entrance.rooms.last("account.sign_in")
    assert (event["outcome"], event["reason"], event["principal_kind"]) == ("denied", "unknown_token", "anonymous")
    assert text not in str(entrance.rooms.house.records())


def test_an_address_that_guesses_tokens_has_to_wait(entrance: Entrance) -> None:
    for _ in range(50):
        with pytest.raises(Denied):
            by_token(entrance, new_personal_token())
    with pytest.raises(TooManyRequests):
        by_token(entrance, new_personal_token())


def test_a_right_password_signs_in_and_is_recorded(entrance: Entrance) -> None:
    entrance.rooms.user("writer")
    caller = entrance.password("writer")
    assert isinstance(caller, Caller)
    assert (caller.principal.name, caller.bound) == ("writer", None)
    event = entrance.rooms.last("account.sign_in")
    assert (event["outcome"], event["principal"], event["credential"]) == ("allowed", "writer", "password")


def test_wrong_passwords_are_denied_alike_and_counted(entrance: Entrance) -> None:
    entrance.rooms.user("writer")
    told = set()
    for name in ("writer", "nobody", "gallery+ci", "", "W R I T E R"):
        with pytest.raises(Denied) as refusal:
            entrance.password(name, "not the password")
        told.add(refusal.value.message)
    assert len(told) == 1
    assert entrance.rooms.last("account.sign_in")["outcome"] == "denied"
    for guess in range(4):
        with pytest.raises(Denied):
            entrance.password("writer", f"guess {guess}")
    with pytest.raises(TooManyRequests):
        entrance.password("writer")


def test_where_there_is_a_second_factor_a_password_signs_nobody_in(entrance: Entrance) -> None:
    entrance.enrolled()
    before = len(entrance.rooms.house.records(kind="account.sign_in"))
    needed = entrance.password("writer")
    assert isinstance(needed, SecondFactorNeeded)
    assert needed.name == "writer"
    assert needed.ticket not in repr(needed)
    assert len(entrance.rooms.house.records(kind="account.sign_in")) == before


def test_a_code_signs_in_once(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    code, ticket = entrance.shown(writer), entrance.ticket("writer")

    caller = entrance.code(ticket, code)

    assert caller.principal.name == "writer"
    event = entrance.rooms.last("account.sign_in")
    assert (event["outcome"], event["detail"]) == ("allowed", {"second_factor": "code"})
    with pytest.raises(Denied):
        entrance.code(entrance.ticket("writer"), code)
    assert entrance.rooms.last("account.sign_in")["reason"] == "code_replayed"
    with pytest.raises(Denied):
        entrance.code(ticket, entrance.shown(writer, -1))
    entrance.move(seconds=30)
    assert entrance.code(ticket, entrance.shown(writer)).principal == writer.principal


def test_of_codes_sent_at_once_one_is_taken(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    code, ticket = entrance.shown(writer), entrance.ticket("writer")
    # Another process has no share in this one's turns: the records decide between them.
    doors = [entrance.sign_in, Entrance(entrance.rooms, entrance.now).sign_in] * 3

    async def all_at_once() -> list[object]:
        tries = (door.second_factor(ticket, code, ORIGIN) for door in doors)
        return await asyncio.gather(*tries, return_exceptions=True)

    outcomes = entrance.rooms.run(all_at_once())
    assert sum(isinstance(outcome, Caller) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Denied) for outcome in outcomes) == 5


def test_a_recovery_code_signs_in_once(entrance: Entrance) -> None:
    _, codes = entrance.enrolled()
    entrance.code(entrance.ticket("writer"), codes[3].upper())
    detail = entrance.rooms.last("account.sign_in")["detail"]
    assert detail == {"second_factor": "recovery_code", "recovery_codes_left": 9}
    with pytest.raises(Denied):
        entrance.code(entrance.ticket("writer"), codes[3])


def guessed(entrance: Entrance, addresses: Iterable[str]) -> list[type]:
    """How wrong codes of the writer are answered that are sent at once, one from each of *addresses*."""
    writer = entrance.rooms.caller("writer")
    ticket, wrong = entrance.ticket("writer"), entrance.wrong(writer)

    async def all_at_once() -> list[object]:
        tries = (entrance.sign_in.second_factor(ticket, wrong, at(address)) for address in addresses)
        return await asyncio.gather(*tries, return_exceptions=True)

    return [type(outcome) for outcome in entrance.rooms.run(all_at_once())]


def at(address: str) -> Origin:
    return replace(ORIGIN, address=address)


def elsewhere(count: int) -> list[str]:
    return [f"198.51.100.{number}" for number in range(count)]


def test_guesses_sent_at_once_are_counted_and_then_made_to_wait(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()

    outcomes = guessed(entrance, [ORIGIN.address] * 20)

    assert (outcomes.count(Denied), outcomes.count(TooManyRequests)) == (5, 15)
    with pytest.raises(TooManyRequests):
        entrance.code(entrance.ticket("writer"), entrance.shown(writer))
    entrance.move(seconds=15)
    entrance.code(entrance.ticket("writer"), entrance.shown(writer))
    assert [key for key in column(entrance.rooms.house, attempts.c.key) if key.startswith("pair")] == []


def test_who_guesses_codes_elsewhere_refuses_the_owner_none_of_hers(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    for _ in range(15):
        guessed(entrance, elsewhere(1) * 5)
        entrance.move(seconds=901)
    guessed(entrance, elsewhere(1))
    assert entrance.code(entrance.ticket("writer"), entrance.shown(writer)).principal == writer.principal


def test_a_recovery_code_is_taken_while_the_codes_of_the_phone_have_to_wait(entrance: Entrance) -> None:
    writer, codes = entrance.enrolled()
    guessed(entrance, [ORIGIN.address] * 10)
    guessed(entrance, elsewhere(60))
    with pytest.raises(TooManyRequests, match="A recovery code is taken at once"):
        entrance.code(entrance.ticket("writer"), entrance.shown(writer))
    assert entrance.code(entrance.ticket("writer"), codes[0]).principal == writer.principal


def test_guesses_of_recovery_codes_count_against_their_address_alone(entrance: Entrance) -> None:
    writer, codes = entrance.enrolled()
    near, far = at("198.51.100.1"), at("198.51.100.2")
    for _ in range(50):
        with pytest.raises(Denied):
            entrance.code(entrance.ticket("writer"), "aaaa-aaaa-aaaa-aaaa", near)
    with pytest.raises(TooManyRequests):
        entrance.code(entrance.ticket("writer"), codes[0], near)
    assert entrance.code(entrance.ticket("writer"), codes[0], far).principal == writer.principal
    assert entrance.code(entrance.ticket("writer"), entrance.shown(writer)).principal == writer.principal


def test_guesses_from_many_addresses_are_few_an_hour_all_together(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    rooms = entrance.rooms
    opened = replace(rooms.acts.sessions, clock=entrance.now.timestamp)
    rooms.run(opened.open(replace(writer, origin=at("192.0.2.200"))))

    outcomes = guessed(entrance, elsewhere(200))

    assert outcomes.count(Denied) == 30
    with pytest.raises(TooManyRequests):
        entrance.code(entrance.ticket("writer"), entrance.shown(writer), at("203.0.113.9"))
    known = entrance.code(entrance.ticket("writer"), entrance.shown(writer), at("192.0.2.200"))
    assert known.principal == writer.principal
    entrance.move(hours=1)
    assert entrance.code(entrance.ticket("writer"), entrance.shown(writer), at("203.0.113.9")) is not None


def test_after_some_guesses_elsewhere_each_address_has_one(entrance: Entrance) -> None:
    entrance.enrolled()
    assert guessed(entrance, elsewhere(10)) == [Denied] * 10
    assert Counter(guessed(entrance, ["203.0.113.9"] * 3)) == {Denied: 1, TooManyRequests: 2}


def test_nobody_who_lacks_the_password_makes_codes_wait(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    for ticket in ("", "1.0.9999999999." + "0" * 64, "x" * 500):
        for _ in range(6):
            with pytest.raises(Denied) as refusal:
                entrance.code(ticket, "000000")
            assert refusal.value.detail["begin_again"]
    assert entrance.code(entrance.ticket("writer"), entrance.shown(writer)).principal == writer.principal


def test_a_ticket_ends_after_five_minutes_and_with_a_change_of_the_account(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    ticket = entrance.ticket("writer")
    entrance.move(minutes=5)
    with pytest.raises(Denied) as refusal:
        entrance.code(ticket, entrance.shown(writer))
    assert refusal.value.detail["begin_again"]
    assert entrance.rooms.last("account.sign_in")["reason"] == "ticket_expired"

    ticket = entrance.ticket("writer")
    entrance.rooms.run(entrance.rooms.acts.accounts.set_password(OPERATOR, "writer", "another horse battery"))
    with pytest.raises(Denied):
        entrance.code(ticket, entrance.shown(writer))
    assert entrance.rooms.last("account.sign_in")["reason"] == "credential_changed"


def test_a_disabled_account_signs_in_by_no_way(entrance: Entrance) -> None:
    writer, codes = entrance.enrolled()
    text, _ = a_token(entrance)
    ticket = entrance.ticket("writer")
    entrance.rooms.run(entrance.rooms.acts.accounts.disable(OPERATOR, "writer"))
    with pytest.raises(Denied):
        by_token(entrance, text)
    with pytest.raises(Denied):
        entrance.password("writer")
    for code in (entrance.shown(writer), codes[0]):
        with pytest.raises(Denied):
            entrance.code(ticket, code)
    assert entrance.rooms.last("account.sign_in")["reason"] == "account_disabled"


def test_a_removed_account_signs_in_by_no_way(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    ticket, code = entrance.ticket("writer"), entrance.shown(writer)
    entrance.rooms.run(entrance.rooms.acts.accounts.remove_user(OPERATOR, "writer"))
    with pytest.raises(Denied):
        entrance.code(ticket, code)
    assert entrance.rooms.last("account.sign_in")["reason"] == "account_removed"


def test_people_change_their_own_password_knowing_it(entrance: Entrance) -> None:
    rooms = entrance.rooms
    writer = rooms.user("writer")
    text, _ = a_token(entrance)
    opened = rooms.run(rooms.acts.sessions.open(writer))
    session = in_session(writer, opened.number)
    with pytest.raises(Denied):
        rooms.run(entrance.sign_in.change_password(session, "not the password", "another horse battery"))
    with pytest.raises(Invalid):
        rooms.run(entrance.sign_in.change_password(session, PASSWORD, "short"))

    anew = rooms.run(entrance.sign_in.change_password(session, PASSWORD, "another horse battery"))

    assert rooms.run(rooms.acts.sessions.find(opened.cookie, ORIGIN)) is None
    again = rooms.run(rooms.acts.sessions.open(anew, replacing=opened.cookie))
    assert rooms.run(rooms.acts.sessions.find(again.cookie, ORIGIN)) is not None
    with pytest.raises(Denied):
        entrance.password("writer")
    assert isinstance(entrance.password("writer", "another horse battery"), Caller)
    assert by_token(entrance, text).principal == writer.principal


def test_where_there_is_a_second_factor_the_password_is_changed_with_a_code_alone(entrance: Entrance) -> None:
    rooms = entrance.rooms
    writer, codes = entrance.enrolled()
    new = "another horse battery"
    change = entrance.sign_in.change_password
    for code, reason in (("", "no_code"), (entrance.wrong(writer), "wrong_code")):
        with pytest.raises(Denied) as refusal:
            rooms.run(change(writer, PASSWORD, new, code))
        assert refusal.value.detail["field"] == "code"
        event = rooms.last("account.password")
        assert (event["outcome"], event["detail"]["code"]) == ("denied", reason)
    with pytest.raises(Denied):
        rooms.run(change(writer, "not the password", new, entrance.shown(writer)))
    with pytest.raises(Invalid):
        rooms.run(change(writer, PASSWORD, "short", entrance.shown(writer)))

    code = entrance.shown(writer)
    rooms.run(change(writer, PASSWORD, new, code))

    assert isinstance(entrance.password("writer", new), SecondFactorNeeded)
    with pytest.raises(Denied):
        rooms.run(change(writer, new, PASSWORD, code))
    rooms.run(change(writer, new, PASSWORD, codes[0]))
    with pytest.raises(Denied):
        rooms.run(change(writer, PASSWORD, new, codes[0]))


def test_guesses_of_a_code_are_counted_where_a_password_is_changed(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    for _ in range(5):
        with pytest.raises(Denied):
            entrance.rooms.run(entrance.sign_in.change_password(writer, PASSWORD, "x" * 20, entrance.wrong(writer)))
    with pytest.raises(TooManyRequests):
        entrance.rooms.run(entrance.sign_in.change_password(writer, PASSWORD, "x" * 20, entrance.shown(writer)))


def test_a_second_factor_confirmed_meanwhile_is_not_passed_by(entrance: Entrance) -> None:
    writer = entrance.rooms.user("writer")
    entrance.begin(writer)

    async def confirmed() -> None:
        await entrance.second_factor.confirm(writer, entrance.shown(writer))

    with pytest.raises(Denied, match="second factor"):
        changed_meanwhile(entrance, writer, confirmed)
    assert isinstance(entrance.password("writer"), SecondFactorNeeded)


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Hashing that lets something else happen while it works."""

    hashing: HashingPool
    happens: Callable[[], Awaitable[Any]]

    async def hash(self, password: str) -> str:
        hashed = await self.hashing.hash(password)
        await self.happens()
        return hashed


def changed_meanwhile(entrance: Entrance, session: Caller, happens: Callable[[], Awaitable[Any]]) -> Caller:
    """Another password for the session's own account, given while it is being changed otherwise."""
    slow = cast(HashingPool, Meanwhile(entrance.rooms.acts.hashing, happens))
    sign_in = replace(entrance.sign_in, hashing=slow)
    return entrance.rooms.run(sign_in.change_password(session, PASSWORD, "intruder horse battery"))


@pytest.mark.parametrize("act", ["leak", "reset", "disable", "add again"])
def test_a_change_of_the_password_in_flight_undoes_nothing_that_an_administrator_did(
    entrance: Entrance, act: str
) -> None:
    rooms, acts = entrance.rooms, entrance.rooms.acts
    writer = rooms.user("writer")
    session = in_session(writer, rooms.run(acts.sessions.open(writer)).number)

    async def happens() -> None:
        if act == "leak":
            await acts.tracing.leak(OPERATOR, "writer", datetime.now(UTC) - timedelta(days=1))
        elif act == "reset":
            await acts.accounts.set_password(OPERATOR, "writer", "rescued horse battery")
        elif act == "disable":
            await acts.accounts.disable(OPERATOR, "writer")
        else:
            await acts.accounts.remove_user(OPERATOR, "writer")
            await acts.accounts.add_user(OPERATOR, "writer", password="rescued horse battery")

    with pytest.raises(Denied):
        changed_meanwhile(entrance, session, happens)

    assert rooms.last("account.password")["outcome"] == "denied"
    if act == "disable":
        rooms.run(acts.accounts.enable(OPERATOR, "writer"))
    with pytest.raises(Denied):
        entrance.password("writer", "intruder horse battery")
    if act in {"reset", "add again"}:
        assert isinstance(entrance.password("writer", "rescued horse battery"), Caller)


def test_a_reset_that_follows_a_change_of_the_password_ends_the_sign_in_that_comes_of_it(entrance: Entrance) -> None:
    rooms, acts = entrance.rooms, entrance.rooms.acts
    writer = rooms.user("writer")
    session = in_session(writer, rooms.run(acts.sessions.open(writer)).number)
    commit = rooms.house.ledger.commit

    async def and_then_a_reset(act: Any) -> Any:
        notes = await commit(act)
        if act.event.kind == "account.password" and act.event.caller.principal == writer.principal:
            await acts.accounts.set_password(OPERATOR, "writer", "rescued horse battery")
        return notes

    ledger = cast(Any, Following(and_then_a_reset))
    sign_in = replace(entrance.sign_in, gate=replace(entrance.sign_in.gate, ledger=ledger))
    anew = rooms.run(sign_in.change_password(session, PASSWORD, "intruder horse battery"))

    with pytest.raises(Denied):
        rooms.run(acts.sessions.open(anew))


@dataclass(frozen=True, slots=True)
class Following:
    """A ledger after whose acts something happens."""

    commit: Callable[[Any], Awaitable[Any]]


def test_a_password_that_an_administrator_gives_is_no_other_accounts(rooms: Rooms) -> None:
    rooms.user("writer")

    async def added_again() -> None:
        await rooms.acts.accounts.remove_user(OPERATOR, "writer")
        await rooms.acts.accounts.add_user(OPERATOR, "writer", password="rescued horse battery")

    slow = cast(HashingPool, Meanwhile(rooms.acts.hashing, added_again))
    with pytest.raises(Conflict):
        rooms.run(replace(rooms.acts.accounts, hashing=slow).set_password(OPERATOR, "writer", "former horse battery"))
    assert isinstance(Entrance(rooms).password("writer", "rescued horse battery"), Caller)
