"""Listings in front of a registry: its tags, asked for once in a while, and nothing made of an answer that is none."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gateway.engine.upstream.listings import UpstreamListings
from gateway.errors import NameUnknown, UpstreamFailed
from gateway.oci.names import Tag
from gateway.records import schema
from tests.contract.house import UI, House, Houses, image, run
from tests.engine.behind import Behind, Script, refusal, rows
from tests.faults.peer import misbehaving
from tests.services.distribution import Registry

MANIFEST = image(b"{}", b"a layer")
PATH = f"/v2/{UI}/tags/list?n=1000"
JSON = {"Content-Type": "application/json"}


def listed(*names: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {**JSON, **headers}, json.dumps({"name": UI.name, "tags": names}).encode()


async def tags(house: House, after: str = "", limit: int = 1000) -> list[str]:
    return list((await house.engine.listings.tags(UI, after=after, limit=limit)).entries)


def test_tags_pushed_past_the_gateway_are_listed_bytewise_less_those_removed_here(front: House, behind: Behind) -> None:
    async def story() -> None:
        for blob in (b"{}", b"a layer"):
            await behind.keep(UI, blob)
        for name in ("v2", "Z", "v10", "_", "v1"):
            await behind.put(UI, MANIFEST, name)
        assert await tags(front) == ["Z", "_", "v1", "v10", "v2"]
        await front.commit(front.engine.manifests.untag(UI, Tag("v10")))
        assert await tags(front) == ["Z", "_", "v1", "v2"]
        await front.put(UI, MANIFEST, "v10", "v11")
        assert await tags(front) == ["Z", "_", "v1", "v10", "v11", "v2"]

    run(story())


def test_going_through_the_pages_asks_once_and_no_memory_is_older_than_ten_seconds(
    fronts: Callable[[Behind], Houses],
) -> None:
    with misbehaving(Script(GET=listed(*(f"v{number:03}" for number in range(100))))) as peer:
        house = fronts(Behind(peer.url)).open()
        now = 0.0

        async def story() -> None:
            nonlocal now
            listings = UpstreamListings(house.engine.listings._client, house.database, lambda: now)  # type: ignore[attr-defined]
            seen: list[str] = []
            more = True
            while more:
                page = await listings.tags(UI, after=seen[-1] if seen else "", limit=7)
                seen += page.entries
                more = page.more
            assert len(seen) == 100
            assert len(peer.requests) == 1
            now = 9.0
            await listings.tags(UI, after="", limit=1)
            assert len(peer.requests) == 1
            now = 11.0
            await listings.tags(UI, after="", limit=1)
            assert len(peer.requests) == 2

        run(story())


def test_a_registry_that_pages_is_followed_on_its_own_ground(fronts: Callable[[Behind], Houses]) -> None:
    script = Script()
    script.answers[f"GET {PATH}"] = listed("v1", Link='<http://elsewhere.test/x?n=2&last=v1>; rel="next"')
    script.answers[f"GET /v2/{UI}/tags/list?n=2&last=v1"] = listed("v2", "not a tag")
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()
        assert run(tags(house)) == ["v1", "v2"]


def test_pages_without_end_and_lists_without_measure_are_refused(fronts: Callable[[Behind], Houses]) -> None:
    round_and_round = listed("v1", Link=f'</v2/{UI}/tags/list?n=1000&last=v1>; rel="next"')
    for answer in (round_and_round, listed(*(f"v{number}" for number in range(200_001)))):
        with misbehaving(Script(GET=answer)) as peer:
            house = fronts(Behind(peer.url)).open()
            if answer is round_and_round:
                assert run(tags(house)) == ["v1"]
                assert len(peer.requests) == 2
            else:
                with pytest.raises(UpstreamFailed):
                    run(tags(house))


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Type": "text/html"}, b"<html>"),
        (200, JSON, b"{}"),
        (200, JSON, b'{"tags": [1]}'),
        (200, JSON, b'{"tags": "v1"}'),
        (404, {"Content-Type": "text/html"}, b"<html>"),
        (404, {}, b""),
        (500, {}, b""),
        (429, {}, b""),
    ],
)
def test_an_answer_that_is_none_makes_nothing_forgotten_and_is_not_remembered(
    answer: tuple[int, dict[str, str], bytes], fronts: Callable[[Behind], Houses]
) -> None:
    script = Script(PUT=(201, {}, b""), GET=answer)
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            await house.put(UI, MANIFEST, "v1")
            with pytest.raises(UpstreamFailed):
                await tags(house)
            assert rows(house, schema.tags) == rows(house, schema.manifests) == 1
            script.answers["GET"] = listed("v1")
            assert await tags(house) == ["v1"]

        run(story())


def test_a_repository_is_unknown_only_if_neither_side_knows_it(
    front: House, behind: Behind, registry: Registry
) -> None:
    async def story() -> None:
        with pytest.raises(NameUnknown):
            await tags(front)
        await behind.put(UI, MANIFEST, "v1", b"{}", b"a layer")
        assert await tags(front) == ["v1"]
        await front.put(UI, MANIFEST, "v2")
        registry.forget()
        assert await tags(front) == []

    run(story())


def test_a_registry_may_say_that_it_has_no_tags_in_several_ways(fronts: Callable[[Behind], Houses]) -> None:
    script = Script(PUT=(201, {}, b""))
    with misbehaving(script) as peer:
        house = fronts(Behind(peer.url)).open()

        async def story() -> None:
            for number, answer in enumerate((listed(), (200, JSON, b'{"tags": null}'), refusal(404, "NAME_UNKNOWN"))):
                script.answers["GET"] = answer
                await house.put(UI, MANIFEST, f"v{number}")
                assert await tags(house) == []

        run(story())
