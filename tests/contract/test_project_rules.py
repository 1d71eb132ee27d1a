"""The rules hold whatever keeps the content: room, tags that stay, and nothing changed while read-only."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from gateway.errors import Denied, ManifestInvalid, ManifestUnknown, QuotaExceeded, ReadOnly, TagImmutable
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import NESTING, Manifest
from gateway.oci.names import Repository, Tag
from gateway.records import projects, rules, usage
from gateway.records.projects import Wishes
from gateway.records.schema import projects as project_table
from tests.contract.house import OTHER, UI, WRITER, House, Houses, image, index, run

API = Repository("gallery/api")
HUGE = 2**40


def ruled(house: House, **wishes: Any) -> None:
    """Sets rules of the project gallery, which exists."""
    house.apply(projects.set_project(UI.project, Wishes(**wishes)))


def used(house: House) -> int:
    """What gallery uses by its counter, which must be what it holds."""
    row = house.database.read_now(
        lambda connection: connection.execute(
            select(project_table.c.id, project_table.c.used_bytes).where(project_table.c.name == UI.project.name)
        ).one()
    )
    assert row.used_bytes == house.database.read_now(lambda connection: usage.measured(connection, row.id))[1]
    return int(row.used_bytes)


def test_a_project_is_filled_to_its_quota_and_not_a_byte_further(house: House) -> None:
    async def story() -> None:
        await house.push(UI, b"x" * 100)
        ruled(house, quota_bytes=150)
        await house.push(UI, b"y" * 50)
        assert used(house) == 150
        with pytest.raises(QuotaExceeded, match=r"150 bytes and 150 bytes are used: 1 bytes more") as refused:
            await house.push(UI, b"z")
        assert refused.value.reason == "quota_exceeded"
        assert used(house) == 150
        await house.push(OTHER, b"z")
        await house.push(UI, b"x" * 100)
        await house.push(API, b"x" * 100)
        await house.commit(house.engine.blobs.mount(UI, API, Digest.of(b"y" * 50)))
        with pytest.raises(QuotaExceeded):
            await house.commit(house.engine.blobs.mount(OTHER, API, Digest.of(b"z")))
        assert used(house) == 150

    run(story())


def test_indexes_nest_no_deeper_than_they_may(house: House) -> None:
    async def story() -> None:
        nested: Manifest = await house.push_image(UI, "v1")
        for _ in range(NESTING):
            nested = index([(nested.content, nested.media_type)])
            await house.put(UI, nested)
        with pytest.raises(ManifestInvalid, match="at most 8 deep"):
            await house.put(UI, index([(nested.content, nested.media_type)]), "deeper")
        await house.put(UI, nested, "deep")

    run(story())


def test_what_is_deleted_gives_room_when_the_last_repository_lets_it_go(house: House) -> None:
    async def story() -> None:
        for repository in (UI, API):
            await house.push(repository, b"x" * 100)
        ruled(house, quota_bytes=150)
        delete = house.engine.blobs.delete
        await house.commit(delete(UI, Digest.of(b"x" * 100)))
        assert used(house) == 100
        with pytest.raises(QuotaExceeded):
            await house.push(UI, b"y" * 51)
        await house.commit(delete(API, Digest.of(b"x" * 100)))
        assert used(house) == 0
        await house.push(UI, b"y" * 150)

    run(story())


def test_manifests_count_and_a_new_tag_of_an_old_one_costs_nothing(house: House) -> None:
    async def story() -> None:
        first = await house.push_image(UI, "v1")
        holds = used(house)
        ruled(house, quota_bytes=holds)
        await house.put(UI, first, "v2", "latest")
        assert used(house) == holds
        second = image(b"{}", b"a layer", annotations={"number": "2"})
        with pytest.raises(QuotaExceeded):
            await house.put(UI, second, "v3")
        with pytest.raises(ManifestUnknown):
            await house.engine.manifests.find(UI, Tag("v3"))
        ruled(house, unlimited=True)
        await house.put(UI, second, "v3")
        await house.commit(house.engine.manifests.delete(UI, second.digest))
        assert used(house) == holds

    run(story())


def test_another_algorithm_counts_as_it_is_kept(house: House) -> None:
    async def story() -> None:
        await house.push_image(UI, "v1")
        holds = used(house)
        other = image(b"{}", b"a layer", annotations={"n": "2"}, algorithm=Algorithm.SHA512)
        ruled(house, quota_bytes=holds + len(other.content) - 1)
        with pytest.raises(QuotaExceeded):
            await house.put(UI, other)
        ruled(house, quota_bytes=holds + 2 * len(other.content))
        await house.put(UI, other)
        assert holds < used(house) <= holds + 2 * len(other.content)
        await house.commit(house.engine.manifests.delete(UI, other.digest))
        assert used(house) == holds

    run(story())


def test_an_immutable_tag_is_made_once_and_stays(house: House) -> None:
    async def story() -> None:
        first = await house.push_image(UI, "v1", "latest")
        second = image(b"{}", b"a layer", annotations={"number": "2"})
        ruled(house, immutable=("v*", "rel-*"))
        await house.put(UI, first, "v1")
        with pytest.raises(TagImmutable, match=r"Tag v1 of gallery/ui is immutable \(pattern v\*\)") as refused:
            await house.put(UI, second, "v1")
        assert (refused.value.code, refused.value.reason) == ("DENIED", "immutable_tag")
        with pytest.raises(TagImmutable):
            await house.put(UI, second, "latest", "v1")
        assert (await house.engine.manifests.find(UI, Tag("latest"))).digest == first.digest
        with pytest.raises(TagImmutable, match="cannot be removed"):
            await house.commit(house.engine.manifests.untag(UI, Tag("v1")))
        with pytest.raises(TagImmutable, match="Tag v1 of gallery/ui"):
            await house.commit(house.engine.manifests.delete(UI, first.digest))
        await house.put(UI, second, "v2", "latest")
        assert (await house.engine.manifests.find(UI, Tag("v1"))).digest == first.digest
        await house.commit(house.engine.manifests.untag(UI, Tag("latest")))
        ruled(house, immutable=())
        await house.put(UI, second, "v1")

    run(story())


def test_what_an_immutable_index_lists_is_not_deleted_under_it(house: House) -> None:
    async def story() -> None:
        child = await house.push_image(UI)
        listing = index([(child.content, child.media_type)])
        await house.put(UI, listing, "v1")
        ruled(house, immutable=("v*",))
        with pytest.raises(TagImmutable):
            await house.commit(house.engine.manifests.delete(UI, child.digest))
        with pytest.raises(TagImmutable):
            await house.commit(house.engine.manifests.delete(UI, listing.digest))

    run(story())


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_companions_of_a_digest_move_and_go_under_any_pattern(house: House, suffix: str) -> None:
    async def story() -> None:
        first = await house.push_image(UI, "v1")
        ruled(house, immutable=("*",))
        tag = f"sha256-{first.digest.hex}{suffix}"
        await house.put(UI, image(b"{}", b"a layer", annotations={"number": "1"}), tag)
        second = image(b"{}", b"a layer", annotations={"number": "2"})
        await house.put(UI, second, tag)
        await house.commit(house.engine.manifests.untag(UI, Tag(tag)))

    run(story())


@pytest.mark.parametrize("whole", [False, True])
def test_a_read_only_project_is_pulled_from_and_nothing_else(house: House, whole: bool) -> None:
    async def story() -> None:
        image_ = await house.push_image(UI, "v1")
        await house.push(OTHER, b"elsewhere")
        upload, begun = await house.engine.uploads.begin(UI, WRITER)
        await house.commit(begun)
        if whole:
            house.apply(rules.set_freeze("a new disk", 5))
        else:
            ruled(house, read_only="a new disk")
        layer = Digest.of(b"a layer")
        assert await house.pull(UI, layer) == b"a layer"
        assert (await house.engine.manifests.find(UI, Tag("v1"))).digest == image_.digest
        for change in (
            house.engine.manifests.put(UI, image_, [Tag("v2")], WRITER),
            house.engine.manifests.delete(UI, image_.digest),
            house.engine.manifests.untag(UI, Tag("v1")),
            house.engine.blobs.mount(OTHER, UI, Digest.of(b"elsewhere")),
            house.engine.blobs.delete(UI, layer),
            (await house.engine.uploads.begin(UI, WRITER))[1],
        ):
            with pytest.raises(ReadOnly, match="a new disk") as refused:
                await house.commit(change)
            assert refused.value.reason == "read_only"
        with pytest.raises(ReadOnly):
            await house.engine.admit(UI)
        await house.commit(await house.engine.uploads.cancel(upload))
        if whole:
            with pytest.raises(ReadOnly):
                await house.push(OTHER, b"more")
            house.apply(rules.set_freeze("", 6))
        else:
            await house.push(OTHER, b"more")
            ruled(house, read_only="")
        await house.engine.admit(UI)
        await house.put(UI, image_, "v2")

    run(story())


def test_a_push_that_was_under_way_when_the_switch_was_turned_makes_no_blob(house: House) -> None:
    async def story() -> None:
        await house.push(UI, b"x")
        upload, begun = await house.engine.uploads.begin(UI, WRITER)
        await house.commit(begun)
        content = b"under way"

        async def body() -> Any:
            yield content

        _, linked = await house.engine.uploads.finish(upload, body(), None, Digest.of(content))
        ruled(house, read_only="inventory")
        with pytest.raises(ReadOnly):
            await house.commit(linked)
        assert used(house) == 1

    run(story())


def test_every_process_obeys_a_rule_from_the_moment_it_is_set(houses: Houses) -> None:
    here, there = houses.open(), houses.open()

    async def story() -> None:
        await here.push(UI, b"x" * 10)
        await there.engine.admit(UI, coming_bytes=HUGE)
        ruled(here, quota_bytes=10)
        with pytest.raises(Denied, match="nothing more fits"):
            await there.engine.admit(UI)
        ruled(here, quota_bytes=20)
        await there.engine.admit(UI, coming_bytes=10)
        with pytest.raises(QuotaExceeded):
            await there.engine.admit(UI, held_bytes=5, coming_bytes=6)
        await there.engine.admit(UI, held_bytes=15, digest=Digest.of(b"x" * 10))
        here.apply(rules.set_freeze("a new disk", 5))
        with pytest.raises(ReadOnly):
            await there.engine.admit(UI)
        here.apply(rules.set_freeze("", 5))
        await there.engine.admit(UI)

    run(story())
