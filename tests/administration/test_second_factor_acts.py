"""Second factors: in force once confirmed, ended with a code or by an administrator, never without a trace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.credentials import Believed, Disbelieved
from gateway.access.personal import parse_bound
from gateway.access.policy import Need
from gateway.access.principals import Caller, Credential, CredentialKind
from gateway.access.scopes import Access, Action
from gateway.audit.event import Kind
from gateway.errors import Conflict, Denied, Invalid, TooManyRequests, Unauthorized, Unknown
from gateway.oci.names import Repository
from gateway.records.schema import offline_tokens, recovery_codes, second_factors
from tests.administration.entrance import PASSWORD, Entrance, in_session
from tests.administration.rooms import Rooms
from tests.house import OPERATOR, ORIGIN
from tests.records.rows import an_offline_token, column


@pytest.fixture
def entrance(rooms: Rooms) -> Entrance:
    return Entrance(rooms)


def test_a_key_is_shown_once_and_asks_for_nothing_before_it_is_confirmed(entrance: Entrance) -> None:
    writer = entrance.rooms.user("writer")
    enrolment = entrance.begin(writer)

    assert enrolment.uri.startswith("otpauth://totp/registry.test:writer?")
    assert enrolment.key.replace(" ", "") in enrolment.uri
    assert isinstance(entrance.password("writer"), Caller)
    state = entrance.rooms.run(entrance.second_factor.show(writer))
    assert (state.enabled, state.recovery_codes) == (False, 0)
    [sealed] = column(entrance.rooms.house, second_factors.c.sealed)
    told = repr(enrolment) + str(entrance.rooms.house.records())
    assert enrolment.key not in told
    assert enrolment.key.replace(" ", "").encode() not in bytes(sealed)


def test_a_right_code_puts_it_in_force_and_gives_recovery_codes(entrance: Entrance) -> None:
    writer, codes = entrance.enrolled()

    state = entrance.rooms.run(entrance.second_factor.show(writer))
    assert (state.enabled, state.recovery_codes, len(set(codes))) == (True, 10, 10)
    kept = column(entrance.rooms.house, recovery_codes.c.hashed)
    assert not set(codes) & set(kept)
    assert not any(code in str(entrance.rooms.house.records()) for code in codes)


def test_a_wrong_code_puts_nothing_in_force(entrance: Entrance) -> None:
    writer = entrance.rooms.user("writer")
    with pytest.raises(Unknown):
        entrance.rooms.run(entrance.second_factor.confirm(writer, "123456"))
    entrance.begin(writer)
    for code in (entrance.wrong(writer), "", "abcdef"):
        with pytest.raises(Invalid, match="clock"):
            entrance.rooms.run(entrance.second_factor.confirm(writer, code))
    assert isinstance(entrance.password("writer"), Caller)


def test_beginning_again_replaces_the_key_until_one_is_in_force(entrance: Entrance) -> None:
    writer = entrance.rooms.user("writer")
    entrance.begin(writer)
    old = entrance.shown(writer)
    entrance.begin(writer)
    with pytest.raises(Invalid):
        entrance.rooms.run(entrance.second_factor.confirm(writer, old))
    entrance.rooms.run(entrance.second_factor.confirm(writer, entrance.shown(writer)))
    with pytest.raises(Conflict, match="already"):
        entrance.begin(writer)
    with pytest.raises(Conflict):
        entrance.rooms.run(entrance.second_factor.confirm(writer, entrance.shown(writer)))


def test_what_was_got_with_the_password_alone_ends(entrance: Entrance) -> None:
    rooms = entrance.rooms
    writer = rooms.user("writer")
    an_offline_token(rooms.house, writer.principal.id)
    opened = [rooms.run(rooms.acts.sessions.open(writer)) for _ in range(2)]
    entrance.begin(writer)
    rooms.run(entrance.second_factor.confirm(in_session(writer, opened[0].number), entrance.shown(writer)))

    assert column(rooms.house, offline_tokens.c.id) == []
    found = [rooms.run(rooms.acts.sessions.find(each.cookie, writer.origin)) is not None for each in opened]
    assert found == [True, False]
    event = rooms.last("second_factor.confirm")
    assert event["detail"] == {"offline_tokens_revoked": 1, "sessions_ended": 1}
    assert (event["before"], event["after"]) == ({"generation": 0}, {"generation": 1})


def test_a_sign_in_with_the_password_alone_keeps_nothing_that_is_got_while_one_is_confirmed(
    entrance: Entrance,
) -> None:
    rooms, acts = entrance.rooms, entrance.rooms.acts
    writer = rooms.user("writer")
    entrance.begin(writer)
    credentials = entrance.sign_in.credentials
    stolen = entrance.password("writer")
    believed = rooms.run(credentials.believe("writer", PASSWORD, ORIGIN))
    assert isinstance(stolen, Caller)
    assert isinstance(believed, Believed)

    confirmed = rooms.run(entrance.second_factor.confirm(writer, entrance.shown(writer)))

    with pytest.raises(Denied, match="sign in again"):
        rooms.run(acts.sessions.open(stolen))
    token, change = credentials.new_offline_token(believed.principal, believed.generation, "registry", "docker", ORIGIN)

    async def kept() -> None:
        async with rooms.house.gate.passage(stolen, Kind.TOKEN_ISSUE) as passage:
            await passage.commit(change)

    with pytest.raises(Unauthorized):
        rooms.run(kept())
    assert isinstance(rooms.run(credentials.believe_offline(token, "registry", ORIGIN)), Disbelieved)
    assert rooms.run(acts.sessions.open(confirmed.caller)).number


def test_bearers_got_before_one_is_confirmed_are_worth_nothing(entrance: Entrance) -> None:
    rooms = entrance.rooms
    writer = rooms.owner("writer", "gallery")
    access = Access({"gallery/ui": frozenset({Action.PULL})})
    bearer = replace(writer, credential=Credential(CredentialKind.BEARER, "1"), access=access)
    pull = Need(Action.PULL, Repository.parse("gallery/ui"))

    async def judged(caller: Caller) -> None:
        async with rooms.house.gate.passage(caller, Kind.MANIFEST_PULL, pull) as passage:
            await passage.seal()

    rooms.run(judged(bearer))
    entrance.begin(writer)
    confirmed = rooms.run(entrance.second_factor.confirm(writer, entrance.shown(writer)))
    with pytest.raises(Unauthorized):
        rooms.run(judged(bearer))
    # A bearer's verdict is remembered by the access that was read from it.
    anew = replace(bearer, access=replace(access), generation=confirmed.caller.generation)
    rooms.run(judged(anew))


def test_it_is_ended_with_a_code_and_not_without(entrance: Entrance) -> None:
    writer, codes = entrance.enrolled()
    for code in (entrance.wrong(writer), "", codes[0][:-1]):
        with pytest.raises(Denied, match=r"code is wrong|Type the code"):
            entrance.rooms.run(entrance.second_factor.disable(writer, code))
    assert entrance.rooms.last("second_factor.disable")["detail"] == {"code": "wrong_code"}

    entrance.rooms.run(entrance.second_factor.disable(writer, entrance.shown(writer)))

    assert isinstance(entrance.password("writer"), Caller)
    house = entrance.rooms.house
    assert column(house, recovery_codes.c.hashed) == column(house, second_factors.c.account_id) == []


def test_wrong_codes_are_counted_until_there_is_a_wait(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    for _ in range(5):
        with pytest.raises(Denied):
            entrance.rooms.run(entrance.second_factor.disable(writer, entrance.wrong(writer)))
    with pytest.raises(TooManyRequests) as refusal:
        entrance.rooms.run(entrance.second_factor.disable(writer, entrance.shown(writer)))
    entrance.move(seconds=refusal.value.retry_after_seconds)
    entrance.rooms.run(entrance.second_factor.disable(writer, entrance.shown(writer)))


def test_recovery_codes_are_renewed_with_a_code_and_the_old_ones_end(entrance: Entrance) -> None:
    writer, old = entrance.enrolled()
    with pytest.raises(Denied):
        entrance.rooms.run(entrance.second_factor.renew_codes(writer, entrance.wrong(writer)))
    new = entrance.rooms.run(entrance.second_factor.renew_codes(writer, old[0]))
    assert not set(new) & set(old)
    with pytest.raises(Denied):
        entrance.code(entrance.ticket("writer"), old[1])
    assert isinstance(entrance.code(entrance.ticket("writer"), new[0]), Caller)


def test_an_administrator_ends_it_for_one_who_lost_it_and_nobody_else_does(entrance: Entrance) -> None:
    rooms = entrance.rooms
    writer, _ = entrance.enrolled()
    opened = rooms.run(rooms.acts.sessions.open(writer))
    with pytest.raises(Denied):
        rooms.run(entrance.second_factor.disable_of(rooms.user("reader"), "writer"))
    with pytest.raises(Denied):
        rooms.run(entrance.second_factor.show(rooms.caller("reader"), "writer"))

    assert rooms.run(entrance.second_factor.show(OPERATOR, "writer")).enabled
    rooms.run(entrance.second_factor.disable_of(OPERATOR, "writer"))

    assert isinstance(entrance.password("writer"), Caller)
    assert rooms.run(rooms.acts.sessions.find(opened.cookie, writer.origin)) is None
    assert rooms.last("second_factor.disable")["detail"] == {"account": "writer", "sessions_ended": 1}
    with pytest.raises(Unknown, match="has no second factor"):
        rooms.run(entrance.second_factor.disable_of(OPERATOR, "writer"))


def test_an_administrators_own_second_factor_ends_with_a_code_alone(entrance: Entrance) -> None:
    rooms = entrance.rooms
    root = rooms.user("root", administrator=True)
    entrance.begin(root)
    rooms.run(entrance.second_factor.confirm(root, entrance.shown(root)))
    for _ in range(6):
        with pytest.raises(Denied, match="Type the code"):
            rooms.run(entrance.second_factor.disable_of(root, "root"))
    entrance.move(minutes=1)
    assert not isinstance(entrance.password("root"), Caller)
    rooms.run(entrance.second_factor.disable(root, entrance.shown(root)))
    assert isinstance(entrance.password("root"), Caller)


def test_a_token_with_a_narrow_bound_touches_no_second_factor(entrance: Entrance) -> None:
    writer, _ = entrance.enrolled()
    bound = parse_bound(["pull", "push"], None)
    made = entrance.rooms.run(
        entrance.rooms.acts.personal_tokens.issue(OPERATOR, "x", ["pull"], None, 1, account="writer")
    )
    credential = Credential(CredentialKind.PERSONAL_TOKEN, str(made.number))
    narrow = Caller(writer.principal, writer.origin, credential, bound=bound, personal_token=made.number)
    for act in (
        entrance.second_factor.begin(narrow, "registry.test"),
        entrance.second_factor.disable(narrow, entrance.shown(writer)),
        entrance.second_factor.renew_codes(narrow, entrance.shown(writer)),
        entrance.second_factor.show(narrow),
    ):
        with pytest.raises(Denied, match="look after its account"):
            entrance.rooms.run(act)
