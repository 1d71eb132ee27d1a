"""What anybody may ask: life, readiness, and the authority to trust; everything else is the registry's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from gateway.front import Front, Receive, Scope, Send


async def registry(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"the registry"})


def ask(front: Front, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(front(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def front(broken: str = "", warnings: list[str] | None = None, authority: Path | None = None) -> Front:
    async def found() -> str:
        return broken

    return Front(registry, found, lambda: warnings or [], authority)


@pytest.mark.parametrize("path", ["/v2/", "/token", "/", "/health", "/health/live/", "//ca.crt"])
def test_whatever_is_not_its_own_is_the_registrys(path: str) -> None:
    assert ask(front(), path)[0] == 418


def test_a_living_process_says_so() -> None:
    status, headers, body = ask(front(broken="the audit trail cannot be written"), "/health/live")

    assert (status, json.loads(body)) == (200, {"status": "alive"})
    assert headers["x-request-id"]


def test_ready_tells_warnings_and_stays_green() -> None:
    status, _, body = ask(front(warnings=["the certificate expires in 3 days"]), "/health/ready")

    assert (status, json.loads(body)) == (200, {"status": "ready", "warnings": ["the certificate expires in 3 days"]})


def test_a_broken_trail_makes_it_unready() -> None:
    status, _, body = ask(front(broken="the audit trail cannot be written"), "/health/ready")

    assert (status, json.loads(body)["reason"]) == (503, "the audit trail cannot be written")


def test_a_draining_process_is_unready() -> None:
    stopping = front()
    stopping.draining = True

    assert ask(stopping, "/health/ready")[0] == 503


def test_the_authority_is_served_to_be_compared_by_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"-----BEGIN CERTIFICATE-----")

    status, headers, body = ask(front(authority=tmp_path / "ca.crt"), "/ca.crt")

    assert (status, body) == (200, b"-----BEGIN CERTIFICATE-----")
    assert headers["content-type"] == "application/x-pem-file"


def test_a_foreign_certificates_authority_is_not_ours_to_give() -> None:
    status, _, body = ask(front(), "/ca.crt")

    assert (status, json.loads(body)["errors"][0]["code"]) == (404, "UNKNOWN")


def test_another_method_is_told_which_ones_answer() -> None:
    status, headers, body = ask(front(), "/health/ready", "POST")

    assert status == 405
    assert set(headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert json.loads(body)["errors"][0]["code"] == "UNSUPPORTED"
