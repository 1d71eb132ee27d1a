"""Referrers made to cost much: a page of them is bounded in memory, and a hostile fallback index holds nobody up."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from gateway.oci.digest import Digest
from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from gateway.oci.names import Repository
from tests.protocol.harness import World, descriptor, image, sha256, world_on

NAME = "pub/costly"
SUBJECT = image(b"{}", b"a layer")
LARGE = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("costly")
    with world_on(f"sqlite:///{data / 'gateway.db'}", data) as made:
        token = made.widest("alice", NAME)
        made.push_image(token, NAME, "v1")
        for number in range(LARGE):
            content = image(b"{}", subject=SUBJECT, annotations={"n": str(number), "long": "x" * 2_000_000})
            assert made.push_manifest(token, NAME, sha256(content), content).status == 201
        yield made


def test_all_large_referrers_are_found_in_small_pages(world: World) -> None:
    target, digests, pages = f"/v2/{NAME}/referrers/{sha256(SUBJECT)}", [], 0
    while target:
        answer = world.ask("GET", target, token=world.token("", f"repository:{NAME}:pull"))
        assert answer.status == 200
        assert len(answer.body) < 4 * 1024 * 1024
        digests += [each["digest"] for each in answer.json()["manifests"]]
        link = answer.header("link")
        target, pages = link[1:].partition(">")[0] if link else "", pages + 1
    assert len(set(digests)) == len(digests) == LARGE
    assert digests == sorted(digests)
    assert pages > 5


@pytest.mark.alone
def test_large_referrers_that_nobody_asked_for_cost_next_to_nothing(world: World) -> None:
    token, target = world.token("", f"repository:{NAME}:pull"), f"/v2/{NAME}/referrers/{sha256(SUBJECT)}"
    begun = time.monotonic()
    answers = [world.ask("GET", f"{target}?artifactType=none", token=token) for _ in range(20)]
    assert time.monotonic() - begun < 1.5
    assert all(answer.json()["manifests"] == [] for answer in answers)


def test_a_page_of_large_referrers_takes_little_memory(world: World) -> None:
    listings = world.registry.parts.engine.listings
    tracemalloc.start()
    try:
        page = asyncio.run(listings.referrers(Repository(NAME), Digest(sha256(SUBJECT)), after="", limit=1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1 <= len(page.entries) <= 2
    assert page.more
    assert peak < 32 * 1024 * 1024


@pytest.mark.alone
def test_a_hostile_fallback_index_holds_nobody_up(world: World) -> None:
    token = world.widest("alice", NAME)
    other = image(b"{}", b"a layer", annotations={"is": "another subject"})
    tag = "sha256-" + sha256(other)[7:]
    bomb = b'{"schemaVersion":2,"manifests":[],"x":[' + b"[]," * 130_000 + b'"' + b"x" * 3_700_000 + b'"]}'
    assert world.push_manifest(token, NAME, tag, bomb, OCI_INDEX).status == 201
    begun = time.monotonic()
    answers = [world.ask("GET", f"/v2/{NAME}/referrers/{sha256(other)}", token=token) for _ in range(10)]
    assert time.monotonic() - begun < 2
    assert all(answer.json()["manifests"] == [] for answer in answers)
    # One that older clients keep, of a size that they keep, is told.
    told = image(b"{}", subject=other)
    assert world.push_manifest(token, NAME, sha256(told), told).status == 201
    kept = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(SUBJECT, OCI_MANIFEST)]}
    assert world.push_manifest(token, NAME, tag, json.dumps(kept).encode() + b" " * 200_000, OCI_INDEX).status == 201
    answer = world.ask("GET", f"/v2/{NAME}/referrers/{sha256(other)}", token=token)
    assert {each["digest"] for each in answer.json()["manifests"]} == {sha256(told), sha256(SUBJECT)}
