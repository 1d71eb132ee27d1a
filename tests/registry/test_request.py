"""The request: a small body has its limits in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, cast

import pytest

from gateway.access.principals import Origin
from gateway.errors import BodyTooLarge, BodyTooSlow
from gateway.registry.replies import status_of
from gateway.registry.request import Parts, Receive, Request


def request(receive: Receive) -> Request:
    origin = Origin("192.0.2.7", "192.0.2.7", "", "0" * 32)
    return Request(cast(Parts, None), "PUT", "/v2/a/manifests/v1", {}, (), receive, origin)


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.registry.request.BODY_SECONDS", 0.05)

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.sleep(10)
        return {"type": "http.request"}

    with pytest.raises(BodyTooSlow) as slow:
        asyncio.run(request(receive).body(100))
    assert status_of(slow.value) == 408


def test_a_body_without_a_length_is_read_no_further_than_its_limit() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"x" * 64, "more_body": True}

    with pytest.raises(BodyTooLarge):
        asyncio.run(request(receive).body(100))
