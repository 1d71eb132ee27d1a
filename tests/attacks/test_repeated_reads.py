"""Reads that come again byte for byte are answered from memory, and are as guarded and as recorded as the first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from tests.attacks.site import Site, standing
from tests.house import OPERATOR
from tests.protocol.harness import sha256


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway of one process, which meets every request."""
    with standing(tmp_path_factory.mktemp("alone") / "data", workers=1, people=("alice", "root")) as made:
        yield made


@contextmanager
def kept(site: Site) -> Iterator[HTTPConnection]:
    """A connection for one request after the other."""
    connection = HTTPConnection("localhost", site.port)
    connection.sock = site.connect()
    try:
        yield connection
    finally:
        connection.close()


def read(
    connection: HTTPConnection, target: str, token: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection.request(method, target, headers={"Authorization": f"Bearer {token}", **headers})
    reply = connection.getresponse()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()


def test_every_repeated_read_is_an_event_of_its_own_and_looks_like_the_first(alone: Site) -> None:
    name = alone.name()
    token = alone.widest("alice", name)
    content = alone.push_image(token, name, "v1")
    digest = sha256(b"a layer")
    for target, body in ((f"/v2/{name}/manifests/v1", content), (f"/v2/{name}/blobs/{digest}", b"a layer")):
        with kept(alone) as connection:
            replies = [read(connection, target, token) for _ in range(12)]
        numbers = [headers.pop("x-request-id") for _, headers, _ in replies]
        assert len(set(numbers)) == 12
        for status, headers, got in replies:
            headers.pop("date", None)
            replies[0][1].pop("date", None)
            assert (status, headers, got) == (200, replies[0][1], body)
        pulls = [event for event in alone.events(repository=name) if event["request_id"] in numbers]
        assert [event["request_id"] for event in pulls] == numbers
        for event in pulls:
            assert (event["outcome"], event["principal"], event["status"]) == ("allowed", "alice", 200)
            assert (event["grant"], event["bytes"]) == (pulls[0]["grant"], len(body))
            assert set(event) == set(pulls[0])
    assert not alone.rooms.trail.verify().fault


def test_a_blob_whose_file_is_lost_is_not_told_to_be_there_from_memory(alone: Site) -> None:
    name = alone.name()
    token = alone.widest("alice", name)
    digest = alone.push_blob(token, name, b"to be lost")
    target = f"/v2/{name}/blobs/{digest}"
    with kept(alone) as connection:
        assert {read(connection, target, token, "HEAD")[0] for _ in range(4)} == {200}
        (alone.data / "blobs" / "sha256" / digest[7:9] / digest[7:]).unlink()
        assert read(connection, target, token, "HEAD")[0] == 404
    alone.push_blob(token, name, b"to be lost")
    assert alone.ask("HEAD", target, token=token).status == 200


def test_a_repeated_look_tells_the_length_and_sends_no_body(alone: Site) -> None:
    name = alone.name()
    token = alone.widest("alice", name)
    content = alone.push_image(token, name, "v1")
    with kept(alone) as connection:
        for _ in range(5):
            status, headers, body = read(connection, f"/v2/{name}/manifests/v1", token, "HEAD")
            assert (status, headers["content-length"], body) == (200, str(len(content)), b"")


@pytest.mark.parametrize("workers", ["one", "two"])
def test_a_moved_tag_and_a_deletion_are_seen_at_once(alone: Site, site: Site, workers: str) -> None:
    where = alone if workers == "one" else site
    name = where.name()
    token = where.widest("alice", name)
    target = f"/v2/{name}/manifests/v1"
    first = where.push_image(token, name, "v1")
    with kept(where) as one, kept(where) as other:
        for number in range(5):
            second = where.push_image(token, name, "v1", layer=b"layer %d" % number)
            for connection in (one, other) * 2:
                assert read(connection, target, token)[2] == second != first
        boss = where.widest("root", name)
        assert where.ask("DELETE", f"/v2/{name}/manifests/{sha256(second)}", token=boss).status == 202
        for connection in (one, other) * 2:
            assert read(connection, target, token)[0] == 404


def test_a_right_that_is_taken_away_ends_repeated_reads_at_once(alone: Site) -> None:
    name = alone.name()
    content = alone.push_image(alone.widest("alice", name), name, "v1")
    alone.run(alone.rooms.administration.accounts.add_user(OPERATOR, "ruth", password="password of ruth"))
    alone.run(alone.rooms.administration.grants.add_grant(OPERATOR, "ruth", "puller", "alpha"))
    token = alone.widest("ruth", name)
    target = f"/v2/{name}/manifests/v1"
    with kept(alone) as connection:
        for _ in range(5):
            assert read(connection, target, token)[2] == content
        alone.run(alone.rooms.administration.grants.remove_grant(OPERATOR, "ruth", "alpha"))
        status, headers, _ = read(connection, target, token)
        assert (status, "invalid_token" in headers["www-authenticate"]) == (401, True)
    assert alone.events(principal="ruth", outcome="denied")[-1]["repository"] == name


def test_a_token_that_is_over_ends_repeated_reads(alone: Site) -> None:
    name = alone.name()
    alone.push_image(alone.widest("alice", name), name, "v1")
    claims = alone.claims("alice", name)
    # Its last three seconds of the thirty that clocks may differ.
    over = int(time.time()) - 27
    token = alone.sign({**claims, "exp": over, "iat": over - 300, "nbf": over - 300})
    with kept(alone) as connection:
        statuses = []
        while time.time() < over + 31:
            statuses.append(read(connection, f"/v2/{name}/manifests/v1", token)[0])
            time.sleep(0.05)
    assert statuses[0] == 200
    assert statuses[-1] == 401


def test_conditions_and_ranges_are_read_each_time(alone: Site) -> None:
    name = alone.name()
    token = alone.widest("alice", name)
    content = alone.push_image(token, name, "v1")
    blob = f"/v2/{name}/blobs/{sha256(b'a layer')}"
    with kept(alone) as connection:
        for _ in range(4):
            condition = f'"{sha256(content)}"'
            assert read(connection, f"/v2/{name}/manifests/v1", token, **{"If-None-Match": condition})[0] == 304
            assert read(connection, f"/v2/{name}/manifests/v1", token)[0] == 200
            assert read(connection, blob, token, Range="bytes=2-3")[::2] == (206, b"la")
            assert read(connection, blob, token)[::2] == (200, b"a layer")


def test_another_address_is_another_caller(alone: Site) -> None:
    name = alone.name()
    token = alone.widest("alice", name)
    alone.push_image(token, name, "v1")
    target, seen = f"/v2/{name}/manifests/v1", []
    for address in ("127.0.0.1", alone.address(), "127.0.0.1"):
        for _ in range(3):
            connection = HTTPConnection("localhost", alone.port)
            connection.sock = alone.connect(address)
            seen.append((read(connection, target, token)[1]["x-request-id"], address))
            connection.close()
    told = {event["request_id"]: event["address"] for event in alone.events(repository=name)}
    assert [told[number] for number, _ in seen] == [address for _, address in seen]
