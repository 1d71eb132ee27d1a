"""Projects: added and removed by administrators, looked after by their owners; removal leaves nothing behind."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Row, insert

from gateway.access.personal import Bound
from gateway.access.principals import ANONYMOUS, Caller
from gateway.access.scopes import Action
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.oci.names import ProjectName
from gateway.records import projects as rows
from gateway.records.schema import manifest_bodies, repositories, tags, uploads
from gateway.records.schema import projects as table
from tests.administration.rooms import Rooms
from tests.house import OPERATOR, ORIGIN
from tests.records.rows import a_repository, column, written

GUEST = Caller(ANONYMOUS, ORIGIN)


def test_a_project_is_added_once(rooms: Rooms) -> None:
    project = rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery", public=True))

    assert (project.name, project.public) == ("gallery", True)
    event = rooms.last("project.add")
    assert (event["project"], event["after"]) == ("gallery", {"project": "gallery", "public": True})
    with pytest.raises(Conflict):
        rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery"))


@pytest.mark.parametrize("name", ["", "Gallery", "gallery/ui", "a" * 65, "gal+lery"])
def test_an_illegal_name_makes_no_project(rooms: Rooms, name: str) -> None:
    with pytest.raises(Invalid):
        rooms.run(rooms.acts.projects.add_project(OPERATOR, name))


def test_an_owner_opens_its_own_project_and_no_other(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")

    assert rooms.run(rooms.acts.projects.set_project(owner, "gallery", public=True)).public
    with pytest.raises(Denied):
        rooms.run(rooms.acts.projects.set_project(owner, "attic", public=True))

    allowed, denied = rooms.house.records(kind="project.set")
    assert (allowed["before"]["public"], allowed["after"]["public"]) == (False, True)
    assert (denied["outcome"], denied["project"]) == ("denied", "attic")
    assert not rooms.run(rooms.acts.projects.show_project(OPERATOR, "attic")).project.public


@pytest.mark.parametrize("role", ["puller", "pusher", "maintainer"])
def test_only_the_owner_manages_a_project(rooms: Rooms, role: str) -> None:
    rooms.owner("jane", "gallery")
    member = rooms.user("member")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "member", role, "gallery"))

    for act in (
        rooms.acts.projects.set_project(member, "gallery", public=True),
        rooms.acts.projects.show_project(member, "gallery"),
        rooms.acts.projects.remove_project(member, "gallery"),
        rooms.acts.grants.add_grant(member, "member", "owner", "gallery"),
        rooms.acts.grants.remove_grant(member, "jane", "gallery"),
        rooms.acts.grants.list_grants(member, project="gallery"),
        rooms.acts.grants.ask(member, "jane", "pull", "gallery"),
        rooms.acts.robots.add_robot(member, "gallery+ci", "owner"),
        rooms.acts.robots.list_robots(member, "gallery"),
        rooms.acts.robots.rotate_robot(member, "gallery+ci"),
        rooms.acts.robots.remove_robot(member, "gallery+ci"),
    ):
        with pytest.raises(Denied):
            rooms.run(act)


def test_an_owner_of_a_pattern_does_not_own_the_project(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    partly = rooms.user("partly")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "partly", "owner", "gallery/ui"))

    with pytest.raises(Denied):
        rooms.run(rooms.acts.grants.add_grant(partly, "partly", "owner", "gallery"))


def test_an_owner_neither_adds_nor_removes_projects(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")

    with pytest.raises(Denied):
        rooms.run(rooms.acts.projects.add_project(owner, "attic"))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.projects.remove_project(owner, "gallery"))

    assert [project.name for project in rooms.run(rooms.acts.projects.list_projects(OPERATOR))] == ["gallery"]


def test_everybody_sees_the_projects_that_concern_them(rooms: Rooms) -> None:
    jane = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "square", public=True))
    auditor = rooms.user("auditor", auditor=True)
    listed = rooms.acts.projects.list_projects

    assert [row.name for row in rooms.run(listed(OPERATOR))] == ["attic", "gallery", "square"]
    assert [row.name for row in rooms.run(listed(auditor))] == ["attic", "gallery", "square"]
    assert [row.name for row in rooms.run(listed(jane))] == ["gallery", "square"]
    assert [row.name for row in rooms.run(listed(GUEST))] == ["square"]


def test_a_page_of_projects_reads_no_more_than_it_shows(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    jane = rooms.owner("jane", "gallery")

    def write(connection: Connection) -> None:
        for word, public in (("closed", False), ("open", True)):
            values = [{"name": f"{word}{n:04}", "public": public, "created_at": 1} for n in range(500)]
            connection.execute(insert(table), values)

    written(rooms.house, write)
    made: list[str] = []
    known = rows._project

    def noting(row: Row[Any]) -> rows.ProjectRow:
        assert threading.current_thread() is not threading.main_thread()
        made.append(row.name)
        return known(row)

    monkeypatch.setattr(rows, "_project", noting)
    paged = rooms.acts.projects.page_projects

    def names(caller: Caller, after: str = "", limit: int = 2) -> list[str]:
        made.clear()
        found = [row.name for row in rooms.run(paged(caller, after=after, limit=limit))]
        assert made == found
        return found

    assert names(jane) == ["gallery", "open0000"]
    assert names(jane, "open0498") == ["open0499"]
    assert names(GUEST, "gallery", 1) == ["open0000"]
    assert names(OPERATOR, "closed0498") == ["closed0499", "gallery"]
    bound = replace(jane, bound=Bound(frozenset({Action.PULL}), frozenset({"open0007", "closed0007"})))
    assert names(bound) == ["open0007"]


def test_a_project_is_shown_with_what_it_holds_counted_once(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.run(rooms.acts.robots.add_robot(owner, "gallery+ci", "pusher"))
    a_repository(rooms.house, "gallery/ui", size_bytes=100)
    a_repository(rooms.house, "gallery/api", size_bytes=100)

    detail = rooms.run(rooms.acts.projects.show_project(owner, "gallery"))

    assert (detail.repositories, detail.size_bytes) == (2, 110)
    assert [robot.name for robot in detail.robots] == ["gallery+ci"]
    assert [(grant.principal, grant.role) for grant in detail.grants] == [("gallery+ci", "pusher"), ("jane", "owner")]


def test_a_project_that_holds_content_stays_unless_forced(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    a_repository(rooms.house, "gallery/ui")

    with pytest.raises(Conflict, match=r"still holds content.* --force"):
        rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery"))
    assert column(rooms.house, repositories.c.name) == ["gallery/ui"]

    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery", force=True))
    for emptied in (repositories.c.name, tags.c.name, uploads.c.id, manifest_bodies.c.digest):
        assert column(rooms.house, emptied) == []


def test_removing_a_project_leaves_its_neighbours_alone(rooms: Rooms) -> None:
    rooms.owner("jane", "gal_ery")
    rooms.owner("joe", "gallery")
    a_repository(rooms.house, "gal_ery/ui")
    a_repository(rooms.house, "gallery/ui")

    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gal_ery", force=True))

    assert column(rooms.house, repositories.c.name) == ["gallery/ui"]
    assert column(rooms.house, uploads.c.repository) == ["gallery/ui"]
    assert rooms.may("joe", "push", "gallery/ui")


def test_a_project_added_again_under_the_name_has_nothing_of_the_old_one(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    robot = rooms.run(rooms.acts.robots.add_robot(owner, "gallery+ci", "pusher"))
    a_repository(rooms.house, "gallery/ui")
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery", force=True))
    removed = rooms.last("project.remove")
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "gallery"))

    detail = rooms.run(rooms.acts.projects.show_project(OPERATOR, "gallery"))
    assert (detail.grants, detail.robots, detail.repositories) == ((), (), 0)
    with pytest.raises(Denied):
        rooms.run(rooms.acts.projects.show_project(owner, "gallery"))
    with pytest.raises(Unknown):
        rooms.run(rooms.acts.accounts.show_account(OPERATOR, robot.name))
    assert removed["before"] == {"project": "gallery", "public": False}
    counted = {name: removed["detail"][name] for name in ("repositories_removed", "robots_removed", "grants_removed")}
    assert counted == {"repositories_removed": 1, "robots_removed": 1, "grants_removed": 2}


def test_a_project_that_gained_a_repository_meanwhile_is_not_removed(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    a_repository(rooms.house, "gallery/ui")
    change = rows.remove(ProjectName("gallery"), (), force=True)

    with pytest.raises(Conflict, match="try again"), rooms.house.database.writer() as connection:
        change.apply(connection)


def test_an_unknown_project_is_said_to_be_unknown(rooms: Rooms) -> None:
    projects = rooms.acts.projects
    for act in (
        projects.set_project(OPERATOR, "gallery", public=True),
        projects.show_project(OPERATOR, "gallery"),
        projects.remove_project(OPERATOR, "gallery"),
        rooms.acts.robots.list_robots(OPERATOR, "gallery"),
        rooms.acts.robots.add_robot(OPERATOR, "gallery+ci", "pusher"),
        rooms.acts.grants.list_grants(OPERATOR, project="gallery"),
    ):
        with pytest.raises(Unknown, match="There is no project gallery"):
            rooms.run(act)
