"""`/v2/NAME/blobs/uploads/`: every shape in which clients send a blob, and what an upload is worth to others."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engine.port import Interrupted
from tests.house import OPERATOR
from tests.protocol.harness import Answer, World, challenge_of, in_query, sha256, sha512

CONTENT = bytes(range(256)) * 16


def finish(world: World, token: str, location: str, content: bytes, body: bytes = b"", **headers: str) -> Answer:
    return world.ask("PUT", f"{location}?digest={sha256(content)}", token=token, body=body, headers=headers)


def chunk(world: World, token: str, location: str, body: bytes, at: str = "", method: str = "PATCH") -> Answer:
    return world.ask(method, location, token=token, body=body, headers={"Content-Range": at} if at else {})


def test_an_upload_begins_with_where_to_send_the_bytes(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    with world.watching() as seen:
        answer = world.ask(
            "POST", f"/v2/{name}/blobs/uploads/", token=token, headers={"Content-Type": "application/json"}
        )
    assert answer.status == 202
    number = answer.header("docker-upload-uuid")
    assert answer.header("location") == f"/v2/{name}/blobs/uploads/{number}"
    assert answer.header("range") == "0-0"
    assert answer.header("content-length") == "0"
    assert int(answer.header("oci-chunk-min-length")) >= 1
    assert seen == [], "a step that succeeds is no event"


def test_a_stream_without_length_or_range_is_taken_and_finished_by_an_empty_put(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    sent = world.ask("PATCH", location, token=token, body=[CONTENT[:1000], CONTENT[1000:], b""])
    assert (sent.status, sent.header("range")) == (202, f"0-{len(CONTENT) - 1}")
    assert sent.header("location").startswith("/v2/")
    with world.watching() as seen:
        answer = finish(world, token, sent.header("location"), CONTENT)
    digest = sha256(CONTENT)
    assert answer.status == 201
    assert answer.header("docker-content-digest") == digest
    assert answer.header("location") == f"/v2/{name}/blobs/{digest}"
    assert world.ask("GET", answer.header("location"), token=token).body == CONTENT
    [event] = [event for event in seen if event["kind"] == "blob.push"]
    assert (event["outcome"], event["digest"], event["bytes"]) == ("allowed", digest, len(CONTENT))


def test_a_single_put_with_the_whole_body_is_enough(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    assert finish(world, token, world.begin(token, name), CONTENT, CONTENT).status == 201
    pieces = world.ask(
        "PUT", f"{world.begin(token, name)}?digest={sha256(CONTENT)}", token=token, body=[CONTENT[:9], CONTENT[9:]]
    )
    assert pieces.status == 201


def test_an_empty_blob_may_be_put_without_a_length(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    answer = world.ask("PUT", f"{world.begin(token, name)}?digest={sha256(b'')}", token=token, body=[b""])
    assert answer.status == 201


def test_chunks_with_ranges_go_on_where_the_last_one_ended(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    assert chunk(world, token, location, CONTENT[:100], "0-99").header("range") == "0-99"
    assert chunk(world, token, location, CONTENT[100:200], "100-199").header("range") == "0-199"
    last = f"200-{len(CONTENT) - 1}"
    assert finish(world, token, location, CONTENT, CONTENT[200:], **{"Content-Range": last}).status == 201


def test_a_range_may_be_written_as_http_has_it(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    assert chunk(world, token, world.begin(token, name), CONTENT[:10], "bytes 0-9/10").header("range") == "0-9"


@pytest.mark.parametrize("at", ["5-14", "50-59"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_chunk_with_a_gap_is_told_where_the_upload_stands_and_can_go_on(world: World, at: str, method: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    chunk(world, token, location, CONTENT[:20])
    target = location if method == "PATCH" else f"{location}?digest={sha256(CONTENT)}"
    answer = chunk(world, token, target, CONTENT[:10], at, method)
    assert (answer.status, answer.code) == (416, "RANGE_INVALID")
    assert (answer.header("location"), answer.header("range")) == (location, "0-19")
    status = world.ask("GET", location, token=token)
    assert (status.status, status.header("range"), status.header("location")) == (204, "0-19", location)
    assert finish(world, token, location, CONTENT, CONTENT[20:]).status == 201


@pytest.mark.parametrize("at", ["0-99", "0-8"])
def test_a_chunk_is_as_long_as_its_range(world: World, at: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    assert chunk(world, token, location, CONTENT[:10], at).code == "SIZE_INVALID"
    pieces = world.ask("PATCH", location, token=token, body=[CONTENT[:10]], headers={"Content-Range": at})
    assert (pieces.status, pieces.code) == (400, "SIZE_INVALID")


def test_a_chunk_that_will_not_be_as_long_as_its_range_is_refused_before_it_is_read(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    headers = {"Content-Range": "0-9", "Content-Length": "99"}
    assert world.ask("PATCH", location, token=token, body=b"x", cut=True, headers=headers).code == "SIZE_INVALID"
    assert world.ask("GET", location, token=token).header("range") == "0-0"


@pytest.mark.parametrize("at", ["x", "9-0", "0-", "-5", "0-9-9", "bytes=0-9"])
def test_a_range_that_is_none_is_refused(world: World, at: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    answer = chunk(world, token, world.begin(token, name), CONTENT[:10], at)
    assert (answer.status, answer.code) == (400, "BLOB_UPLOAD_INVALID")


@pytest.mark.parametrize("length", ["20", "5"])
def test_a_body_is_as_long_as_its_length(world: World, length: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    answer = world.ask("PATCH", location, token=token, body=CONTENT[:10], headers={"Content-Length": length})
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")


@pytest.mark.parametrize("length", ["-1", "+5", "0x5", "1" * 30, "1" * 5000, "five"])
def test_a_length_that_is_none_is_refused(world: World, length: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    answer = world.ask("PATCH", location, token=token, body=b"x", headers={"Content-Length": length})
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")


def test_an_upload_without_bytes_stands_at_one_that_clients_can_read(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    assert world.ask("PATCH", location, token=token).header("range") == "0-0"
    assert world.ask("GET", location, token=token).header("range") == "0-0"


def test_a_chunk_that_stops_half_way_is_kept_and_resumed(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    cut = world.ask("PATCH", location, token=token, body=[CONTENT[:1500]], cut=True)
    assert cut.status == 0
    assert world.ask("GET", location, token=token).header("range") == "0-1499"
    assert chunk(world, token, location, CONTENT[1500:2000], "1500-1999").status == 202
    assert finish(world, token, location, CONTENT, CONTENT[2000:]).status == 201


def test_a_last_chunk_that_stops_half_way_leaves_the_upload_usable_and_is_recorded(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    with world.watching() as seen:
        cut = world.ask("PUT", f"{location}?digest={sha256(CONTENT)}", token=token, body=[CONTENT[:10]], cut=True)
    assert cut.status == 0
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("blob.push", "failed", "client_disconnected")
    ]
    offset = int(world.ask("GET", location, token=token).header("range").partition("-")[2])
    rest = CONTENT[offset + 1 :] if offset else CONTENT
    assert finish(world, token, location, CONTENT, rest).status == 201


def test_a_wrong_digest_is_refused_and_the_upload_is_gone(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    with world.watching() as seen:
        answer = world.ask("PUT", f"{location}?digest={sha256(b'else')}", token=token, body=CONTENT)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("blob.push", "failed", "digest_invalid")
    ]
    assert finish(world, token, location, CONTENT).status == 404
    assert world.ask("HEAD", f"/v2/{name}/blobs/{sha256(b'else')}", token=token).status == 404


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:abc", "?digest=md5:" + "0" * 32])
def test_a_missing_or_malformed_digest_is_refused_and_the_upload_stays(world: World, query: str) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    answer = world.ask("PUT", location + query, token=token, body=CONTENT)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert finish(world, token, location, CONTENT, CONTENT).status == 201


def test_the_digest_may_stand_anywhere_in_the_query_and_be_escaped(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    query = f"?_state=x&ns=docker.io&digest={in_query(sha512(CONTENT))}&origin=y"
    answer = world.ask("PUT", location + query, token=token, body=CONTENT)
    assert (answer.status, answer.header("docker-content-digest")) == (201, sha512(CONTENT))


def test_an_upload_may_be_cancelled_with_the_right_to_push_alone(world: World) -> None:
    name = world.name()
    token = world.token("alice", f"repository:{name}:push,pull")
    location = world.begin(token, name)
    assert world.ask("DELETE", location, token=token).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        answer = world.ask(method, location, token=token)
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_for_anybody_else_an_upload_does_not_exist(world: World) -> None:
    name, other = world.name(), world.name()
    token = world.widest("alice", name, other)
    location = world.begin(token, name)
    number = location.rpartition("/")[2]
    elsewhere = f"/v2/{other}/blobs/uploads/{number}"
    strangers = [(world.widest("dave", name), location), (world.widest("root", name), location), (token, elsewhere)]
    unknown = world.ask("GET", f"/v2/{name}/blobs/uploads/00000000-0000-4000-8000-000000000000", token=token)
    for asker, target in strangers:
        for method in ("GET", "PATCH", "DELETE"):
            answer = world.ask(method, target, token=asker)
            assert (answer.status, answer.body) == (404, unknown.body)
        assert finish(world, asker, target, CONTENT, CONTENT).code == "BLOB_UPLOAD_UNKNOWN"
    assert finish(world, token, location, CONTENT, CONTENT).status == 201


@pytest.mark.parametrize("number", ["x", "../etc", "%00", "a" * 500, "é", "1;2", "%2e%2e"])
def test_what_is_no_upload_is_unknown_or_nothing(world: World, number: str) -> None:
    name = world.name()
    answer = world.ask("PATCH", f"/v2/{name}/blobs/uploads/{number}", token=world.widest("alice", name))
    assert answer.status in {400, 404}


def test_two_uploads_of_the_same_bytes_both_succeed(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    first, second = world.begin(token, name), world.begin(token, name)
    assert finish(world, token, first, CONTENT, CONTENT).status == 201
    assert finish(world, token, second, CONTENT, CONTENT).status == 201


def test_a_whole_blob_may_come_with_the_post(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    with world.watching() as seen:
        digest = world.push_blob(token, name, CONTENT)
    assert [(event["kind"], event["digest"]) for event in seen if event["kind"] == "blob.push"] == [
        ("blob.push", digest)
    ]
    assert world.ask("GET", f"/v2/{name}/blobs/{digest}", token=token).body == CONTENT
    wrong = world.ask("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(b'x')}", token=token, body=CONTENT)
    assert (wrong.status, wrong.code) == (400, "DIGEST_INVALID")


def test_an_encoded_body_is_not_decoded_but_refused(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    answer = world.ask("PATCH", location, token=token, body=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status == 415


def test_a_right_that_is_withdrawn_ends_an_open_upload_at_its_next_step(world: World) -> None:
    name = world.name("beta")
    world.house.run(world.acts.grants.add_grant(OPERATOR, "mallory", "pusher", "beta"))
    token = world.widest("mallory", name)
    location = world.begin(token, name)
    assert chunk(world, token, location, CONTENT[:10]).status == 202
    world.house.run(world.acts.grants.remove_grant(OPERATOR, "mallory", "beta"))
    with world.watching() as seen:
        answer = chunk(world, token, location, CONTENT[10:])
    assert (answer.status, challenge_of(answer)["error"]) == (401, "invalid_token")
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("upload.append", "denied", "no_grant")
    ]


def test_a_right_that_is_withdrawn_while_the_bytes_come_is_missed_at_the_commit(world: World) -> None:
    name = world.name("beta")
    world.house.run(world.acts.grants.add_grant(OPERATOR, "mallory", "pusher", "beta"))
    token = world.widest("mallory", name)
    location = world.begin(token, name)
    uploads = world.registry.parts.engine.uploads
    append = type(uploads).append

    async def and_then_withdrawn(*arguments: object) -> object:
        appended = await append(*arguments)  # type: ignore[arg-type]
        await world.acts.grants.remove_grant(OPERATOR, "mallory", "beta")
        return appended

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(uploads), "append", and_then_withdrawn)
        answer = chunk(world, token, location, CONTENT)
    assert answer.status == 401


# mounts


def mount(world: World, token: str, target: str, digest: str, source: str, more: str = "") -> Answer:
    query = f"mount={in_query(digest)}&from={in_query(source)}{more}"
    return world.ask("POST", f"/v2/{target}/blobs/uploads/?{query}", token=token)


def test_a_blob_is_mounted_from_where_it_may_be_pulled(world: World) -> None:
    source, target = world.name(), world.name()
    token = world.widest("alice", source, target)
    digest = world.push_blob(token, source, CONTENT)
    with world.watching() as seen:
        answer = mount(world, token, target, digest, source, "&origin=registry.test")
    assert (answer.status, answer.header("docker-content-digest")) == (201, digest)
    assert answer.header("location") == f"/v2/{target}/blobs/{digest}"
    assert world.ask("GET", answer.header("location"), token=token).body == CONTENT
    [event] = seen
    assert (event["kind"], event["outcome"], event["repository"]) == ("blob.mount", "allowed", target)
    assert (event["digest"], event["detail"]) == (digest, {"from": source})


def test_a_mount_that_cannot_be_is_an_upload_and_does_not_tell_why(world: World) -> None:
    source, target = world.name(), world.name("beta")
    alice, carol = world.widest("alice", source), world.widest("carol", target, source)
    digest = world.push_blob(alice, source, CONTENT)
    with world.watching() as seen:
        mount(world, alice, world.name(), sha256(b"nowhere"), source)
    assert [event for event in seen if event["kind"] == "blob.mount"] == [], "nothing was tried"
    cases = [
        mount(world, carol, target, digest, source),
        mount(world, carol, target, sha256(b"nowhere"), source),
        mount(world, carol, target, digest, "nobody/knows"),
        mount(world, carol, target, digest, "NOT/A/name"),
        mount(world, carol, target, "sha256:short", source),
        world.ask("POST", f"/v2/{target}/blobs/uploads/?mount={digest}", token=carol),
        world.ask("POST", f"/v2/{target}/blobs/uploads/?from={source}", token=carol),
    ]
    assert {answer.status for answer in cases} == {202}
    assert len({tuple(sorted(answer.told)) for answer in cases}) == 1
    assert world.ask("HEAD", f"/v2/{target}/blobs/{digest}", token=carol).status == 404
    assert finish(world, carol, cases[0].header("location"), CONTENT, CONTENT).status == 201


def test_a_mount_is_bounded_by_the_token_and_not_by_who_holds_it(world: World) -> None:
    source, target = world.name(), world.name("pub")
    digest = world.push_blob(world.widest("alice", source), source, CONTENT)
    narrow = world.widest("alice", target)
    with world.watching() as seen:
        assert mount(world, narrow, target, digest, source).status == 202
    assert seen == []
    assert mount(world, world.widest("alice", target, source), target, digest, source).status == 201


def test_a_mount_that_cannot_be_takes_the_body_that_came_with_it(world: World) -> None:
    source, target = world.name(), world.name()
    token = world.widest("alice", source, target)
    digest = sha256(CONTENT)
    query = f"mount={digest}&from={source}&digest={digest}"
    with world.watching() as seen:
        answer = world.ask("POST", f"/v2/{target}/blobs/uploads/?{query}", token=token, body=CONTENT)
    assert answer.status == 201
    assert [event["kind"] for event in seen] == ["blob.push"]
    wrong = f"mount={digest}x&from={source}&digest={sha256(b'x')}"
    with world.watching() as seen:
        refused = world.ask("POST", f"/v2/{target}/blobs/uploads/?{wrong}", token=token, body=CONTENT)
    assert refused.code == "DIGEST_INVALID"
    assert [(event["kind"], event["outcome"]) for event in seen] == [("blob.push", "failed")]


def test_a_mount_whose_source_is_closed_meanwhile_is_an_upload(world: World) -> None:
    source, target = world.name("alpha"), world.name("beta")
    digest = world.push_blob(world.widest("alice", source), source, CONTENT)
    world.house.run(world.acts.grants.add_grant(OPERATOR, "carol", "puller", "alpha"))
    token = world.widest("carol", source, target)
    blobs = type(world.registry.parts.engine.blobs)
    find = blobs.find

    async def and_then_closed(*arguments: object, **named: object) -> object:
        found = await find(*arguments, **named)  # type: ignore[arg-type]
        await world.acts.grants.remove_grant(OPERATOR, "carol", "alpha")
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blobs, "find", and_then_closed)
        assert mount(world, token, target, digest, source).status == 202


def test_the_challenge_of_a_mount_asks_for_both_repositories(world: World) -> None:
    answer = world.ask("POST", f"/v2/alpha/a/blobs/uploads/?mount={sha256(b'x')}&from=beta/b")
    assert challenge_of(answer)["scope"] == "repository:alpha/a:pull,push repository:beta/b:pull"


def test_a_source_is_looked_at_only_where_something_is_mounted(world: World) -> None:
    answer = world.ask("PATCH", "/v2/alpha/a/blobs/uploads/1?from=beta/b&mount=x")
    assert challenge_of(answer)["scope"] == "repository:alpha/a:pull,push"


def test_an_interruption_is_an_end_of_file() -> None:
    assert issubclass(Interrupted, EOFError), "the gate calls it a client that left"


def test_two_requests_never_write_to_one_upload_together(world: World) -> None:
    name = world.name()
    token = world.widest("alice", name)
    location = world.begin(token, name)
    headers = [("Host", "registry.test"), ("Authorization", f"Bearer {token}")]
    pieces = [CONTENT[place : place + 64] for place in range(0, len(CONTENT), 64)]

    async def both() -> list[Answer]:
        asks = [world._ask("PATCH", location, headers, pieces, False, None, "192.0.2.1") for _ in range(2)]
        return list(await asyncio.gather(*asks))

    answers = sorted(asyncio.run(both()), key=lambda answer: answer.status)
    assert [answer.status for answer in answers] in ([202, 409], [202, 202])
    if answers[1].status == 409:
        assert answers[1].code == "BLOB_UPLOAD_INVALID"
        assert finish(world, token, location, CONTENT).status == 201
    else:
        assert finish(world, token, location, CONTENT + CONTENT).status == 201
