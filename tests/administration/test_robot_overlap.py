"""Two live secrets of a robot: for as long as was said, never longer, and ended before that where it must be."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from sqlalchemy import select

from gateway.access.credentials import Believed
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.records.schema import accounts
from tests.administration.entrance import Entrance
from tests.administration.rooms import Rooms
from tests.house import OPERATOR, ORIGIN

ROBOT = "gallery+ci"


@pytest.fixture
def entrance(rooms: Rooms) -> Entrance:
    rooms.owner("jane", "gallery")
    return Entrance(rooms)


def believed(entrance: Entrance, secret: str | None) -> bool:
    assert secret is not None
    belief = entrance.rooms.run(entrance.sign_in.credentials.believe(ROBOT, secret, ORIGIN))
    return isinstance(belief, Believed)


def generation(entrance: Entrance) -> int:
    robot = select(accounts.c.generation).where(accounts.c.name == ROBOT)
    return int(entrance.rooms.house.database.read_now(lambda connection: connection.execute(robot).scalar_one()))


def now(entrance: Entrance) -> None:
    """Sets the entrance's clock to the time that acts go by."""
    entrance.move(seconds=time.time() - entrance.now.timestamp())


def test_both_secrets_are_good_for_the_overlap_and_tokens_go_on(entrance: Entrance) -> None:
    robots, run = entrance.rooms.acts.robots, entrance.rooms.run
    old = run(robots.add_robot(OPERATOR, ROBOT, "pusher"))
    before = generation(entrance)
    new = run(robots.rotate_robot(entrance.rooms.caller("jane"), ROBOT, overlap_seconds=3600))

    now(entrance)
    assert believed(entrance, old.secret)
    assert believed(entrance, new.secret)
    assert generation(entrance) == before
    entrance.move(seconds=3601)
    assert not believed(entrance, old.secret)
    assert believed(entrance, new.secret)
    event = entrance.rooms.last("robot.rotate")
    assert set(event["detail"]) == {"account", "former_until"}
    [robot] = run(robots.list_robots(OPERATOR, "gallery"))
    assert robot.former_until is not None
    assert abs(robot.former_until.timestamp() - time.time() - 3600) < 10


def test_without_an_overlap_the_old_secret_and_its_tokens_end_at_once(entrance: Entrance) -> None:
    robots, run = entrance.rooms.acts.robots, entrance.rooms.run
    first = run(robots.add_robot(OPERATOR, ROBOT, "pusher"))
    second = run(robots.rotate_robot(OPERATOR, ROBOT, overlap_seconds=3600))
    before = generation(entrance)
    third = run(robots.rotate_robot(OPERATOR, ROBOT))

    now(entrance)
    assert [believed(entrance, each.secret) for each in (first, second, third)] == [False, False, True]
    assert generation(entrance) == before + 1


def test_of_three_secrets_two_are_good(entrance: Entrance) -> None:
    robots, run = entrance.rooms.acts.robots, entrance.rooms.run
    first = run(robots.add_robot(OPERATOR, ROBOT, "pusher"))
    second = run(robots.rotate_robot(OPERATOR, ROBOT, overlap_seconds=3600))
    third = run(robots.rotate_robot(OPERATOR, ROBOT, overlap_seconds=3600))
    now(entrance)
    assert [believed(entrance, each.secret) for each in (first, second, third)] == [False, True, True]


def test_the_old_secret_lives_no_longer_than_it_would_have(entrance: Entrance) -> None:
    robots, run = entrance.rooms.acts.robots, entrance.rooms.run
    old = run(robots.add_robot(OPERATOR, ROBOT, "pusher", expires=timedelta(minutes=10)))
    new = run(robots.rotate_robot(OPERATOR, ROBOT, overlap_seconds=24 * 3600))
    now(entrance)
    entrance.move(minutes=11)
    assert not believed(entrance, old.secret)
    assert believed(entrance, new.secret)


def test_an_overlap_is_ended_before_its_time_with_all_tokens(entrance: Entrance) -> None:
    robots, run = entrance.rooms.acts.robots, entrance.rooms.run
    old = run(robots.add_robot(OPERATOR, ROBOT, "pusher"))
    with pytest.raises(Conflict, match="one secret only"):
        run(robots.end_overlap(OPERATOR, ROBOT))
    new = run(robots.rotate_robot(OPERATOR, ROBOT, overlap_seconds=3600))
    before = generation(entrance)
    with pytest.raises(Denied):
        run(robots.end_overlap(entrance.rooms.user("mallory"), ROBOT))

    run(robots.end_overlap(OPERATOR, ROBOT))

    now(entrance)
    assert not believed(entrance, old.secret)
    assert believed(entrance, new.secret)
    assert generation(entrance) == before + 1
    with pytest.raises(Conflict):
        run(robots.end_overlap(OPERATOR, ROBOT))


@pytest.mark.parametrize("seconds", [-1, 30 * 24 * 3600 + 1])
def test_an_overlap_has_bounds(entrance: Entrance, seconds: int) -> None:
    robots, run = entrance.rooms.acts.robots, entrance.rooms.run
    run(robots.add_robot(OPERATOR, ROBOT, "pusher"))
    with pytest.raises(Invalid, match="30 days"):
        run(robots.rotate_robot(OPERATOR, ROBOT, overlap_seconds=seconds))
    with pytest.raises(Unknown):
        run(robots.rotate_robot(OPERATOR, "gallery+nobody", overlap_seconds=60))
