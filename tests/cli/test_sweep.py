from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from gateway import serving
from gateway.access.principals import Caller
from gateway.administration.retention import Applied, Retentions
from gateway.app import Rooms, opened
from gateway.audit.trail import Search
from gateway.canary import LeakAlarm, LeakProbe
from gateway.engine.stores.filesystem import Filesystem
from gateway.errors import ReadOnly
from gateway.front import Front
from gateway.settings import Settings
from tests.cli.line import Line, quietly
from tests.house import House
from tests.sweep.stage import UI, Stage

AMOUNTS = {"links", "blobs", "files", "strays", "uploads", "spools", "leftovers", "waiting"}
PLAN = AMOUNTS | {"plan", "grace_seconds", "freed_bytes", "before"}
RECEIPT = PLAN | {"busy", "after", "seconds"}
LOOSE = b"what nothing names"


def staged(rooms: Rooms) -> Stage:
    house = House(rooms.settings.data, rooms.database, rooms.ledger, rooms.directory, rooms.gate, rooms.trail)
    return Stage(house)


@pytest.fixture
def full(line: Line) -> Line:
    """A data directory with an image, and a blob that no manifest names."""
    quietly(line.folder, "project", "add", "gallery")
    with opened(Settings.for_data(line.folder, {})) as rooms:
        stage = staged(rooms)
        stage.run(stage.push_image(UI, "v1"))
        stage.run(stage.push(UI, LOOSE))
    return line


def test_a_plan_for_programs_says_what_would_go_and_changes_nothing(full: Line) -> None:
    plan = full.done("sweep", "--plan", "--json", "--grace", "0s").json
    assert set(plan) == PLAN
    assert (plan["plan"], plan["grace_seconds"], plan["freed_bytes"]) == (True, 0, len(LOOSE))
    assert plan["links"] == plan["blobs"] == plan["files"] == {"count": 1, "bytes": len(LOOSE)}
    assert plan["before"]["stored"]["count"] == 3
    assert full.done("sweep", "--plan", "--json", "--grace", "0s").json == plan


def test_a_receipt_for_programs_adds_up(full: Line) -> None:
    receipt = full.done("sweep", "--json", "--grace", "0s").json
    assert set(receipt) == RECEIPT
    assert (receipt["freed_bytes"], receipt["before"]["stored"]["count"], receipt["after"]["stored"]["count"]) == (
        len(LOOSE),
        3,
        2,
    )
    assert receipt["after"]["balanced"] is True
    assert [event["kind"] for event in full.events()[:2]] == ["storage.sweep", "storage.sweep.begun"]
    assert full.events()[0]["principal"].startswith("operator:")


def test_people_read_what_would_go_and_what_went(full: Line) -> None:
    waiting = full.done("sweep", "--plan")
    assert "1 links (18 bytes) that no manifest names are still within their grace." in waiting.out
    assert "Nothing would go." in waiting.err
    planned = full.done("sweep", "--plan", "--grace", "0s").out
    assert "files of those blobs" in planned
    assert "18 bytes would be freed." in planned
    done = full.done("sweep", "--grace", "0s").out
    assert "18 bytes were freed" in done
    assert "There are 2 blobs of 9 bytes in the records, 2 files of 9 bytes on the disk." in done
    assert "There was nothing to remove." in full.done("sweep", "--grace", "0s").err


def test_the_grace_is_that_of_the_settings_unless_it_is_given(full: Line) -> None:
    assert full.done("sweep", "--plan", "--json").json["grace_seconds"] == 24 * 3600
    (full.folder / "gateway.toml").write_text("[upkeep]\ngrace_hours = 2\n")
    assert full.done("sweep", "--plan", "--json").json["grace_seconds"] == 2 * 3600


@pytest.mark.parametrize("grace", ["soon", "-1h", "24", "", "1y"])
def test_a_grace_that_is_no_duration_is_refused_in_one_line(line: Line, grace: str) -> None:
    said = line("sweep", "--grace", grace)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "is no duration" in said.err


def test_a_registry_behind_the_gateway_keeps_its_own_house(line: Line) -> None:
    (line.folder / "gateway.toml").write_text('[engine]\nkind = "upstream"\nurl = "http://127.0.0.1:1"\n')
    for words in (("sweep",), ("sweep", "--plan")):
        said = line(*words)
        assert (said.status, said.err.count("\n")) == (4, 1)
        assert "run its own garbage collection" in said.err


def test_two_sweeps_at_once_are_a_conflict(full: Line) -> None:
    with Filesystem(full.folder).held("sweep.lock"):
        said = full("sweep")
    assert (said.status, "Another sweep or an import is under way" in said.err) == (4, True)


# on a schedule


def served(folder: Path, toml: str, *, first: bool = True) -> list[str]:
    """Serves for a moment, without anything that listens, and says what sweeps it did."""
    (folder / "gateway.toml").write_text(toml)
    closing = ExitStack()
    rooms = closing.enter_context(opened(Settings.for_data(folder, {})))
    worker = serving._Served(rooms, cast(Front, None), LeakAlarm(LeakProbe.of(rooms), rooms.gate), closing, first=first)
    trail = rooms.trail

    async def story() -> list[str]:
        stopping = asyncio.Event()
        told: list[Any] = []

        async def receive() -> dict[str, str]:
            if told:
                await stopping.wait()
            return {"type": "lifespan"}

        async def send(message: Any) -> None:
            told.append(message)

        living = asyncio.create_task(worker._live(receive, send))
        await asyncio.sleep(0.5)
        end = time.monotonic() + 20
        found: list[str] = []
        while "storage.sweep" not in found and first and "sweep_hours = 0" not in toml and time.monotonic() < end:
            await asyncio.sleep(0.1)
            found = [str(event.record()["kind"]) for event in trail.export(Search())]
        found = [str(event.record()["kind"]) for event in trail.export(Search())]
        stopping.set()
        await living
        return [kind for kind in found if kind.startswith("storage")]

    return asyncio.run(story())


def test_the_first_worker_sweeps_when_it_is_due_and_not_again(full: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_SWEEP_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(serving, "_settle_memory", lambda: None)
    for _ in range(2):
        assert served(full.folder, "") == ["storage.sweep"]
    assert full.events("--kind", "storage.sweep")[0]["principal"] == "gateway"


@pytest.mark.parametrize("error", [ReadOnly("It is an archive."), RuntimeError("whatever it is")])
def test_a_project_whose_retention_fails_holds_up_neither_the_others_nor_the_sweep(
    full: Line, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(serving, "_SWEEP_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(serving, "_settle_memory", lambda: None)
    seen: list[str] = []
    full.done("project", "add", "zebra")
    for project in ("gallery", "zebra"):
        full.done("retention", "set", project, "--last", "1")

    async def apply(self: Retentions, caller: Caller, project: str) -> tuple[Applied, ...]:
        seen.append(project)
        if project == "gallery":
            raise error
        return ()

    monkeypatch.setattr(Retentions, "apply", apply)
    assert served(full.folder, "") == ["storage.sweep"]
    assert seen == ["gallery", "zebra"]


@pytest.mark.parametrize(("toml", "first"), [("[upkeep]\nsweep_hours = 0\n", True), ("", False)])
def test_nobody_sweeps_who_should_not(full: Line, monkeypatch: pytest.MonkeyPatch, toml: str, first: bool) -> None:
    monkeypatch.setattr(serving, "_SWEEP_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(serving, "_settle_memory", lambda: None)
    assert served(full.folder, toml, first=first) == []
