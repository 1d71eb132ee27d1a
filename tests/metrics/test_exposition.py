"""The figures of several processes are told as one, in a text that Prometheus' own parser reads."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from gateway.errors import Unavailable
from gateway.meters import Meters
from gateway.metrics.application import application
from gateway.metrics.board import FOLDER, Board
from gateway.metrics.exposition import State, text

TOKEN = "not-a-secret-but-long"


def state() -> State:
    return State("1.2.3", True, 41, 2_000_000_000.0, 5, 9, 3, 300, 1, {"siem": 7}, {"siem": 2.5})


def worked() -> Meters:
    meters = Meters()
    meters.answered("v2", "GET", 200, 0.004)
    meters.answered("v2", "BREW", 405, 0.2)
    meters.committed(0.003, 3, 1)
    meters.events.update([("manifest.pull", "allowed")] * 2)
    meters.sent_bytes += 10
    return meters


def samples(content: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in read_plain(content)
        for sample in family.samples
    }


def test_what_ended_processes_counted_is_still_counted_and_only_living_ones_are_workers(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.post(0, {**worked().told(), "memory_bytes": 1})
    (tmp_path / FOLDER / "1-999999999.json").write_text(json.dumps({**worked().told(), "memory_bytes": 2}))
    found = samples(text(board.all(), state())[1].decode())
    assert found["gateway_requests_total", ("v2", "GET", "200")] == 2
    assert found["gateway_requests_total", ("v2", "other", "405")] == 2
    assert found["gateway_events_total", ("manifest.pull", "allowed")] == 4
    assert found["gateway_body_bytes_total", ("sent",)] == 20
    assert found["gateway_request_seconds_count", ("v2",)] == 4
    assert found["gateway_request_seconds_bucket", ("v2", "0.005")] == 2
    assert found["gateway_request_seconds_bucket", ("v2", "+Inf")] == 4
    assert found["gateway_commit_acts_bucket", ("4.0",)] == 2
    assert found["gateway_commit_acts_bucket", ("2.0",)] == 0
    assert found["gateway_worker_memory_bytes", ("0",)] == 1
    assert ("gateway_worker_memory_bytes", ("1",)) not in found
    assert found["gateway_sink_lag_events", ("siem",)] == 7
    assert found["gateway_certificate_until_seconds", ()] == 2_000_000_000


def test_a_new_run_forgets_the_one_before_and_nothing_half_written_is_read(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.post(0, worked().told())
    (tmp_path / FOLDER / "1-1.json").write_text("{")
    assert [each.seat for each in board.all()] == [0]
    board.clear()
    assert board.all() == []


def test_a_post_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    board = Board(tmp_path)
    for place, name in ((json, "dump"), (os, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, full)
            with pytest.raises(OSError, match="No space left"):
                board.post(0, worked().told())
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_whoever_asks_for_openmetrics_gets_it(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.post(0, {**worked().told(), "memory_bytes": 1})
    kind, content = text(board.all(), state(), accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert {family.name for family in read_open(content.decode())} >= {"gateway_requests", "gateway_commit_seconds"}


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer not-a-secret-but-lon", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_nobody_without_the_token_is_told_anything(tmp_path: Path, given: str) -> None:
    answer = ask(tmp_path, {"Authorization": given} if given else {})
    assert answer.status_code == 401
    assert "gateway_" not in answer.text
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_whoever_has_the_token_is_told(tmp_path: Path) -> None:
    answer = ask(tmp_path, {"Authorization": f"bearer {TOKEN}"})
    assert answer.status_code == 200
    # What this process has counted until now is in it, not what it had posted before.
    assert samples(answer.text)["gateway_requests_total", ("v2", "GET", "200")] == 1
    assert answer.headers["cache-control"] == "no-store"


async def look() -> None:
    pass


def ask(data: Path, headers: dict[str, str], found: Callable[[], State] = state) -> httpx.Response:
    app = application(TOKEN, Board(data), 0, lambda: {**worked().told(), "memory_bytes": os.getpid()}, look, found)

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://x") as client:
            return await client.get("/metrics", headers=headers)

    return asyncio.run(get())


def test_who_asks_while_the_database_is_away_is_told_to_come_back(tmp_path: Path) -> None:
    def away() -> State:
        raise Unavailable("The database does not answer.", retry_after_seconds=7)

    answer = ask(tmp_path, {"Authorization": f"Bearer {TOKEN}"}, away)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.text == "The database does not answer.\n"


def test_the_dashboard_asks_for_all_that_is_told_and_the_page_explains_it(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.post(0, {**worked().told(), "memory_bytes": 1})
    told = {name for name, _ in samples(text(board.all(), state())[1].decode())}
    dashboard = json.loads((Path(__file__).parents[2] / "config/grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    names = {name for expression in asked for name in re.findall(r"gateway_\w+", expression)}
    assert names <= told
    families = {_family(name) for name in told}
    assert families == {_family(name) for name in names}
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    listed = {_family(name) for name in re.findall(r"`(gateway_\w+)`", page)}
    assert {name for name in families if not name.startswith("gateway_worker_")} <= listed


def _family(name: str) -> str:
    return re.sub(r"_(total|bucket|sum|count|created)$", "", name)
