"""`/v2/NAME/blobs/DIGEST`: what downloads need to be whole, resumable and cacheable, and nobody else's."""

from __future__ import annotations

import asyncio

import pytest

from gateway.change import Notes
from gateway.errors import BlobUnknown
from gateway.gate import Act
from gateway.records.ledger import SqlLedger
from gateway.registry import blobs as blob_endpoints
from tests.protocol.harness import World, image, sha256, sha512

CONTENT = bytes(range(256)) * 8


def test_a_blob_is_told_of_before_it_is_sent(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    got, looked = (world.ask(method, f"/v2/{name}/blobs/{digest}", token=token) for method in ("GET", "HEAD"))
    assert (got.status, looked.status) == (200, 200)
    assert got.body == CONTENT
    assert got.told == looked.told
    assert got.header("content-length") == str(len(CONTENT))
    assert got.header("docker-content-digest") == digest
    assert got.header("content-type") == "application/octet-stream"
    assert got.header("etag") == f'"{digest}"'
    assert got.header("accept-ranges") == "bytes"
    assert got.header("cache-control") == "private, max-age=31536000, immutable"


def test_an_empty_blob_is_a_blob(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, b"")
    for method in ("GET", "HEAD"):
        answer = world.ask(method, f"/v2/{name}/blobs/{digest}", token=token, headers={"Range": "bytes=0-"})
        assert (answer.status, answer.header("content-length"), answer.body) == (200, "0", b"")


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=2000-", 2000, 2047), ("bytes=-48", 2000, 2047), ("bytes=100-99999", 100, 2047)],
)
def test_one_range_is_sent_alone(world: World, wanted: str, first: int, last: int) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    answer = world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token, headers={"Range": wanted})
    assert answer.status == 206
    assert answer.body == CONTENT[first : last + 1]
    assert answer.header("content-range") == f"bytes {first}-{last}/{len(CONTENT)}"
    assert answer.header("docker-content-digest") == digest


@pytest.mark.parametrize("wanted", ["bytes=5000-10000", "bytes=500-0", "bytes=-0"])
def test_a_range_behind_the_end_is_not_satisfiable(world: World, wanted: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    answer = world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token, headers={"Range": wanted})
    assert (answer.status, answer.code) == (416, "RANGE_INVALID")
    assert answer.header("content-range") == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,3-4"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=0-9", "If-Range": '"sha256:other"'},
        {"Accept-Encoding": "gzip, zstd"},
    ],
)
def test_what_cannot_be_served_in_part_is_served_whole_and_never_compressed(
    world: World, headers: dict[str, str]
) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    answer = world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token, headers=headers)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.header("content-encoding") == ""


def test_a_range_is_honoured_if_the_content_is_the_one_meant(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    headers = {"Range": "bytes=0-9", "If-Range": f'"{digest}"'}
    assert world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token, headers=headers).status == 206


def test_content_one_has_is_not_sent_again(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    for method in ("GET", "HEAD"):
        answer = world.ask(method, f"/v2/{name}/blobs/{digest}", token=token, headers={"If-None-Match": f'"{digest}"'})
        assert (answer.status, answer.body, answer.header("content-length")) == (304, b"", "")


def test_a_pull_is_recorded_before_its_first_byte(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    with world.watching() as seen:
        world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token)
    [event] = seen
    assert (event["kind"], event["outcome"], event["principal"]) == ("blob.pull", "allowed", "alice")
    assert (event["project"], event["repository"], event["digest"]) == ("alpha", name, digest)
    assert (event["bytes"], event["status"], event["action"]) == (len(CONTENT), 200, "pull")


def test_a_look_is_no_event(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    with world.watching() as seen:
        assert world.ask("HEAD", f"/v2/{name}/blobs/{digest}", token=token).status == 200
        assert world.ask("HEAD", f"/v2/{name}/blobs/{sha256(b'?')}", token=token).status == 404
    assert seen == []


def test_a_stream_that_is_cut_leaves_a_second_event_with_what_was_sent(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    content = bytes(700_000)
    digest = world.push_blob(token, name, content)
    with world.watching() as seen:
        answer = world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token, deaf_after=2)
    assert not answer.complete
    assert [(event["kind"], event["outcome"]) for event in seen] == [
        ("blob.pull", "allowed"),
        ("blob.pull.ended", "failed"),
    ]
    assert (seen[1]["bytes"], seen[1]["reason"]) == (len(answer.body), "client_disconnected")
    assert 0 < len(answer.body) < len(content)


@pytest.mark.parametrize("heard", [0, 1], ids=["nothing", "the head"])
def test_what_goes_out_in_one_piece_and_is_not_taken_was_not_sent(world: World, heard: int) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)
    manifest = world.push_image(token, name, "v1")
    asked = [(f"/v2/{name}/blobs/{digest}", len(CONTENT)), (f"/v2/{name}/manifests/v1", len(manifest))]
    for path, size_bytes in asked:
        with world.watching() as seen:
            world.ask("GET", path, token=token, deaf_after=heard)
        pull, ended = seen
        assert (pull["outcome"], pull["bytes"]) == ("allowed", size_bytes)
        assert (ended["kind"], ended["outcome"], ended["bytes"]) == ("blob.pull.ended", "failed", 0)


def test_a_pull_that_is_cancelled_while_it_is_recorded_sent_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, LARGE)
    commit = SqlLedger.commit

    async def cancelled(ledger: SqlLedger, act: Act) -> Notes:
        await commit(ledger, act)
        monkeypatch.undo()
        raise asyncio.CancelledError

    monkeypatch.setattr(SqlLedger, "commit", cancelled)
    with world.watching() as seen, pytest.raises(asyncio.CancelledError):
        world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token)

    assert [(event["kind"], event["bytes"]) for event in seen] == [("blob.pull", len(LARGE)), ("blob.pull.ended", 0)]


LARGE = bytes(range(256)) * 1024


def test_a_blob_that_ends_too_early_never_ends_cleanly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, LARGE)
    reads = type(world.registry.parts.engine.blobs)

    async def short(*_: object) -> object:
        yield LARGE[:10]

    monkeypatch.setattr(reads, "read", short)
    with world.watching() as seen, pytest.raises(RuntimeError, match="ended after 10 of 262144"):
        world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token)
    assert [(event["kind"], event.get("bytes")) for event in seen] == [("blob.pull", 262144), ("blob.pull.ended", 10)]


def test_a_small_blob_that_ends_too_early_is_not_begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)

    async def short(*_: object) -> object:
        yield CONTENT[:10]

    monkeypatch.setattr(type(world.registry.parts.engine.blobs), "read", short)
    with world.watching() as seen:
        assert world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token).status == 500
    assert [(event["kind"], event["outcome"]) for event in seen] == [("blob.pull", "failed")]


def test_a_refusal_in_the_middle_of_a_blob_cuts_it_and_starts_no_second_reply(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, LARGE)

    async def refuses(*_: object) -> object:
        yield LARGE[:10]
        raise BlobUnknown("It was deleted meanwhile.")

    monkeypatch.setattr(type(world.registry.parts.engine.blobs), "read", refuses)
    with pytest.raises(BlobUnknown):
        world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token)


def test_a_fault_before_the_first_byte_is_a_500_that_tells_nothing_but_its_number(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = world.push_blob(token, name, CONTENT)

    def fails(*_: object) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(blob_endpoints, "parse_range", fails)
    with world.watching() as seen:
        answer = world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token)
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert answer.json()["errors"][0]["detail"] == {"request_id": answer.header("x-request-id")}
    assert b"secret" not in answer.body
    assert [(event["outcome"], event["reason"]) for event in seen] == [("failed", "fault")]


def test_knowing_a_digest_gives_nothing_elsewhere(world: World) -> None:
    name, other = world.name(), world.name()
    token = world.widest("alice", name, other)
    digest = world.push_blob(token, name, CONTENT)
    for method in ("GET", "HEAD", "DELETE"):
        holder = world.widest("dave", other)
        answer = world.ask(method, f"/v2/{other}/blobs/{digest}", token=holder)
        assert answer.status == 404
    assert world.ask("GET", f"/v2/{other}/blobs/{digest}", token=token).code == "BLOB_UNKNOWN"


@pytest.mark.parametrize("digest", ["sha256:abc", "sha256:" + "A" * 64, "md5:" + "0" * 32, "x", ""])
def test_a_digest_that_is_none_is_refused(world: World, digest: str) -> None:
    answer = world.ask("GET", f"/v2/{world.name()}/blobs/{digest}", token=world.token("alice"))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_an_upload_is_begun_without_the_last_slash_too(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    begun = world.ask("POST", f"/v2/{name}/blobs/uploads", token=token)
    assert (begun.status, begun.header("docker-upload-uuid") != "") == (202, True)
    whole = world.ask("POST", f"/v2/{name}/blobs/uploads?digest={sha256(CONTENT)}", token=token, body=CONTENT)
    assert whole.status == 201
    assert world.ask("GET", f"/v2/{name}/blobs/uploads", token=token).status == 405


def test_an_act_that_failed_is_recorded_without_the_status_that_it_would_have_had(world: World) -> None:
    name = world.name()
    token = world.widest("dave", name)
    layer, missing = world.push_blob(token, name, CONTENT), image(b"none of this is here")
    manifest = image(b"{}", CONTENT)
    world.push_blob(token, name, b"{}")
    world.push_manifest(token, name, "v1", manifest)
    stranger = world.token("bob")
    with world.watching() as seen:
        refused = [
            world.push_manifest(token, name, "v2", missing).status,
            world.ask("DELETE", f"/v2/{name}/blobs/{layer}", token=token).status,
            world.ask("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(b'x')}", token=token, body=CONTENT).status,
            world.ask("PUT", f"/v2/{name}/manifests/v2", token=stranger, body=manifest).status,
        ]
    assert refused == [400, 405, 400, 401]
    assert {event["outcome"] for event in seen} == {"failed", "denied"}
    assert [event.get("status") for event in seen] == [None] * 4


def test_a_sha512_digest_is_answered_with_itself(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    digest = sha512(CONTENT)
    answer = world.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", token=token, body=CONTENT)
    assert (answer.status, answer.header("docker-content-digest")) == (201, digest)
    got = world.ask("GET", answer.header("location"), token=token)
    assert (got.body, got.header("docker-content-digest")) == (CONTENT, digest)


def test_a_blob_is_deleted_from_this_repository_alone(world: World) -> None:
    name, other = world.name(), world.name()
    token = world.widest("dave", name, other)
    digest = world.push_blob(token, name, CONTENT)
    world.push_blob(token, other, CONTENT)
    with world.watching() as seen:
        answer = world.ask("DELETE", f"/v2/{name}/blobs/{digest}", token=token)
    assert (answer.status, answer.header("content-length")) == (202, "0")
    [event] = seen
    assert (event["kind"], event["outcome"], event["digest"]) == ("blob.delete", "allowed", digest)
    assert world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token).status == 404
    assert world.ask("GET", f"/v2/{other}/blobs/{digest}", token=token).status == 200
    assert world.ask("DELETE", f"/v2/{name}/blobs/{digest}", token=token).code == "BLOB_UNKNOWN"


def test_a_blob_that_a_manifest_needs_stays(world: World) -> None:
    name = world.name()
    token = world.widest("dave", name)
    world.push_image(token, name, "v1", layer=CONTENT)
    answer = world.ask("DELETE", f"/v2/{name}/blobs/{sha256(CONTENT)}", token=token)
    assert (answer.status, answer.code, answer.header("allow")) == (405, "UNSUPPORTED", "GET, HEAD")
    world.ask("DELETE", f"/v2/{name}/manifests/{sha256(image(b'{}', CONTENT))}", token=token)
    assert world.ask("DELETE", f"/v2/{name}/blobs/{sha256(CONTENT)}", token=token).status == 202
