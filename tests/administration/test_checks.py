"""A check as an act: who may, what it records, what it mends; damage is recorded once, whoever meets it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Executable, delete, update

from gateway.administration.checking import Checks, FlawKind, Pace, Progress
from gateway.audit.event import Event, Kind
from gateway.change import Change
from gateway.engine.embedded.assembly import embedded
from gateway.engine.embedded.keeper import Keeper
from gateway.engine.embedded.layout import blob_key
from gateway.engine.embedded.suspects import Suspects
from gateway.engine.port import Engine
from gateway.engine.stores.files import Stored
from gateway.errors import ContentDamaged, Denied
from gateway.flaws import Stopped
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.names import Tag
from gateway.records.review_tables import event_counts
from gateway.records.schema import edges, events, links, manifest_bodies
from gateway.records.trail import project_tail
from gateway.scrubbing import Scrubbing
from tests.administration.rooms import rooms_of
from tests.contract.house import UI, WRITER, body, image, index
from tests.house import GATEWAY, OPERATOR, House
from tests.records import rows

LAYER = os.urandom(300_000)
DIGEST = Digest.of(LAYER)
MANIFEST = image(b"{}", LAYER)


@pytest.fixture
def engine(house: House) -> Engine:
    return embedded(house.data, house.database)


@pytest.fixture
def checks(house: House, engine: Engine) -> Checks:
    """Checks of a gateway that holds one image."""
    house.run(pushed(house, engine))
    return Checks(house.gate, house.database, house.trail, Keeper(house.data, house.database))


async def commit(house: House, change: Change) -> None:
    await house.ledger.commit(Act(Event(Kind.BLOB_PUSH, OPERATOR), change))


async def push(house: House, engine: Engine, content: bytes) -> None:
    upload, begun = await engine.uploads.begin(UI, WRITER)
    await commit(house, begun)
    _, linked = await engine.uploads.finish(upload, body(content), None, Digest.of(content))
    await commit(house, linked)


async def pushed(house: House, engine: Engine) -> None:
    for content in (b"{}", LAYER):
        await push(house, engine, content)
    await commit(house, engine.manifests.put(UI, MANIFEST, [Tag("v1")], WRITER))


def written(house: House, *statements: Executable) -> None:
    def write(connection: Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    rows.written(house, write)


def file_of(house: House) -> Path:
    return house.data / blob_key(DIGEST)


def flip(house: House) -> None:
    content = bytearray(LAYER)
    content[1000] ^= 4
    file_of(house).write_bytes(content)


def test_a_check_that_finds_nothing_says_what_it_looked_at(house: House, checks: Checks) -> None:
    report = house.run(checks.check(OPERATOR, deep=True))
    assert report.well
    assert report.fates == []
    assert report.counts["blobs"] == 2
    assert report.counts["bytes"] == len(LAYER) + 2
    assert report.counts["manifests"] == 1
    [event] = house.records(kind="gateway.check")
    assert event["principal"] == "operator:root"
    assert event["outcome"] == "allowed"
    assert "reason" not in event
    assert event["detail"]["left"] == {}
    # What was sealed since is none of the check's.
    assert report.counts["events"] == event["id"] - 1


def test_only_an_administrator_may_check(house: House, checks: Checks) -> None:
    rooms = rooms_of(house)
    try:
        user, root = rooms.user("someone"), rooms.user("root", administrator=True)
    finally:
        rooms.acts.hashing.close()
    with pytest.raises(Denied):
        house.run(checks.check(user))
    assert house.run(checks.check(root)).well
    assert [event["outcome"] for event in house.records(kind="gateway.check")] == ["denied", "allowed"]


def test_a_check_without_repair_changes_nothing(house: House, checks: Checks) -> None:
    os.truncate(file_of(house), 7)
    written(house, delete(edges))
    for _ in range(2):
        report = house.run(checks.check(OPERATOR, deep=True))
        assert not report.well
        assert sorted(fate.flaw.kind for fate in report.fates) == [FlawKind.BLOB_SIZE, FlawKind.MANIFEST_EDGES]
        assert not any(fate.done for fate in report.fates)
    assert file_of(house).stat().st_size == 7
    assert house.records(kind="integrity.failure") == []
    [_, event] = house.records(kind="gateway.check")
    assert (event["reason"], event["detail"]["left"]) == ("flawed", {"blob_size": 1, "manifest_edges": 1})


def test_a_repair_is_recorded_and_done_once(house: House, checks: Checks, engine: Engine) -> None:
    flip(house)
    written(house, delete(edges))
    report = house.run(checks.check(OPERATOR, deep=True, repair=True))
    assert not report.well
    assert {fate.flaw.kind: fate.mended for fate in report.fates} == {
        FlawKind.BLOB_BYTES: False,
        FlawKind.MANIFEST_EDGES: True,
    }
    [failure] = house.records(kind="integrity.failure")
    assert (failure["outcome"], failure["digest"], failure["reason"]) == ("failed", DIGEST.text, "blob_bytes")
    assert failure["detail"]["repositories"] == [UI.name]
    assert (house.data / failure["detail"]["file"]).stat().st_size == len(LAYER)
    [repair] = house.records(kind="gateway.check.repair")
    assert (repair["repository"], repair["digest"]) == (UI.name, MANIFEST.digest.text)

    again = house.run(checks.check(OPERATOR, deep=True, repair=True))
    assert [(fate.flaw.kind, fate.done) for fate in again.fates] == [(FlawKind.BLOB_MISSING, "")]
    assert len(house.records(kind="integrity.failure")) == 1
    assert len(house.records(kind="gateway.check.repair")) == 1

    house.run(push(house, engine, LAYER))
    assert house.run(checks.check(OPERATOR, deep=True, repair=True)).well
    assert house.trail.verify().fault == ""


def test_damaged_bytes_of_a_manifest_are_a_failure_too(house: House, checks: Checks) -> None:
    written(house, update(manifest_bodies).values(content=b"{}"))
    report = house.run(checks.check(OPERATOR, repair=True))
    assert [(fate.flaw.kind, fate.mended) for fate in report.fates] == [(FlawKind.MANIFEST_BYTES, False)]
    [failure] = house.records(kind="integrity.failure")
    assert (failure["digest"], failure["repository"]) == (MANIFEST.digest.text, UI.name)


def test_a_damaged_trail_is_a_flaw(house: House, checks: Checks) -> None:
    with house.database.lock(), house.database.writer() as connection:
        if house.database.sqlite:
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS events_keep_update")
            triggers = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
            )
            for name in list(triggers.scalars()):
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("ALTER TABLE events DISABLE TRIGGER ALL")
        connection.execute(update(events).where(events.c.seq == 2).values(body="{}"))
    report = house.run(checks.check(OPERATOR))
    assert [fate.flaw.kind for fate in report.fates] == [FlawKind.TRAIL]
    assert not report.well


def test_counters_that_are_not_what_the_events_add_up_to_are_counted_anew(house: House, checks: Checks) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass
    written(house, update(event_counts).where(event_counts.c.field == "kind").values(allowed=999))
    report = house.run(checks.check(OPERATOR, repair=True))
    assert [(fate.flaw.kind, fate.mended) for fate in report.fates] == [(FlawKind.COUNTERS, True)]
    assert house.run(checks.check(OPERATOR)).well


def test_behind_a_gateway_without_content_records_and_trail_are_checked(house: House, checks: Checks) -> None:
    os.truncate(file_of(house), 7)
    written(house, delete(links), delete(edges))
    report = house.run(Checks(house.gate, house.database, house.trail, None).check(OPERATOR, deep=True))
    assert not report.content
    assert [fate.flaw.kind for fate in report.fates] == [FlawKind.MANIFEST_EDGES]


def test_a_remark_leaves_all_well(house: House, checks: Checks, engine: Engine) -> None:
    every = index([(MANIFEST.content, MANIFEST.media_type)])
    house.run(commit(house, engine.manifests.put(UI, every, [Tag("all")], WRITER)))
    house.run(commit(house, engine.manifests.delete(UI, MANIFEST.digest)))
    report = house.run(checks.check(OPERATOR))
    assert report.well
    assert [(fate.flaw.kind, fate.remark) for fate in report.fates] == [(FlawKind.INDEX_INCOMPLETE, True)]


def test_what_a_reader_meets_is_settled_once(house: House, checks: Checks, engine: Engine) -> None:
    flip(house)

    async def meet() -> None:
        fresh = embedded(house.data, house.database)
        try:
            async for _ in fresh.blobs.read(await fresh.blobs.find(UI, DIGEST), 0, len(LAYER) - 1):
                pass
        except (OSError, ContentDamaged):
            return
        raise AssertionError("nothing was met")

    async def story() -> AsyncIterator[int]:
        for _ in range(2):
            for _ in range(3):
                await meet()
            yield await checks.settle(GATEWAY)
        await push(house, engine, LAYER)
        yield await checks.settle(GATEWAY)

    async def told() -> list[int]:
        return [count async for count in story()]

    assert house.run(told()) == [1, 0, 0]
    assert [event["principal_kind"] for event in house.records(kind="integrity.failure")] == ["system"]


def test_the_scrub_puts_aside_and_records(house: House, checks: Checks) -> None:
    flip(house)

    async def story() -> None:
        while not await checks.scrub(GATEWAY, Pace(10**9)):
            pass

    house.run(story())
    [failure] = house.records(kind="integrity.failure")
    assert failure["digest"] == DIGEST.text
    assert not file_of(house).exists()


def test_the_work_of_a_worker_finds_what_nobody_reads_and_ends_when_told(house: House, checks: Checks) -> None:
    flip(house)

    async def story() -> None:
        scrubbing = Scrubbing(checks, lambda: GATEWAY)
        tasks = [asyncio.ensure_future(scrubbing.watch()), asyncio.ensure_future(scrubbing.scrub(10**9))]
        for _ in range(500):
            if not file_of(house).exists():
                break
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    house.run(story())
    assert not file_of(house).exists()


def test_a_scrub_that_is_slow_ends_at_once_when_it_is_stopped(house: House, checks: Checks) -> None:
    async def story() -> None:
        task = asyncio.ensure_future(Scrubbing(checks, lambda: GATEWAY).scrub(1))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    begun = time.monotonic()
    house.run(story())
    assert time.monotonic() - begun < 5


def test_judging_a_suspect_ends_when_it_is_stopped(
    house: House, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    Suspects(house.data).note(DIGEST)
    reading, real = threading.Event(), Stored.fill

    def slow(stored: Stored, offset: int, buffer: memoryview) -> int:
        reading.set()
        time.sleep(0.2)
        return real(stored, offset, buffer)

    async def story() -> None:
        task = asyncio.ensure_future(checks.settle(GATEWAY))
        await asyncio.to_thread(reading.wait, 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    monkeypatch.setattr(Stored, "fill", slow)
    house.run(story())
    # It was neither judged nor forgotten.
    assert Suspects(house.data).all() == {DIGEST: None}


@pytest.mark.alone
def test_a_pace_is_kept() -> None:
    pace = Pace(1_000_000)
    begun = time.monotonic()
    for _ in range(4):
        pace(50_000)
    assert 0.19 < time.monotonic() - begun < 1
    pace.stop()
    with pytest.raises(Stopped):
        pace(1)


def test_a_check_that_is_given_up_ends_its_threads(house: House, checks: Checks) -> None:
    async def story() -> None:
        def tell(progress: Progress) -> None:
            time.sleep(0.05)

        task = asyncio.ensure_future(checks.check(OPERATOR, deep=True, tell=tell))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    begun = time.monotonic()
    house.run(story())
    assert time.monotonic() - begun < 5
    [event] = house.records(kind="gateway.check")
    assert (event["outcome"], event["reason"]) == ("failed", "cancelled")
