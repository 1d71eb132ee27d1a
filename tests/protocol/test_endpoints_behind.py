"""The edge in front of a registry: what is told, and what the trail says, when an act there comes to nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.event import Kind
from gateway.change import Change, Notes
from gateway.engine.upstream.assembly import upstream
from gateway.engine.upstream.client import Client, Peer
from gateway.oci.names import Repository
from gateway.records import intents
from gateway.registry.edge import Registry
from gateway.registry.replies import Send
from gateway.registry.request import Receive
from tests.house import GATEWAY, OPERATOR
from tests.protocol.harness import World, limited, sha256, world_on
from tests.services.daemon import scratch
from tests.services.distribution import Registry as Behind
from tests.services.distribution import running_registry

CONTENT = b"some layer"
NOWHERE = "http://127.0.0.1:9"


class InOneLoop(Registry):
    """The registry of a loop that ends with the request: what it connected to is let go."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.parts.engine.close()


@pytest.fixture(scope="module")
def behind() -> Iterator[Behind]:
    with scratch("edge") as directory, running_registry(directory) as registry:
        yield registry


@pytest.fixture(scope="module")
def world(behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("data")
    with world_on(f"sqlite:///{data / 'gateway.db'}", data) as made:
        yield in_front_of(made, data, behind.url)


def in_front_of(world: World, data: Path, url: str) -> World:
    parts = replace(world.registry.parts, engine=upstream(data, world.house.database, Client(Peer(url))))
    return replace(world, registry=InOneLoop(parts))


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is let go of because memory happens to be tidied."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def promised(world: World, name: str, size_bytes: int) -> None:
    """Another push to the repository is under way, and its bytes are to come."""

    def apply(connection: Any) -> Notes:
        act = {"digest": sha256(name.encode()), "size_bytes": size_bytes, "owner": "user:1", "upload": name}
        intents.begin(connection, name, "blob.push", Repository(name), act, {})
        return Notes()

    async def commit() -> None:
        async with world.house.gate.passage(GATEWAY, Kind.CONFIGURATION_CHANGE) as passage:
            await passage.commit(Change(apply))

    world.house.run(commit())


def full_but_for_promises(world: World) -> tuple[str, str]:
    """A repository whose project has room by what it holds, and none by what is about to come; and a token for it."""
    project = f"filling{next(world.numbers)}"
    world.house.run(world.acts.projects.add_project(OPERATOR, project))
    world.house.run(world.acts.projects.set_project(OPERATOR, project, quota_bytes=100))
    name = f"{project}/ui"
    promised(world, name, 95)
    return name, world.widest("root", name)


def uploads_of(world: World, name: str) -> list[str]:
    def look(connection: Any) -> list[str]:
        found = connection.exec_driver_sql("SELECT id, repository FROM uploads").all()
        return [row[0] for row in found if row[1] == name]

    return world.house.database.read_now(look)


def test_an_upload_that_has_no_room_beside_what_is_promised_is_gone_at_once(world: World, uncollected: None) -> None:
    name, token = full_but_for_promises(world)
    location = world.begin(token, name)
    assert world.ask("PATCH", location, token=token, body=CONTENT).status == 202

    with world.watching() as seen:
        answer = world.ask("PUT", f"{location}?digest={sha256(CONTENT)}", token=token)

    assert (answer.status, answer.code) == (403, "DENIED")
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("blob.push", "denied", "quota_exceeded")
    ]
    assert uploads_of(world, name) == []
    assert world.ask("GET", location, token=token).status == 404


def test_a_whole_blob_that_has_no_room_beside_what_is_promised_leaves_no_upload(
    world: World, uncollected: None
) -> None:
    name, token = full_but_for_promises(world)

    with world.watching() as seen:
        answer = world.ask("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(CONTENT)}", token=token, body=CONTENT)

    assert (answer.status, answer.code) == (403, "DENIED")
    assert [(event["kind"], event["reason"]) for event in seen] == [("blob.push", "quota_exceeded")]
    assert uploads_of(world, name) == []


def test_an_upload_whose_finish_is_refused_can_be_finished_once_the_rule_is_gone(
    world: World, uncollected: None
) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    assert world.ask("PATCH", location, token=token, body=CONTENT).status == 202
    held: list[Change] = []

    async def finish(*asked: Any) -> Any:
        blob, change = await world.registry.parts.engine.uploads.finish(*asked)
        await world.acts.projects.set_project(OPERATOR, "alpha", read_only="inventory")
        held.append(change)
        return blob, change

    engine = world.registry.parts.engine
    slow = limited(world, engine=replace(engine, uploads=_Uploads(engine.uploads, finish)))
    refused = slow.ask("PUT", f"{location}?digest={sha256(CONTENT)}", token=token)
    assert (refused.status, refused.code) == (403, "DENIED")
    world.house.run(world.acts.projects.set_project(OPERATOR, "alpha", read_only=""))

    assert world.ask("PUT", f"{location}?digest={sha256(CONTENT)}", token=token).status == 201


def test_a_mount_that_the_registry_behind_has_no_answer_for_leaves_an_event(world: World) -> None:
    source, target = world.name(), world.name()
    token = world.widest("alice", source, target)
    digest = world.push_blob(token, source, CONTENT)
    away = in_front_of(world, world.house.data, NOWHERE)

    with world.watching() as seen:
        answer = away.ask("POST", f"/v2/{target}/blobs/uploads/?mount={digest}&from={source}", token=token)

    assert answer.status == 502
    [event] = seen
    assert (event["kind"], event["outcome"], event["reason"]) == ("upload.begin", "failed", "upstream_unavailable")
    assert (event["principal"], event["repository"]) == ("alice", target)
    mounted = world.ask("POST", f"/v2/{target}/blobs/uploads/?mount={digest}&from={source}", token=token)
    assert mounted.status == 201


def test_a_whole_blob_that_the_registry_behind_does_not_take_leaves_one_event(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    away = in_front_of(world, world.house.data, NOWHERE)

    with world.watching() as seen:
        answer = away.ask("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(CONTENT)}", token=token, body=CONTENT)

    assert answer.status == 502
    assert [(event["kind"], event["reason"]) for event in seen] == [("blob.push", "upstream_unavailable")]
    assert uploads_of(world, name) == []


class _Uploads:
    """Uploads of an engine that finishes its own way."""

    def __init__(self, uploads: Any, finish: Any) -> None:
        self._uploads = uploads
        self.finish = finish

    def __getattr__(self, name: str) -> Any:
        return getattr(self._uploads, name)
