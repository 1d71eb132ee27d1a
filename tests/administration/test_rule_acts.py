"""Rules are set by a project's owner, its quota and the great switch by administrators; every setting is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.principals import Caller
from gateway.errors import Denied, Invalid, ReadOnly, TagImmutable
from tests.administration.rooms import Rooms
from tests.house import OPERATOR
from tests.records.rows import a_repository


def rule(rooms: Rooms, caller: Caller = OPERATOR, name: str = "gallery", **rules: Any) -> Any:
    return rooms.run(rooms.acts.projects.set_project(caller, name, **rules))


def test_an_owner_sets_the_rules_and_an_administrator_the_quota(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")

    row = rule(rooms, owner, immutable=["v*", "rel-*"], read_only=" inventory ")
    assert (row.rules.immutable, row.rules.read_only) == (("v*", "rel-*"), "inventory")
    event = rooms.last("project.set")
    assert event["before"] == {
        "project": "gallery",
        "public": False,
        "quota_bytes": None,
        "immutable": [],
        "read_only": "",
    }
    assert (event["after"]["immutable"], event["after"]["read_only"]) == (["v*", "rel-*"], "inventory")
    for wish in ({"quota_bytes": 10}, {"unlimited": True}):
        with pytest.raises(Denied):
            rule(rooms, owner, **wish)
    row = rule(rooms, quota_bytes=10)
    assert (row.rules.quota_bytes, row.rules.immutable, row.used_bytes) == (10, ("v*", "rel-*"), 0)
    assert rule(rooms, unlimited=True, immutable=[], read_only="").rules == type(row.rules)()


@pytest.mark.parametrize(
    "wish",
    [{}, {"immutable": ["a b"]}, {"read_only": "two\nlines"}, {"read_only": "  "}, {"quota_bytes": -1}],
)
def test_what_is_no_rule_is_refused_and_changes_nothing(rooms: Rooms, wish: dict[str, Any]) -> None:
    rooms.owner("jane", "gallery")
    with pytest.raises(Invalid):
        rule(rooms, **wish)
    assert rooms.house.records(kind="project.set") == []


def test_the_gateway_is_made_read_only_by_administrators_alone(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    auditor = rooms.user("auditor", auditor=True)
    switch = rooms.acts.read_only

    assert not rooms.run(switch.show(auditor)).read_only
    with pytest.raises(Denied):
        rooms.run(switch.turn_on(owner, "spite"))
    with pytest.raises(Denied):
        rooms.run(switch.show(owner))
    with pytest.raises(Invalid):
        rooms.run(switch.turn_on(OPERATOR, ""))

    rooms.run(switch.turn_on(OPERATOR, "a new disk"))
    event = rooms.last("read_only.set")
    assert (event["before"], event["after"]) == ({"read_only": ""}, {"read_only": "a new disk"})
    freeze = rooms.run(switch.show(auditor))
    assert (freeze.read_only, freeze.reason) == (True, "a new disk")
    assert freeze.since is not None
    rooms.run(switch.turn_on(OPERATOR, "another disk"))
    rooms.run(switch.turn_off(OPERATOR))
    rooms.run(switch.turn_off(OPERATOR))
    assert not rooms.run(switch.show(auditor)).read_only


def test_a_repository_with_an_immutable_tag_or_in_a_read_only_project_is_not_removed(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    a_repository(rooms.house, "gallery/ui")
    rule(rooms, immutable=["v*"])
    with pytest.raises(TagImmutable, match="Tag v1 of gallery/ui"):
        rooms.run(rooms.acts.repositories.remove_repository(owner, "gallery/ui"))
    rule(rooms, immutable=[], read_only="inventory")
    with pytest.raises(ReadOnly, match="inventory"):
        rooms.run(rooms.acts.repositories.remove_repository(owner, "gallery/ui"))
    denied = rooms.last("repository.remove")
    assert (denied["outcome"], denied["reason"]) == ("denied", "read_only")
    rule(rooms, read_only="")
    rooms.run(rooms.acts.repositories.remove_repository(owner, "gallery/ui"))


def test_a_project_goes_with_its_rules_but_not_while_its_content_may_not_change(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    a_repository(rooms.house, "gallery/ui")
    rule(rooms, immutable=["v*"], read_only="inventory")
    with pytest.raises(ReadOnly):
        rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery", force=True))
    rule(rooms, read_only="")
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery", force=True))


def test_administration_goes_on_in_a_read_only_gateway(rooms: Rooms) -> None:
    rooms.run(rooms.acts.read_only.turn_on(OPERATOR, "a new disk"))
    owner = rooms.owner("jane", "gallery")
    rule(rooms, owner, public=True)
    rooms.run(rooms.acts.robots.add_robot(owner, "gallery+ci", "pusher"))
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery"))
