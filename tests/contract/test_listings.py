"""What every engine promises of listings."""

from __future__ import annotations

import pytest

from gateway.engine.port import Page
from gateway.errors import NameUnknown
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository
from tests.contract.house import CONFIG, OTHER, UI, House, image, index, run

NAMES = ("Z", "_", "a", "a-b", "a.b", "a_b", "b", "v1", "v10", "v2")


def everybody(_: Repository) -> bool:
    return True


def test_tags_are_sorted_bytewise_and_paged(house: House) -> None:
    async def story() -> None:
        await house.push_image(UI, *reversed(NAMES))
        listings = house.engine.listings
        expected = sorted(NAMES, key=str.encode)
        assert await listings.tags(UI, after="", limit=100) == Page(tuple(expected), False)
        seen: list[str] = []
        more = True
        while more:
            page = await listings.tags(UI, after=seen[-1] if seen else "", limit=3)
            seen.extend(page.entries)
            more = page.more
        assert seen == expected
        assert await listings.tags(UI, after="a-c", limit=1) == Page(("a.b",), True)
        assert (await listings.tags(UI, after="", limit=0)).entries == ()
        assert await listings.tags(UI, after="zzz", limit=5) == Page((), False)

    run(story())


def test_a_repository_exists_while_it_holds_something(house: House) -> None:
    async def story() -> None:
        listings = house.engine.listings
        _, begun = await house.engine.uploads.begin(UI, "user:1")
        await house.commit(begun)
        with pytest.raises(NameUnknown):
            await listings.tags(UI, after="", limit=5)
        manifest = await house.push_image(UI, "v1")
        assert (await listings.tags(UI, after="", limit=5)).entries == ("v1",)
        await house.commit(house.engine.manifests.delete(UI, manifest.digest))
        assert (await listings.tags(UI, after="", limit=5)).entries == ()
        for content in (b"{}", b"a layer"):
            await house.commit(house.engine.blobs.delete(UI, Digest.of(content)))
        with pytest.raises(NameUnknown):
            await listings.tags(UI, after="", limit=5)
        assert (await listings.repositories(after="", limit=5, projects=None, admits=everybody)).entries == ()

    run(story())


def test_repositories_are_sorted_paged_and_only_those_admitted(house: House) -> None:
    async def story() -> None:
        names = ["gallery", "gallery/a", "gallery/a-b", "gallery/a/b", "gallery/b", "garden/x", "gz"]
        for name in names:
            await house.push(Repository(name), b"x")
        listings = house.engine.listings
        page = await listings.repositories(after="", limit=100, projects=None, admits=everybody)
        assert page == Page(tuple(sorted(names, key=str.encode)), False)
        within = [ProjectName("gallery"), ProjectName("gz"), ProjectName("nowhere")]
        page = await listings.repositories(after="gallery/a", limit=2, projects=within, admits=everybody)
        assert page == Page(("gallery/a-b", "gallery/a/b"), True)
        page = await listings.repositories(
            after="", limit=2, projects=within, admits=lambda repository: "b" in repository.name
        )
        assert page == Page(("gallery/a-b", "gallery/a/b"), True)
        assert (await listings.repositories(after="", limit=9, projects=[], admits=everybody)).entries == ()

    run(story())


def test_the_few_that_are_admitted_are_found_among_many(house: House) -> None:
    async def story() -> None:
        for number in range(120):
            await house.put(Repository(f"gallery/r{number:04}"), index([]))
        page = await house.engine.listings.repositories(
            after="", limit=1, projects=None, admits=lambda repository: repository.name.endswith(("0099", "0110"))
        )
        assert page == Page(("gallery/r0099",), True)

    run(story())


def test_referrers_are_what_has_the_subject_in_this_repository(house: House) -> None:
    async def story() -> None:
        subject = await house.push_image(UI, "v1")
        signed = await house.push_image(
            UI, layer=b"sig", subject=subject, artifact_type="application/x", annotations={"é": "ü"}
        )
        plain = await house.push_image(UI, layer=b"sbom", subject=subject)
        await house.push_image(OTHER, layer=b"elsewhere", subject=subject)
        listings = house.engine.listings
        page = await listings.referrers(UI, subject.digest, after="", limit=10)
        assert list(page.entries) == sorted([signed.descriptor, plain.descriptor], key=lambda entry: entry.digest)
        found = {entry.digest: entry for entry in page.entries}
        assert found[signed.digest].artifact_type == "application/x"
        assert found[signed.digest].annotations == {"é": "ü"}
        assert found[plain.digest].artifact_type == CONFIG
        for types, wanted in (
            ({"application/x"}, {signed}),
            ({CONFIG, "a/z"}, {plain}),
            ({"a/z"}, set()),
            ({"a\0b"}, set()),
        ):
            some = await listings.referrers(UI, subject.digest, after="", limit=10, types=types)
            assert {entry.digest for entry in some.entries} == {each.digest for each in wanted}
        first = await listings.referrers(UI, subject.digest, after="", limit=1)
        assert first.more
        rest = await listings.referrers(UI, subject.digest, after=first.entries[0].digest.text, limit=1)
        assert (*first.entries, *rest.entries) == page.entries
        assert not rest.more

    run(story())


def test_referrers_of_what_is_not_there_yet_are_listed_and_outlive_their_subject(house: House) -> None:
    async def story() -> None:
        listings = house.engine.listings
        subject = image(b"{}", b"a layer")
        assert await listings.referrers(UI, subject.digest, after="", limit=10) == Page((), False)
        referrer = await house.push_image(UI, layer=b"sig", subject=subject)
        await house.push_image(UI, "v1")
        await house.commit(house.engine.manifests.delete(UI, subject.digest))
        page = await listings.referrers(UI, subject.digest, after="", limit=10)
        assert [entry.digest for entry in page.entries] == [referrer.digest]
        assert (await house.engine.manifests.find(UI, referrer.digest)).content == referrer.content
        await house.commit(house.engine.manifests.delete(UI, referrer.digest))
        assert (await listings.referrers(UI, subject.digest, after="", limit=10)).entries == ()

    run(story())
