"""Clients are warned where the engine stands in for what the registry behind it cannot do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.engine.port import Feature
from tests.protocol.harness import World, limited, sha256

UNTAG = "The tag is hidden here; the registry behind keeps it."
REFERRERS = 'Only what came through here is listed, "all" of it.'


@pytest.fixture
def emulating(world: World) -> World:
    engine = replace(world.registry.parts.engine, emulated={Feature.UNTAG: UNTAG, Feature.REFERRERS: REFERRERS})
    return limited(world, engine=engine)


def test_deleting_a_tag_that_is_only_hidden_warns(emulating: World) -> None:
    name = emulating.name()
    token = emulating.widest("dave", name)
    emulating.push_image(token, name, "v1")

    answer = emulating.ask("DELETE", f"/v2/{name}/manifests/v1", token=token)

    assert answer.status == 202
    assert answer.header("warning") == f'299 - "{UNTAG}"'


def test_referrers_that_are_only_known_in_part_warn_in_a_way_every_client_can_read(emulating: World) -> None:
    name = emulating.name()
    token = emulating.widest("dave", name)
    subject = emulating.push_image(token, name, "v1")

    answer = emulating.ask("GET", f"/v2/{name}/referrers/{sha256(subject)}", token=token)

    assert answer.status == 200
    assert answer.header("warning") == '299 - "Only what came through here is listed, all of it."'


def test_deleting_by_digest_is_real_and_warns_of_nothing(emulating: World) -> None:
    name = emulating.name()
    token = emulating.widest("dave", name)
    content = emulating.push_image(token, name, "v1")

    answer = emulating.ask("DELETE", f"/v2/{name}/manifests/{sha256(content)}", token=token)

    assert (answer.status, answer.all("warning")) == (202, [])


def test_an_engine_that_can_do_all_warns_of_nothing(world: World) -> None:
    name = world.name()
    token = world.widest("dave", name)
    subject = world.push_image(token, name, "v1")

    listed = world.ask("GET", f"/v2/{name}/referrers/{sha256(subject)}", token=token)
    untagged = world.ask("DELETE", f"/v2/{name}/manifests/v1", token=token)

    assert (listed.all("warning"), untagged.all("warning")) == ([], [])
