"""Indexes in indexes: a few deep, as builders nest them, and no deeper, whichever comes first."""

from __future__ import annotations

from gateway.oci.manifest import NESTING
from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from tests.protocol.harness import Answer, World, index, sha256


def nested(child: bytes, depth: int, **more: object) -> list[bytes]:
    """Indexes in one another, the innermost first; that one lists *child*, an image."""
    made, media_type = [], OCI_MANIFEST
    for _ in range(depth):
        child = index((child, media_type), **more)
        made.append(child)
        media_type = OCI_INDEX
    return made


def push(world: World, token: str, name: str, content: bytes) -> Answer:
    return world.push_manifest(token, name, sha256(content), content, OCI_INDEX)


def test_indexes_nest_eight_deep_and_no_deeper(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    *shallow, last = nested(world.push_image(token, name), NESTING + 1)
    assert [push(world, token, name, each).status for each in shallow] == [201] * NESTING
    refused = push(world, token, name, last)
    assert (refused.status, refused.code) == (400, "MANIFEST_INVALID")
    assert "at most 8 deep" in refused.json()["errors"][0]["message"]
    assert push(world, token, name, shallow[-1]).status == 201, "pushed again"


def test_a_chain_does_not_grow_by_a_link_that_was_missing(world: World) -> None:
    name = world.name()
    token = world.widest("dave", name)
    chain = nested(world.push_image(token, name), NESTING)
    for each in chain:
        assert push(world, token, name, each).status == 201
    missing = f"/v2/{name}/manifests/{sha256(chain[3])}"
    assert world.ask("DELETE", missing, token=token).status == 202
    assert push(world, token, name, index((chain[-1], OCI_INDEX))).status == 201
    assert push(world, token, name, chain[3]).status == 400


def test_a_wide_index_is_as_deep_as_its_deepest(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    image = world.push_image(token, name)
    chain = nested(image, NESTING)
    for each in chain:
        assert push(world, token, name, each).status == 201
    siblings = [(each, OCI_INDEX) for each in chain[:-1]]
    assert push(world, token, name, index((image, OCI_MANIFEST), *siblings)).status == 201
    assert (
        push(world, token, name, index((image, OCI_MANIFEST), (chain[0], OCI_INDEX), (chain[-1], OCI_INDEX))).status
        == 400
    )
