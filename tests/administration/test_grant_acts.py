"""Grants and robots: given, replaced, expired, taken; and the answer to who may do what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from gateway.access.secrets import keyed_hash
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.records.schema import accounts, grants
from tests.administration.rooms import Rooms
from tests.house import OPERATOR
from tests.records.rows import an_offline_token, column, written

MONTH = timedelta(days=30)


def test_a_grant_gives_its_role_where_it_reaches_and_nowhere_else(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    rooms.user("writer")

    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "writer", "pusher", "gallery/ui-*"))

    assert rooms.may("writer", "push", "gallery/ui-web:v1")
    assert not rooms.may("writer", "delete", "gallery/ui-web")
    assert not rooms.may("writer", "push", "gallery/api")
    assert not rooms.may("writer", "push", "gallery/ui-web/x")


def test_the_same_reach_is_replaced_and_the_event_tells_both(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    rooms.user("writer")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "writer", "pusher", "gallery", expires=MONTH))

    row = rooms.run(rooms.acts.grants.add_grant(OPERATOR, "writer", "puller", "gallery"))

    assert (row.role, row.reach, row.expires_at) == ("puller", "gallery", None)
    assert not rooms.may("writer", "push", "gallery/ui")
    held = rooms.run(rooms.acts.grants.list_grants(OPERATOR, principal="writer"))
    assert held == (row,)
    event = rooms.last("grant.add")
    assert (event["before"]["role"], event["after"]["role"]) == ("pusher", "puller")
    assert event["before"]["expires_at"] is not None
    assert event["after"]["expires_at"] is None


def test_a_grant_on_a_pattern_stands_beside_that_on_the_project(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    rooms.user("writer")
    for role, reach in (("puller", "gallery"), ("maintainer", "gallery/ui")):
        rooms.run(rooms.acts.grants.add_grant(OPERATOR, "writer", role, reach))

    held = rooms.run(rooms.acts.grants.list_grants(OPERATOR, principal="writer", project="gallery"))

    assert [(grant.role, grant.reach) for grant in held] == [("puller", "gallery"), ("maintainer", "gallery/ui")]


def test_an_expired_grant_is_listed_and_gives_nothing(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    rooms.user("writer")
    row = rooms.run(rooms.acts.grants.add_grant(OPERATOR, "writer", "pusher", "gallery", expires=MONTH))
    assert rooms.may("writer", "push", "gallery/ui")
    assert row.expires_at is not None
    assert abs(row.expires_at - datetime.now(UTC) - MONTH) < timedelta(minutes=1)

    past = update(grants).where(grants.c.id == row.id).values(expires_at=1)
    written(rooms.house, lambda connection: connection.execute(past).rowcount)

    assert not rooms.may("writer", "push", "gallery/ui")
    assert [grant.id for grant in rooms.run(rooms.acts.grants.list_grants(OPERATOR, principal="writer"))] == [row.id]


@pytest.mark.parametrize("lasts", [timedelta(0), timedelta(days=-1), timedelta(days=4000), timedelta.max])
def test_an_expiry_that_makes_no_sense_is_refused(rooms: Rooms, lasts: timedelta) -> None:
    rooms.owner("jane", "gallery")

    with pytest.raises(Invalid, match="expiry"):
        rooms.run(rooms.acts.grants.add_grant(OPERATOR, "jane", "puller", "gallery", expires=lasts))
    with pytest.raises(Invalid, match="expiry"):
        rooms.run(rooms.acts.robots.add_robot(OPERATOR, "gallery+ci", "puller", expires=lasts))


@pytest.mark.parametrize(
    ("principal", "role", "reach"),
    [("jane", "boss", "gallery"), ("jane", "owner", "gallery/**"), ("Jane", "owner", "gallery"), ("jane", "owner", "")],
)
def test_an_illegal_grant_is_not_given(rooms: Rooms, principal: str, role: str, reach: str) -> None:
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery"))
    rooms.user("jane")

    with pytest.raises(Invalid):
        rooms.run(rooms.acts.grants.add_grant(OPERATOR, principal, role, reach))

    assert column(rooms.house, grants.c.role) == []


@pytest.mark.parametrize(("principal", "reach"), [("nobody", "gallery"), ("jane", "attic"), ("gallery+ci", "gallery")])
def test_a_grant_to_or_on_what_does_not_exist_is_unknown(rooms: Rooms, principal: str, reach: str) -> None:
    rooms.owner("jane", "gallery")

    with pytest.raises(Unknown, match="There is no"):
        rooms.run(rooms.acts.grants.add_grant(OPERATOR, principal, "puller", reach))


def test_a_grant_taken_away_is_gone_and_told(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.user("writer")
    rooms.run(rooms.acts.grants.add_grant(owner, "writer", "pusher", "gallery"))

    rooms.run(rooms.acts.grants.remove_grant(owner, "writer", "gallery"))

    assert not rooms.may("writer", "pull", "gallery/ui")
    event = rooms.last("grant.remove")
    assert (event["principal"], event["project"], event["before"]["role"]) == ("jane", "gallery", "pusher")
    with pytest.raises(Unknown, match="holds no grant on gallery"):
        rooms.run(rooms.acts.grants.remove_grant(owner, "writer", "gallery"))


def test_an_owner_grants_in_its_own_project_only(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")

    with pytest.raises(Denied, match="manage on attic is missing"):
        rooms.run(rooms.acts.grants.add_grant(owner, "jane", "owner", "attic"))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.grants.list_grants(owner, project="attic"))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.grants.list_grants(owner))

    event = rooms.house.records(kind="grant.add", outcome="denied")[-1]
    assert (event["principal"], event["project"]) == ("jane", "attic")
    assert event["detail"] == {"account": "jane", "role": "owner", "reach": "attic"}


def test_an_answer_names_what_decided(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    rooms.user("admin", administrator=True)
    rooms.user("reader")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "reader", "puller", "gallery"))
    ask = rooms.acts.grants.ask

    assert rooms.run(ask(OPERATOR, "jane", "manage", "gallery")).why == "owner on gallery"
    assert rooms.run(ask(OPERATOR, "admin", "delete", "gallery/ui:v1")).why == "administrator"
    no = rooms.run(ask(OPERATOR, "reader", "push", "gallery/ui"))
    assert (no.allowed, no.why) == (False, "push on gallery/ui is missing; reader holds puller on gallery")
    assert rooms.run(ask(OPERATOR, "jane", "pull", "attic/ui")).why == "there is no project attic"
    rooms.run(rooms.acts.accounts.disable(OPERATOR, "jane"))
    assert rooms.run(ask(OPERATOR, "jane", "pull", "gallery/ui")).why == "jane is disabled"
    event = rooms.last("access.ask")
    assert (event["repository"], event["detail"]["allowed"]) == ("gallery/ui", False)


def test_a_guest_may_pull_what_is_public(rooms: Rooms) -> None:
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "square", public=True))

    assert rooms.may("anonymous", "pull", "square/ui")
    assert not rooms.may("anonymous", "push", "square/ui")


@pytest.mark.parametrize(
    ("action", "target"), [("fly", "gallery"), ("pull", "Gallery"), ("pull", "gallery:"), ("pull", "gallery@sha256:1")]
)
def test_a_question_that_makes_no_sense_is_refused(rooms: Rooms, action: str, target: str) -> None:
    rooms.owner("jane", "gallery")

    with pytest.raises(Invalid):
        rooms.run(rooms.acts.grants.ask(OPERATOR, "jane", action, target))


def test_a_robot_has_its_role_on_its_project_until_it_expires(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")

    made = rooms.run(rooms.acts.robots.add_robot(owner, "gallery/ci", "pusher"))

    assert made.name == "gallery+ci"
    assert made.expires is not None
    assert abs(made.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
    assert rooms.may("gallery/ci", "push", "gallery/ui")
    event = rooms.last("robot.add")
    assert (event["after"]["account"], event["after"]["role"]) == ("gallery+ci", "pusher")

    past = update(accounts).where(accounts.c.name == "gallery+ci").values(expires_at=1)
    written(rooms.house, lambda connection: connection.execute(past).rowcount)
    answer = rooms.run(rooms.acts.grants.ask(owner, "gallery+ci", "push", "gallery/ui"))
    assert answer.why == "gallery+ci has expired"


def test_a_robots_secret_is_kept_only_as_a_keyed_hash(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")

    made = rooms.run(rooms.acts.robots.add_robot(owner, "gallery/ci", "pusher"))

    assert made.secret is not None
    assert keyed_hash(rooms.acts.secrets.robots, made.secret) in column(rooms.house, accounts.c.secret)
    assert made.secret not in str(rooms.house.records())


def test_a_rotated_robot_has_another_secret_and_loses_its_tokens(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    first = rooms.run(rooms.acts.robots.add_robot(owner, "gallery+ci", "pusher"))
    an_offline_token(rooms.house, rooms.caller("gallery+ci").principal.id)

    second = rooms.run(rooms.acts.robots.rotate_robot(owner, "gallery+ci", expires=MONTH))

    assert first.secret != second.secret
    assert first.secret is not None
    assert keyed_hash(rooms.acts.secrets.robots, first.secret) not in column(rooms.house, accounts.c.secret)
    assert second.expires is not None
    assert second.expires < datetime.now(UTC) + MONTH + timedelta(minutes=1)
    assert rooms.run(rooms.acts.offline_tokens.list_tokens(owner, "gallery+ci")) == ()
    event = rooms.last("robot.rotate")
    assert (event["before"]["generation"], event["after"]["generation"]) == (0, 1)
    assert rooms.may("gallery+ci", "push", "gallery/ui")


def test_a_robot_added_again_holds_what_it_is_given_then(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.run(rooms.acts.robots.add_robot(owner, "gallery+ci", "maintainer"))
    with pytest.raises(Conflict):
        rooms.run(rooms.acts.robots.add_robot(owner, "gallery/ci", "puller"))
    old = rooms.caller("gallery+ci").principal.id

    rooms.run(rooms.acts.robots.remove_robot(owner, "gallery/ci"))
    assert rooms.run(rooms.acts.robots.list_robots(owner, "gallery")) == ()
    rooms.run(rooms.acts.robots.add_robot(owner, "gallery/ci", "puller"))

    assert rooms.caller("gallery+ci").principal.id != old
    assert not rooms.may("gallery+ci", "push", "gallery/ui")


def test_offline_tokens_are_revoked_one_by_one_or_all(rooms: Rooms) -> None:
    writer, reader = rooms.user("writer"), rooms.user("reader")
    first = an_offline_token(rooms.house, writer.principal.id)
    for account in (writer, writer, reader):
        an_offline_token(rooms.house, account.principal.id)
    tokens = rooms.acts.offline_tokens

    assert rooms.run(tokens.revoke_token(OPERATOR, first)).principal == "writer"
    assert [row.id for row in rooms.run(tokens.list_tokens(OPERATOR, "writer"))] == [first + 1, first + 2]
    assert rooms.run(tokens.revoke_tokens(OPERATOR, "writer")) == 2

    assert [row.principal for row in rooms.run(tokens.list_tokens(OPERATOR))] == ["reader"]
    assert rooms.last("offline_token.revoke")["detail"] == {"account": "writer", "offline_tokens_revoked": 2}
    with pytest.raises(Unknown, match="no offline token"):
        rooms.run(tokens.revoke_token(OPERATOR, first))
    with pytest.raises(Unknown, match="no user nobody"):
        rooms.run(tokens.list_tokens(OPERATOR, "nobody"))
