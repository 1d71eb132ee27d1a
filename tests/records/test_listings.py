"""Listings pass over what may not be seen, however much of it there is, and keep nobody waiting meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, insert, select

from gateway.oci.names import ProjectName, Repository
from gateway.records.listings import admitted_names
from gateway.records.schema import manifests, projects, repositories
from tests.house import House
from tests.records.rows import written


def many(house: House, count: int) -> list[str]:
    """So many repositories of one project, each with a manifest."""
    names = [f"gallery/r{number:04}" for number in range(count)]
    body = {"media_type": "application/vnd.oci.image.manifest.v1+json", "size_bytes": 10}
    pushed = {"digest": "sha256:" + "b" * 64, "pushed_at": 1, "pushed_by": "user:1"}

    def write(connection: Connection) -> None:
        made = connection.execute(insert(projects).values(name="gallery", public=False, created_at=1))
        project = made.inserted_primary_key[0]
        rows = [{"project_id": project, "name": name, "created_at": 1} for name in names]
        connection.execute(insert(repositories), rows)
        numbers = connection.execute(select(repositories.c.id)).scalars().all()
        connection.execute(insert(manifests), [{"repository_id": number, **body, **pushed} for number in numbers])

    written(house, write)
    return names


@pytest.mark.parametrize("limit", [10, 1001])
def test_others_have_their_turn_while_what_may_not_be_seen_is_passed_over(house: House, limit: int) -> None:
    names = many(house, 1500)
    judged, most, listed = 0, 0, False

    def admits(repository: Repository) -> bool:
        nonlocal judged
        judged += 1
        return repository.name == names[-1]

    async def look_on() -> None:
        nonlocal judged, most
        while not listed:
            most, judged = max(most, judged), 0
            await asyncio.sleep(0)

    async def story() -> list[str]:
        nonlocal listed
        others = asyncio.create_task(look_on())
        found = await admitted_names(house.database, "", limit, [ProjectName("gallery")], admits)
        listed = True
        await others
        return found

    assert house.run(story()) == [names[-1]]
    assert 0 < most <= 256


@pytest.mark.parametrize("limit", [10, 300, 1001])
def test_what_may_be_seen_is_listed_page_by_page(house: House, limit: int) -> None:
    names = many(house, 700)
    wanted = names[::2]
    found: list[str] = []
    while page := house.run(
        admitted_names(
            house.database, found[-1] if found else "", limit, None, lambda repository: repository.name in set(wanted)
        )
    ):
        assert len(page) <= limit
        found += page
    assert found == wanted
