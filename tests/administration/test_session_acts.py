"""Sessions: known by their cookie alone, over after a while, ended by whoever's they are, gone with the password."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from gateway.access.principals import Caller, CredentialKind
from gateway.administration import NewSession, Session
from gateway.administration.sessions import LIFE_SECONDS, Sessions
from gateway.errors import Denied, Unknown
from gateway.records.schema import sessions
from gateway.records.sessions import IDLE_SECONDS, SESSIONS_PER_ACCOUNT
from tests.administration.rooms import Rooms
from tests.house import OPERATOR, ORIGIN
from tests.records.rows import column


@dataclass(slots=True)
class Front:
    """Sessions of a house whose clock can be moved."""

    rooms: Rooms
    now: float = 1_800_000_000.0
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        house = self.rooms.house
        self.sessions = Sessions(house.gate, house.database, self.rooms.acts.secrets, lambda: self.now)

    def open(self, caller: Caller, replacing: str = "") -> NewSession:
        return self.rooms.run(self.sessions.open(caller, replacing=replacing))

    def find(self, cookie: str) -> Session | None:
        return self.rooms.run(self.sessions.find(cookie, ORIGIN))

    def found(self, cookie: str) -> Session:
        session = self.find(cookie)
        assert session is not None
        return session


@pytest.fixture
def front(rooms: Rooms) -> Front:
    return Front(rooms)


def test_a_cookie_is_its_users_session_and_no_other_text_is(front: Front) -> None:
    opened = front.open(front.rooms.user("writer"))

    session = front.found(opened.cookie)

    assert (session.caller.principal.name, session.caller.credential.kind) == ("writer", CredentialKind.SESSION)
    assert session.caller.bound is None
    assert (session.csrf, session.row.address) == (opened.csrf, ORIGIN.address)
    flipped = ("A" if opened.cookie[0] != "A" else "B") + opened.cookie[1:]
    for wrong in ("", "x", flipped, opened.csrf, opened.cookie * 2, column(front.rooms.house, sessions.c.hashed)[0]):
        assert front.find(wrong) is None


def test_no_cookie_is_kept_or_shown(front: Front) -> None:
    opened = front.open(front.rooms.user("writer"))
    [hashed] = column(front.rooms.house, sessions.c.hashed)
    assert len(opened.cookie) == 43
    assert opened.cookie not in hashed
    told = str(front.rooms.house.records()) + repr(opened) + repr(front.found(opened.cookie))
    assert opened.cookie not in told
    assert opened.csrf not in told


def test_a_session_that_is_not_used_is_over(front: Front) -> None:
    opened = front.open(front.rooms.user("writer"))
    front.now += IDLE_SECONDS - 1
    front.found(opened.cookie)
    front.now += IDLE_SECONDS - 1
    front.found(opened.cookie)
    front.now += IDLE_SECONDS
    assert front.find(opened.cookie) is None


def test_a_session_ends_however_much_it_is_used(front: Front) -> None:
    opened = front.open(front.rooms.user("writer"))
    end = front.now + LIFE_SECONDS
    while front.now + 1500 < end:
        front.now += 1500
        front.found(opened.cookie)
    front.now = end
    assert front.find(opened.cookie) is None


def test_that_it_is_used_is_noted_once_a_minute_and_is_no_event(front: Front) -> None:
    opened = front.open(front.rooms.user("writer"))
    before = len(front.rooms.house.records())
    seen = []
    for _ in range(4):
        front.now += 25
        front.found(opened.cookie)
        seen += column(front.rooms.house, sessions.c.seen_at)
    assert len(set(seen)) == 2
    assert len(front.rooms.house.records()) == before


def test_signing_in_again_replaces_the_cookie(front: Front) -> None:
    writer = front.rooms.user("writer")
    first = front.open(writer)
    second = front.open(writer, replacing=first.cookie)
    assert front.find(first.cookie) is None
    assert front.found(second.cookie).row.id == second.number


def test_a_cookie_planted_before_signing_in_is_worth_nothing_after(front: Front) -> None:
    planted = "A" * 43
    opened = front.open(front.rooms.user("writer"), replacing=planted)
    assert opened.cookie != planted
    assert front.find(planted) is None


def test_another_password_ends_the_sessions_of_its_user(front: Front) -> None:
    opened, other = front.open(front.rooms.user("writer")), front.open(front.rooms.user("reader"))
    session = front.found(opened.cookie)
    front.rooms.run(front.rooms.acts.accounts.set_password(OPERATOR, "writer", "another horse battery"))
    assert front.find(opened.cookie) is None
    assert front.find(other.cookie) is not None
    with pytest.raises(Denied):
        front.rooms.run(front.sessions.end_others(session.caller))


def test_a_disabled_account_has_no_session_while_it_is(front: Front) -> None:
    opened = front.open(front.rooms.user("writer"))
    front.rooms.run(front.rooms.acts.accounts.disable(OPERATOR, "writer"))
    assert front.find(opened.cookie) is None
    with pytest.raises(Denied):
        front.open(front.rooms.caller("writer"))


def test_a_user_sees_and_ends_its_own(front: Front) -> None:
    writer = front.rooms.user("writer")
    first, second, third = (front.open(writer) for _ in range(3))
    session = front.found(second.cookie)
    listed = front.rooms.run(front.sessions.list(session.caller))
    assert [row.id for row in listed] == [third.number, second.number, first.number]
    front.rooms.run(front.sessions.end(session.caller, first.number))
    assert front.find(first.cookie) is None
    assert front.rooms.run(front.sessions.end_others(session.caller)) == 1
    assert front.find(third.cookie) is None
    front.rooms.run(front.sessions.close(session))
    assert front.find(second.cookie) is None
    with pytest.raises(Unknown):
        front.rooms.run(front.sessions.close(session))


def test_nobody_ends_or_sees_somebody_elses(front: Front) -> None:
    opened = front.open(front.rooms.user("writer"))
    reader = front.found(front.open(front.rooms.user("reader")).cookie).caller
    with pytest.raises(Unknown):
        front.rooms.run(front.sessions.end(reader, opened.number))
    with pytest.raises(Denied):
        front.rooms.run(front.sessions.list(reader, "writer"))
    with pytest.raises(Denied):
        front.rooms.run(front.sessions.end_all(reader, "writer"))
    assert front.find(opened.cookie) is not None


def test_an_administrator_signs_somebody_out_everywhere(front: Front) -> None:
    root, writer = front.rooms.user("root", administrator=True), front.rooms.user("writer")
    opened = [front.open(writer) for _ in range(2)]
    assert len(front.rooms.run(front.sessions.list(root, "writer"))) == 2
    assert front.rooms.run(front.sessions.end_all(root, "writer")) == 2
    assert [front.find(each.cookie) for each in opened] == [None, None]
    assert front.rooms.last("session.end")["detail"] == {"account": "writer", "sessions_ended": 2}


def test_one_more_than_an_account_may_have_ends_the_longest_unused(front: Front) -> None:
    writer = front.rooms.user("writer")
    opened = []
    for _ in range(SESSIONS_PER_ACCOUNT + 1):
        front.now += 1
        opened.append(front.open(writer))
    assert front.find(opened[0].cookie) is None
    assert front.find(opened[1].cookie) is not None
    assert front.find(opened[-1].cookie) is not None
    told = [event.get("detail") for event in front.rooms.house.records(kind="session.open")]
    assert told == [None] * SESSIONS_PER_ACCOUNT + [{"unused_sessions_ended": [opened[0].number]}]


def test_sessions_that_are_over_go_with_the_next_one(front: Front) -> None:
    front.open(front.rooms.user("writer"))
    front.now += LIFE_SECONDS
    opened = front.open(front.rooms.user("reader"))
    assert column(front.rooms.house, sessions.c.id) == [opened.number]


def test_a_sign_in_from_before_a_change_of_password_opens_none(front: Front) -> None:
    writer = front.rooms.user("writer")
    front.rooms.run(front.rooms.acts.accounts.set_password(OPERATOR, "writer", "another horse battery"))
    with pytest.raises(Denied, match="sign in again"):
        front.open(replace(writer, generation=0))
