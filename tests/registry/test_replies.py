"""Replies as values: each refusal has a status, a HEAD has no body, a challenge can be parsed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from gateway.errors import Refusal, TooManyRequests, Unauthorized
from gateway.oci.digest import Digest
from gateway.registry.replies import (
    STATUSES,
    Reply,
    challenge,
    json_reply,
    matches,
    next_link,
    refused,
    refused_grant,
    status_of,
)

DIGEST = Digest.of(b"content")


def delivered(reply: Reply, *, headless: bool = False) -> tuple[dict[str, str], bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(reply.deliver(send, headless=headless))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert sent[-1]["more_body"] is False
    return headers, b"".join(message["body"] for message in sent[1:])


def every_refusal(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == "gateway.errors":
            yield from every_refusal(child)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.Unauthorized, 401),
        (errors.Denied, 403),
        (errors.QuotaExceeded, 403),
        (errors.TagImmutable, 403),
        (errors.ReadOnly, 403),
        (errors.InsufficientStorage, 507),
        (errors.Unsupported, 405),
        (errors.ContentReferenced, 405),
        (errors.TooManyRequests, 429),
        (errors.ManifestUnknown, 404),
        (errors.NameUnknown, 404),
        (errors.BlobUnknown, 404),
        (errors.BlobUploadUnknown, 404),
        (errors.ManifestInvalid, 400),
        (errors.MediaTypeUnsupported, 400),
        (errors.ManifestBlobUnknown, 400),
        (errors.NameInvalid, 400),
        (errors.TagInvalid, 400),
        (errors.DigestInvalid, 400),
        (errors.SizeInvalid, 400),
        (errors.PaginationNumberInvalid, 400),
        (errors.BlobUploadInvalid, 400),
        (errors.RangeInvalid, 416),
        (errors.RangeNotSatisfiable, 416),
        (errors.UploadBusy, 409),
        (errors.ManifestTooLarge, 413),
        (errors.BodyTooLarge, 413),
        (errors.Invalid, 400),
        (errors.Conflict, 409),
        (errors.Unknown, 404),
        (errors.Unavailable, 503),
        (errors.UpstreamUnavailable, 503),
        (errors.UpstreamFailed, 502),
        (errors.UpstreamSlow, 504),
    ],
)
def test_a_refusal_has_the_status_that_clients_expect(kind: type[Refusal], status: int) -> None:
    assert status_of(kind.__new__(kind)) == status


def test_no_refusal_is_without_a_status() -> None:
    for kind in every_refusal():
        assert 400 <= status_of(kind.__new__(kind)) <= 507
    assert all(issubclass(kind, Refusal) for kind in STATUSES)


def test_a_whole_reply_tells_its_length() -> None:
    assert delivered(Reply(200, (), b"abc")) == ({"content-length": "3"}, b"abc")


def test_a_head_tells_the_length_of_what_it_does_not_send() -> None:
    assert delivered(Reply(200, (), b"abc"), headless=True) == ({"content-length": "3"}, b"")
    assert delivered(Reply(200, length_bytes=7), headless=True) == ({"content-length": "7"}, b"")
    headers, body = delivered(refused(errors.BlobUnknown("No."), path="/"), headless=True)
    assert (headers["content-length"], body) == ("0", b"")


@pytest.mark.parametrize("status", [204, 304])
def test_replies_that_have_no_body_tell_no_length(status: int) -> None:
    assert delivered(Reply(status, (), b"ignored")) == ({}, b"")


def test_a_stream_that_fails_before_its_first_piece_has_begun_no_reply() -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def stream() -> AsyncGenerator[bytes, None]:
        raise errors.UpstreamFailed("No.")
        yield b"never"

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    with pytest.raises(errors.UpstreamFailed):
        asyncio.run(Reply(200, stream=stream(), length_bytes=2).deliver(send))
    assert sent == []


def test_a_stream_is_closed_when_sending_fails() -> None:
    closed: list[bool] = []

    async def stream() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(Reply(200, stream=stream(), length_bytes=2).deliver(send))
    assert closed == [True]


def test_without_a_realm_nobody_is_challenged() -> None:
    told = refused(Unauthorized("Sign in."), path="/token")
    assert "WWW-Authenticate" not in dict(told.headers)


def test_seconds_to_wait_are_whole_and_more_than_none() -> None:
    told = refused(TooManyRequests("Wait.", retry_after_seconds=0), path="/")
    assert dict(told.headers)["Retry-After"] == "1"


@given(st.text(), st.sampled_from(["", "invalid_token", "insufficient_scope"]))
def test_a_challenge_holds_nothing_that_ends_a_quoted_string(message: str, error: str) -> None:
    text = challenge(Unauthorized(message, scope="repository:a:pull", error=error), "https://a/token", "s")
    assert text.isascii()
    assert text.isprintable()
    assert text.count('"') == (10 if error else 6)
    assert "\\" not in text
    assert ("error_description" in text) == bool(error)


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_any_value_can_be_told_as_json(message: str, detail: dict[str, str]) -> None:
    assert json.loads(json_reply(200, {"m": message, "d": detail}).body) is not None


def test_a_refused_grant_is_told_in_both_languages() -> None:
    told = json.loads(refused_grant(Unauthorized('Wrong "password".')).body)
    assert told["error"] == "invalid_grant"
    assert told["errors"][0]["code"] == "UNAUTHORIZED"
    busy = refused_grant(TooManyRequests("Wait.", retry_after_seconds=9))
    assert (busy.status, dict(busy.headers)["Retry-After"]) == (429, "9")
    assert json.loads(busy.body)["error"] == "temporarily_unavailable"


def test_an_entity_tag_is_known_in_every_form_clients_send() -> None:
    for form in (f'"{DIGEST}"', str(DIGEST), f'W/"{DIGEST}"', f'"x", "{DIGEST}"', "*"):
        assert matches(form, DIGEST)
    for form in ("", '""', '"sha256:0"', "W/", ","):
        assert not matches(form, DIGEST)


def test_a_link_is_relative_and_quoted() -> None:
    name, value = next_link("/v2/a/tags/list", [("last", "b"), ("n", "1")])
    assert (name, value) == ("Link", '</v2/a/tags/list?last=b&n=1>; rel="next"')
