"""The command line where another registry keeps the content: what is on record is told without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.app import application, opened
from gateway.settings import FILE_NAME, Settings
from tests.cli.line import Line
from tests.services.daemon import free_port


@pytest.fixture
def behind(furnished: Line) -> Line:
    """An inhabited data directory in front of a registry that is down."""
    text = f'[engine]\nkind = "upstream"\nurl = "http://127.0.0.1:{free_port()}"\n'
    (furnished.folder / FILE_NAME).write_text(text, encoding="utf-8")
    return furnished


def test_what_there_is_is_listed_from_the_records(behind: Line) -> None:
    assert [row["name"] for row in behind.done("repository", "list", "--json").json] == ["gallery/ui"]
    assert behind.done("repository", "show", "gallery/ui", "--json").json["tags"] == 1
    assert [row["name"] for row in behind.done("tag", "list", "gallery/ui", "--json").json] == ["v1"]


def test_a_tag_is_not_removed_while_the_registry_behind_does_not_answer(behind: Line) -> None:
    refused = behind("tag", "remove", "gallery/ui:v1")

    assert refused.status != 0
    assert "registry behind" in refused.err
    assert "Traceback" not in refused.err
    assert [row["name"] for row in behind.done("tag", "list", "gallery/ui", "--json").json] == ["v1"]
    assert behind.events("--kind", "tag.delete")[0]["outcome"] == "failed"


def test_a_repository_is_not_said_to_be_removed(behind: Line) -> None:
    refused = behind("repository", "remove", "gallery/ui")

    assert refused.status != 0
    assert "The registry behind keeps what it holds. Delete the manifests of gallery/ui by digest." in refused.err
    assert len(behind.done("repository", "list", "--json").json) == 1


def test_a_removed_project_leaves_its_content_behind_and_the_command_says_so(behind: Line) -> None:
    said = behind.done("project", "remove", "gallery", "--force").out

    assert said.startswith(
        "Removed project gallery with 1 robot and 3 grants. The registry behind keeps what it holds."
    )
    assert behind.done("repository", "list", "--json").json == []


def test_readiness_says_what_keeps_the_engine_from_working(behind: Line) -> None:
    looked: list[str] = []

    async def look() -> None:
        looked.append("before it is told")

    with opened(Settings.for_data(behind.folder, {})) as rooms:
        assert rooms.settlement is not None
        well = replace(rooms.engine, look=look, trouble=str)
        left_alone = replace(rooms.engine, look=look, trouble=lambda: " ".join(["it fails", *looked[1:]]))
        fronts = [application(replace(rooms, engine=engine), list) for engine in (well, left_alone)]
        ready, unready = (asyncio.run(_ready(front)) for front in fronts)

    assert ready == (200, {"status": "ready", "warnings": []})
    assert unready == (503, {"status": "unavailable", "warnings": [], "reason": "it fails before it is told"})


def test_readiness_asks_the_registry_behind_whether_it_is_there(behind: Line) -> None:
    async def story() -> tuple[int, dict[str, Any]]:
        with opened(Settings.for_data(behind.folder, {})) as rooms:
            try:
                return await _ready(application(rooms, list))
            finally:
                await rooms.engine.close()

    status, told = asyncio.run(story())

    assert (status, told["reason"]) == (503, "The registry behind takes no connection; check that it runs.")


async def _ready(front: Any) -> tuple[int, dict[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/health/ready", "headers": [], "query_string": b""}
    await front({**scope, "root_path": ""}, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))
