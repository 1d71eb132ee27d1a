"""The rows of content: what administrators read of it, and what is left when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway.change import Change, Notes
from gateway.errors import Unavailable
from gateway.oci.names import ProjectName, Repository
from gateway.records import content, listings, schema
from gateway.records.content import Act
from tests.contract.house import LAYER, OTHER, UI, WRITER, House, Houses, index


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    data = tmp_path / "data"
    data.mkdir()
    houses = Houses(database_url, data)
    yield houses.open()
    houses.close()


def rows(house: House) -> dict[str, int]:
    """How many rows of content there are."""
    tables = (schema.repositories, schema.links, schema.manifests, schema.manifest_bodies, schema.edges, schema.tags)
    return {
        table.name: house.database.read_now(
            lambda connection, table=table: connection.execute(select(func.count()).select_from(table)).scalar_one()
        )
        for table in tables
    }


def test_a_repository_is_summed_up(house: House) -> None:
    manifest = asyncio.run(house.push_image(UI, "v2", "v1"))
    summary = house.database.read_now(lambda connection: listings.repository_summary(connection, UI))
    assert summary is not None
    assert (summary.name, summary.manifests, summary.blobs) == ("gallery/ui", 1, 2)
    assert summary.bytes == len(manifest.content) + len(b"{}") + len(b"a layer")
    assert summary.created_at == int(house.clock.now)
    assert [(tag.name, tag.digest, tag.size_bytes, tag.moved_at, tag.moved_by) for tag in summary.tags] == [
        (name, manifest.digest.text, len(manifest.content), int(house.clock.now), WRITER) for name in ("v1", "v2")
    ]
    assert house.database.read_now(lambda connection: listings.repository_summary(connection, OTHER)) is None


def test_only_a_tag_that_moves_is_dated_anew(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1")
        house.clock.now += 100
        await house.put(UI, manifest, "v1", "v2")

    before = int(house.clock.now)
    asyncio.run(story())
    tags = house.database.read_now(lambda connection: listings.tag_summaries(connection, UI))
    assert [(tag.name, tag.moved_at) for tag in tags] == [("v1", before), ("v2", before + 100)]


def test_the_repositories_of_a_project_are_counted(house: House) -> None:
    async def story() -> None:
        await house.push_image(UI, "v1", "v2")
        await house.push(Repository("gallery/blobs"), b"x")
        await house.push_image(OTHER, "v1")

    asyncio.run(story())
    found = house.database.read_now(lambda connection: listings.repositories_of(connection, ProjectName("gallery")))
    assert found == [listings.Holding("gallery/blobs", 0, 0, 1), listings.Holding("gallery/ui", 2, 1, 2)]
    everything = house.database.read_now(lambda connection: listings.repositories_of(connection, None))
    assert [holding.name for holding in everything] == ["gallery/blobs", "gallery/ui", "garden/ui"]


def test_a_removed_repository_leaves_nothing_and_takes_nothing_from_others(house: House) -> None:
    async def story() -> None:
        await house.push_image(OTHER, "v1")
        before = rows(house)
        await house.push_image(UI, "v1")
        await house.push_image(UI, "v2", layer=b"only here")

        def remove(connection: object) -> Notes:
            notes = content.remove_repository(connection, UI)  # type: ignore[arg-type]
            assert notes is not None
            return notes

        notes = house.apply(Change(remove, repositories=(UI,)))
        assert notes.before == {"tags": 2, "manifests": 2, "blobs": 3}
        assert rows(house) == before
        assert (await house.engine.listings.tags(OTHER, after="", limit=5)).entries == ("v1",)

    asyncio.run(story())
    assert house.database.read_now(lambda connection: content.remove_repository(connection, UI)) is None


def test_the_bytes_of_a_manifest_go_with_the_last_repository_that_holds_it(house: House) -> None:
    async def story() -> None:
        manifest = await house.push_image(UI, "v1")
        await house.push_image(OTHER, "v1")
        assert rows(house)["manifest_bodies"] == 1
        house.apply(house.engine.manifests.delete(UI, manifest.digest))
        assert rows(house)["manifest_bodies"] == 1
        house.apply(house.engine.manifests.delete(OTHER, manifest.digest))
        left = rows(house)
        assert (left["manifest_bodies"], left["manifests"], left["edges"], left["tags"]) == (0, 0, 0, 0)

    asyncio.run(story())


def test_a_project_is_made_only_by_a_change_that_said_so(house: House) -> None:
    def quietly(connection: object) -> Notes:
        content.ensure_repository(connection, UI, Act(1, WRITER))  # type: ignore[arg-type]
        return Notes()

    with pytest.raises(Unavailable):
        house.apply(Change(quietly))
    assert rows(house)["repositories"] == 0


def test_a_push_into_a_project_that_was_removed_meanwhile_works_when_tried_again(house: House) -> None:
    async def story() -> None:
        await house.push(UI, b"x")

        def remove(connection: object) -> Notes:
            content.remove_repository(connection, UI)  # type: ignore[arg-type]
            connection.execute(schema.projects.delete())  # type: ignore[attr-defined]
            return Notes()

        house.apply(Change(remove, policy=True, repositories=(UI,)))
        put = house.engine.manifests.put
        with pytest.raises(Unavailable):
            house.apply(put(UI, index([]), []))
        notes = house.apply(put(UI, index([]), []))
        assert [kind for kind, _ in notes.also] == ["project.add"]

    asyncio.run(story())


def test_a_manifest_of_thousands_of_layers_is_looked_up_and_kept(house: House) -> None:
    async def story() -> None:
        place = Repository("gallery/many")
        await house.push(place, b"held")
        wide = index([(b"held", LAYER)] + [(b"%d" % number, LAYER) for number in range(1200)])
        with pytest.raises(content.ManifestBlobUnknown) as refused:
            await house.put(place, wide)
        assert len(refused.value.missing) == 1200
        assert "and 1197 more" in refused.value.message
        await house.put(place, index([(b"held", LAYER)] * 1200))

    asyncio.run(story())
