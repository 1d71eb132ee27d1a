"""Damaged blobs over HTTP: never given out as whole, put aside, and healed by the next push of the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.administration.checking import Checks
from gateway.engine.embedded.keeper import Keeper
from gateway.engine.embedded.layout import blob_key
from gateway.oci.digest import Digest
from gateway.registry.blobs import SMALL_BYTES
from tests.house import GATEWAY
from tests.protocol.harness import World, sha256


def checks(world: World) -> Checks:
    house = world.house
    return Checks(house.gate, house.database, house.trail, Keeper(house.data, house.database))


def file_of(world: World, digest: str) -> Path:
    return world.house.data / blob_key(Digest(digest))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


@pytest.mark.parametrize("size", [3_000, 300_000])
def test_rot_is_put_aside_and_healed_by_a_push(world: World, size: int) -> None:
    name, token, layer = world.name(), "", os.urandom(size)
    token = world.widest("alice", name)
    world.push_image(token, name, "v1", layer=layer)
    digest, path = sha256(layer), f"/v2/{name}/blobs/{sha256(layer)}"
    # A look that went well is remembered, and must not be when the blob is gone.
    assert [world.ask("HEAD", path, token=token).status for _ in range(2)] == [200, 200]
    flip(file_of(world, digest))
    if size > SMALL_BYTES:
        with pytest.raises(OSError, match="digest"):  # which cuts the transfer
            world.ask("GET", path, token=token)
    else:
        assert world.ask("GET", path, token=token).status == 503

    assert world.house.run(checks(world).settle(GATEWAY)) == 1
    with world.watching() as events:
        got = world.ask("GET", path, token=token)
    assert (got.status, got.code) == (503, "UNAVAILABLE")
    assert "push the blob again" in got.json()["errors"][0]["message"]
    assert [(event["kind"], event["outcome"]) for event in events] == [("blob.pull", "failed")]
    assert world.house.run(checks(world).settle(GATEWAY)) == 0

    # Clients look before they push, and push what is not here.
    assert world.ask("HEAD", path, token=token).status == 404
    assert world.ask("GET", f"/v2/{name}/manifests/v1", token=token).status == 200
    world.push_blob(token, name, layer)
    got = world.ask("GET", path, token=token)
    assert (got.status, got.body) == (200, layer)
    assert world.ask("HEAD", path, token=token).status == 200
    assert [event["digest"] for event in world.records(kind="integrity.failure", digest=digest)] == [digest]


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_push_to_another_repository_heals_all_that_hold_the_blob(world: World, damage: str) -> None:
    one, two = world.name(), world.name()
    layer = os.urandom(5_000)
    token = world.widest("alice", one, two)
    digest = world.push_blob(token, one, layer)
    if damage == "missing":
        file_of(world, digest).unlink()
    else:
        os.truncate(file_of(world, digest), 3)
    # What cannot be mounted is uploaded.
    mounting = world.ask("POST", f"/v2/{two}/blobs/uploads/?mount={digest}&from={one}", token=token)
    assert mounting.status == 202
    finished = world.ask("PUT", f"{mounting.header('location')}?digest={digest}", token=token, body=layer)
    assert finished.status == 201
    for name in (one, two):
        assert world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token).body == layer
    world.house.run(checks(world).settle(GATEWAY))
    assert world.records(kind="integrity.failure", digest=digest) == []


def test_who_looks_before_a_push_or_a_mount_is_told_of_rot_before_anybody_has_judged_it(world: World) -> None:
    one, two = world.name(), world.name()
    layer = os.urandom(3_000)
    token = world.widest("alice", one, two)
    digest = world.push_blob(token, one, layer)
    path, mount = f"/v2/{one}/blobs/{digest}", f"/v2/{two}/blobs/uploads/?mount={digest}&from={one}"
    flip(file_of(world, digest))
    assert world.ask("GET", path, token=token).status == 503

    assert world.ask("HEAD", path, token=token).status == 404
    assert world.ask("POST", mount, token=token).status == 202

    world.push_blob(token, one, layer)
    assert world.ask("HEAD", path, token=token).status == 200
    assert world.ask("POST", mount, token=token).status == 201
    assert world.ask("GET", path, token=token).body == layer
