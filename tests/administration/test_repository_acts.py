"""Repositories and tags: seen by who may pull, removed by who may delete."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from gateway.access.principals import ANONYMOUS, Caller
from gateway.engine.embedded.assembly import embedded
from gateway.engine.port import Feature
from gateway.errors import Denied, Invalid, ManifestUnknown, TagInvalid, Unknown, Unsupported
from gateway.records import repositories as rows
from gateway.records.schema import manifests, projects, repositories
from tests.administration.rooms import Rooms, rooms_of
from tests.house import OPERATOR, ORIGIN, House
from tests.records.rows import a_repository, column, written


@pytest.fixture
def rooms(house: House, tmp_path: Path) -> Rooms:
    rooms = rooms_of(house, engine=embedded(tmp_path / "blobs", house.database))
    for name, project in (("jane", "gallery"), ("joe", "attic")):
        rooms.owner(name, project)
        a_repository(house, f"{project}/ui")
    return rooms


def test_everybody_lists_what_they_may_pull(rooms: Rooms) -> None:
    a_repository(rooms.house, "gallery/api")
    partly = rooms.user("partly")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "partly", "puller", "gallery/ui"))
    listed = rooms.acts.repositories.list_repositories

    def names(caller: Caller, project: str | None = None) -> list[str]:
        return [row.name for row in rooms.run(listed(caller, project))]

    assert names(OPERATOR) == ["attic/ui", "gallery/api", "gallery/ui"]
    assert names(OPERATOR, "gallery") == ["gallery/api", "gallery/ui"]
    assert names(rooms.caller("joe")) == ["attic/ui"]
    assert names(partly) == ["gallery/ui"]
    assert names(partly, "attic") == []
    assert names(Caller(ANONYMOUS, ORIGIN)) == []


def test_a_project_that_is_not_there_is_unknown_to_who_may_know_and_empty_to_others(rooms: Rooms) -> None:
    acts = rooms.acts.repositories
    for act in (acts.list_repositories(OPERATOR, "nosuch"), acts.page_repositories(OPERATOR, "nosuch")):
        with pytest.raises(Unknown, match="There is no project nosuch"):
            rooms.run(act)
    assert rooms.run(acts.list_repositories(rooms.caller("joe"), "nosuch")) == ()
    assert rooms.run(acts.page_repositories(rooms.caller("joe"), "gallery")) == ()


def test_others_are_answered_while_a_page_passes_over_what_its_reader_may_not_pull(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    partly = rooms.user("partly")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "partly", "puller", "gallery/ui"))

    def write(connection: Connection) -> None:
        project = connection.execute(select(projects.c.id).where(projects.c.name == "gallery")).scalar_one()
        rows = [{"project_id": project, "name": f"gallery/r{n:04}", "created_at": 1} for n in range(2000)]
        connection.execute(insert(repositories), rows)

    written(rooms.house, write)
    turns, looked = 0, []
    look = rows.names_after

    def looking(*args: Any, **named: Any) -> list[str]:
        looked.append(turns)
        return look(*args, **named)

    monkeypatch.setattr(rows, "names_after", looking)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def paging() -> list[str]:
        nonlocal turns
        beside = asyncio.ensure_future(others())
        await asyncio.sleep(0)
        found = await rooms.acts.repositories.page_repositories(partly, limit=1)
        beside.cancel()
        return [row.name for row in found]

    assert rooms.run(paging()) == ["gallery/ui"]
    assert len(looked) == len(set(looked)) == 21


def test_a_repository_is_shown_with_who_moved_its_tags(rooms: Rooms) -> None:
    jane = rooms.caller("jane")

    row = rooms.run(rooms.acts.repositories.show_repository(jane, "gallery/ui"))
    (tag,) = rooms.run(rooms.acts.repositories.list_tags(jane, "gallery/ui"))

    assert (row.tags, row.manifests, row.blobs, row.size_bytes) == (1, 1, 1, 110)
    assert rooms.run(rooms.acts.repositories.list_repositories(jane)) == (row,)
    assert (tag.name, tag.moved_by, tag.moved_at.timestamp(), tag.size_bytes) == ("v1", "jane", 1, 10)


def test_who_is_gone_is_told_by_number(rooms: Rooms) -> None:
    rooms.run(rooms.acts.accounts.remove_user(OPERATOR, "jane"))

    (tag,) = rooms.run(rooms.acts.repositories.list_tags(OPERATOR, "gallery/ui"))

    assert tag.moved_by == "user:1"


def test_a_tag_is_removed_alone(rooms: Rooms) -> None:
    jane = rooms.caller("jane")

    rooms.run(rooms.acts.repositories.remove_tag(jane, "gallery/ui", "v1"))

    summary = rooms.run(rooms.acts.repositories.show_repository(jane, "gallery/ui"))
    assert (summary.tags, summary.manifests) == (0, 1)
    event = rooms.last("tag.delete")
    assert (event["repository"], event["reference"], list(event["before"]["tags"])) == ("gallery/ui", "v1", ["v1"])
    with pytest.raises(ManifestUnknown):
        rooms.run(rooms.acts.repositories.remove_tag(jane, "gallery/ui", "v1"))
    with pytest.raises(TagInvalid):
        rooms.run(rooms.acts.repositories.remove_tag(jane, "gallery/ui", ".v1"))


def test_a_repository_is_removed_with_what_it_holds(rooms: Rooms) -> None:
    rooms.run(rooms.acts.repositories.remove_repository(rooms.caller("jane"), "gallery/ui"))

    assert column(rooms.house, repositories.c.name) == ["attic/ui"]
    assert len(column(rooms.house, manifests.c.digest)) == 1
    assert rooms.last("repository.remove")["before"] == {"tags": 1, "manifests": 1, "blobs": 1}


@pytest.mark.parametrize("role", [None, "puller", "pusher"])
def test_who_may_not_delete_removes_nothing(rooms: Rooms, role: str | None) -> None:
    member = rooms.user("member")
    if role is not None:
        rooms.run(rooms.acts.grants.add_grant(OPERATOR, "member", role, "gallery"))

    with pytest.raises(Denied, match="delete on gallery/ui is missing"):
        rooms.run(rooms.acts.repositories.remove_repository(member, "gallery/ui"))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.repositories.remove_tag(member, "gallery/ui", "v1"))

    assert rooms.last("tag.delete")["outcome"] == "denied"
    assert [tag.name for tag in rooms.run(rooms.acts.repositories.list_tags(OPERATOR, "gallery/ui"))] == ["v1"]


def test_looking_needs_the_right_to_pull(rooms: Rooms) -> None:
    joe = rooms.caller("joe")

    with pytest.raises(Denied, match="pull on gallery/ui is missing"):
        rooms.run(rooms.acts.repositories.show_repository(joe, "gallery/ui"))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.repositories.list_tags(joe, "gallery/ui"))


def test_an_unknown_repository_is_said_to_be_unknown(rooms: Rooms) -> None:
    acts = rooms.acts.repositories
    for act in (
        acts.show_repository(OPERATOR, "gallery/none"),
        acts.remove_repository(OPERATOR, "gallery/none"),
        acts.list_tags(OPERATOR, "gallery/none"),
    ):
        with pytest.raises(Unknown, match="There is no repository gallery/none"):
            rooms.run(act)
    with pytest.raises(Invalid):
        rooms.run(acts.show_repository(OPERATOR, "Gallery"))


STAYS = "The registry behind keeps what it holds."


def behind(house: House) -> Rooms:
    """The acts where the engine only stands in for removals."""
    engine = embedded(house.data / "blobs", house.database)
    return rooms_of(house, engine=replace(engine, emulated={Feature.UNTAG: "It stays.", Feature.REMOVAL: STAYS}))


def test_a_repository_that_would_stay_is_not_said_to_be_removed(rooms: Rooms) -> None:
    with pytest.raises(Unsupported) as refused:
        rooms.run(behind(rooms.house).acts.repositories.remove_repository(rooms.caller("jane"), "gallery/ui"))

    assert refused.value.message == f"{STAYS} Delete the manifests of gallery/ui by digest."
    assert set(column(rooms.house, repositories.c.name)) == {"gallery/ui", "attic/ui"}
    assert rooms.last("repository.remove")["outcome"] == "failed"


def test_who_may_not_remove_a_repository_is_not_told_whether_that_could_be(rooms: Rooms) -> None:
    with pytest.raises(Denied):
        rooms.run(behind(rooms.house).acts.repositories.remove_repository(rooms.caller("joe"), "gallery/ui"))


def test_removing_a_tag_says_what_stays_of_it(rooms: Rooms) -> None:
    jane = rooms.caller("jane")

    assert rooms.run(behind(rooms.house).acts.repositories.remove_tag(jane, "gallery/ui", "v1")) == "It stays."
    a_repository(rooms.house, "gallery/api")
    assert rooms.run(rooms.acts.repositories.remove_tag(jane, "gallery/api", "v1")) == ""


def test_removing_a_project_says_that_its_content_stays_if_it_had_any(rooms: Rooms) -> None:
    acts = behind(rooms.house).acts
    rooms.run(acts.projects.add_project(OPERATOR, "empty"))

    gone = rooms.run(acts.projects.remove_project(OPERATOR, "gallery", force=True))

    assert gone.stays == f"{STAYS} A project that is added under this name again shows it again."
    assert column(rooms.house, repositories.c.name) == ["attic/ui"]
    assert rooms.run(acts.projects.remove_project(OPERATOR, "empty")).stays == ""
