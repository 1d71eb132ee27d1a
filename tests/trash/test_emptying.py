"""Emptying the trash: others commit in between, the trail tells of all that went, and a kill loses nothing."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select

from gateway.administration import emptying
from gateway.audit.event import Event, Kind
from gateway.errors import Denied, ReadOnly
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records import content, projects
from gateway.records import trash as bins
from gateway.records.projects import Wishes
from gateway.records.schema import trash, trash_bodies, trash_targets
from gateway.records.trash import Going, Thing
from tests.administration.rooms import Rooms, rooms_of
from tests.house import OPERATOR, House, opened
from tests.records.rows import written
from tests.sweep.stage import DAY, OTHER, UI, Stage

WEEK = 7 * DAY
BODY = b'{"a manifest": true}'


@pytest.fixture
def stage(house: House) -> Stage:
    return Stage(house, trash_seconds=WEEK)


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two things in each commit."""
    monkeypatch.setattr(emptying, "_THINGS", 2)


def acts(stage: Stage) -> Rooms:
    return rooms_of(stage.house, engine=stage.engine, trash_seconds=WEEK)


def filled(house: House, count: int, *places: Repository, body: bytes = BODY, until: int = 2) -> None:
    """So many manifests in the trash of each of *places*, each with something that it names."""

    def write(connection: Connection) -> None:
        for place in places or (UI,):
            number, _ = content.ensure_repository(connection, place, content.Act(1, "user:7", makes_project=True))
            for each in range(count):
                row = {"repository_id": number, "tag": "", "media_type": "m", "deleted_at": 1, "deleted_by": "user:7"}
                digest = Digest.of(b"%d" % each).text
                statement = insert(trash).values(**row, digest=digest, size_bytes=len(body), until=until)
                thrown = connection.execute(statement.returning(trash.c.id)).scalar_one()
                connection.execute(insert(trash_bodies).values(trash_id=thrown, content=body))
                named = {"repository_id": number, "target": Digest.of(b"blob %d" % each).text, "trash_id": thrown}
                connection.execute(insert(trash_targets).values(**named))

    written(house, write)


def left(house: House) -> tuple[int, int]:
    """How many things the trash has, each with its bytes, and how much of what they name."""

    def look(connection: Connection) -> tuple[int, int]:
        counts = [select(func.count()).select_from(table) for table in (trash, trash_bodies, trash_targets)]
        things, bodies, targets = (int(connection.execute(each).scalar_one()) for each in counts)
        assert bodies == things
        return things, targets

    return house.database.read_now(look)


def emptied(house: House) -> list[tuple[Any, Any, Any]]:
    found = [event for event in house.records() if str(event["kind"]).startswith("trash.empty")]
    return [(event["kind"], event["outcome"], event.get("detail")) for event in found]


def told(count: int, **more: object) -> dict[str, object]:
    return {**more, "count": count, "bytes": count * len(BODY)}


def resting(monkeypatch: pytest.MonkeyPatch, do: Callable[[int], Any]) -> None:
    """Has *do* done in each rest between commits, told which it is."""
    rests = 0

    class Loop:
        """asyncio, as the module sees it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            nonlocal rests
            assert seconds > 0
            rests += 1
            await do(rests)

    monkeypatch.setattr(emptying, "asyncio", Loop())


@pytest.mark.parametrize("overdue", [True, False])
@pytest.mark.usefixtures("sliced")
def test_much_goes_in_several_commits_between_which_others_commit_and_one_event_tells_of_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, overdue: bool
) -> None:
    filled(stage.house, 3, UI, OTHER)
    seen: list[tuple[int, int]] = []

    async def pulled(rest: int) -> None:
        await stage.house.ledger.commit(Act(Event(Kind.MANIFEST_PULL, OPERATOR)))
        seen.append(left(stage.house))

    resting(monkeypatch, pulled)
    if overdue:
        stage.run(stage.sweep())
    else:
        assert stage.run(acts(stage).acts.trash.empty_trash(OPERATOR)) == 6

    assert seen == [(4, 4), (2, 2)]
    assert left(stage.house) == (0, 0)
    facts: dict[str, object] = {"overdue": True} if overdue else {}
    assert emptied(stage.house) == [
        ("trash.empty.begun", "allowed", told(6, **facts)),
        ("trash.empty", "allowed", told(6, **facts)),
    ]
    kinds = [event["kind"] for event in stage.house.records()]
    middle = kinds[kinds.index("trash.empty.begun") + 1 : kinds.index("trash.empty")]
    assert middle == ["manifest.pull"] * 2


@pytest.mark.usefixtures("sliced")
def test_the_trash_of_one_repository_goes_in_slices_and_no_other(stage: Stage) -> None:
    filled(stage.house, 5, UI, OTHER)
    assert stage.run(acts(stage).acts.trash.empty_trash(OPERATOR, UI.name)) == 5
    assert left(stage.house) == (5, 5)
    [begun, ended] = [event for event in stage.house.records() if "trash.empty" in str(event["kind"])]
    where = {"project": "gallery", "repository": UI.name, "action": "delete", "detail": told(5)}
    assert where.items() <= begun.items()
    assert where.items() <= ended.items()


def test_what_fits_into_one_commit_has_no_beginning(stage: Stage) -> None:
    filled(stage.house, 5)
    stage.run(acts(stage).acts.trash.empty_trash(OPERATOR))
    assert emptied(stage.house) == [("trash.empty", "allowed", told(5))]


def test_long_manifests_name_much_and_go_in_smaller_slices(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emptying, "_BYTES", 2 * len(BODY) + 1)
    seen: list[int] = []

    async def looked(rest: int) -> None:
        seen.append(left(stage.house)[0])

    filled(stage.house, 5)
    filled(stage.house, 1, OTHER, body=10 * BODY, until=3)
    resting(monkeypatch, looked)
    assert stage.run(acts(stage).acts.trash.empty_trash(OPERATOR)) == 6
    assert seen == [4, 2, 1]


@pytest.mark.usefixtures("sliced")
def test_what_comes_into_the_trash_meanwhile_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = stage.run(stage.push_image(UI))

    async def thrown(rest: int) -> None:
        if rest == 1:
            await stage.delete(UI, manifest.digest)

    filled(stage.house, 5)
    resting(monkeypatch, thrown)
    assert stage.run(acts(stage).acts.trash.empty_trash(OPERATOR, UI.name)) == 5
    [row] = stage.run(acts(stage).acts.trash.list_trash(OPERATOR))
    assert row.digest == manifest.digest.text


@pytest.mark.usefixtures("sliced")
def test_a_project_that_becomes_read_only_meanwhile_keeps_the_rest_and_the_event_tells_what_went(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def held(rest: int) -> None:
        if rest == 2:
            await stage.commit(projects.set_project(UI.project, Wishes(read_only="inventory")))

    filled(stage.house, 7)
    resting(monkeypatch, held)
    with pytest.raises(ReadOnly, match="inventory"):
        stage.run(acts(stage).acts.trash.empty_trash(OPERATOR))
    assert left(stage.house) == (3, 3)
    assert emptied(stage.house) == [
        ("trash.empty.begun", "allowed", told(7)),
        ("trash.empty", "denied", told(4)),
    ]


@pytest.mark.usefixtures("sliced")
def test_nothing_goes_of_all_while_one_project_is_read_only(stage: Stage) -> None:
    filled(stage.house, 3, UI, OTHER)
    stage.run(stage.commit(projects.set_project(OTHER.project, Wishes(read_only="inventory"))))
    with pytest.raises(ReadOnly):
        stage.run(acts(stage).acts.trash.empty_trash(OPERATOR))
    assert left(stage.house) == (6, 6)
    assert [(kind, outcome) for kind, outcome, _ in emptied(stage.house)] == [("trash.empty", "denied")]


@pytest.mark.usefixtures("sliced")
def test_a_sweep_goes_on_elsewhere_when_a_project_becomes_read_only_meanwhile(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def held(rest: int) -> None:
        if rest == 1:
            await stage.commit(projects.set_project(UI.project, Wishes(read_only="inventory")))

    filled(stage.house, 4, UI, OTHER)
    resting(monkeypatch, held)
    stage.run(stage.sweep())
    assert {row.repository for row in stage.run(acts(stage).acts.trash.list_trash(OPERATOR))} == {UI.name}
    went = 8 - left(stage.house)[0]
    assert emptied(stage.house)[-1] == ("trash.empty", "allowed", told(went, overdue=True))


@pytest.mark.usefixtures("sliced")
def test_whoever_loses_the_right_meanwhile_drops_nothing_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = acts(stage)
    filled(stage.house, 6)
    writer = rooms.user("writer")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "writer", "maintainer", "gallery"))

    async def revoked(rest: int) -> None:
        if rest == 1:
            await rooms.acts.grants.remove_grant(OPERATOR, "writer", "gallery")

    resting(monkeypatch, revoked)
    with pytest.raises(Denied):
        rooms.run(rooms.acts.trash.empty_trash(writer, UI.name))
    assert left(stage.house) == (4, 4)
    assert emptied(stage.house)[-1] == ("trash.empty", "denied", told(2))


@pytest.mark.usefixtures("sliced")
def test_an_emptying_that_is_cancelled_tells_exactly_what_went(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(stage.house, 9)
    drop = bins.drop

    async def story() -> None:
        running = asyncio.create_task(acts(stage).acts.trash.empty_trash(OPERATOR))
        loop = asyncio.get_running_loop()
        slices = 0

        def dropped(connection: Connection, going: Going, things: Sequence[Thing]) -> tuple[int, int]:
            # In the committing thread, while the act waits for this very slice.
            nonlocal slices
            slices += 1
            if slices == 2:
                loop.call_soon_threadsafe(running.cancel)
                time.sleep(0.2)
            return drop(connection, going, things)

        monkeypatch.setattr(bins, "drop", dropped)
        with pytest.raises(asyncio.CancelledError):
            await running

    stage.run(story())
    assert left(stage.house) == (5, 5)
    assert emptied(stage.house) == [("trash.empty.begun", "allowed", told(9)), ("trash.empty", "failed", told(4))]


@pytest.mark.usefixtures("sliced")
def test_two_that_empty_at_once_count_each_thing_once(stage: Stage) -> None:
    filled(stage.house, 11)

    async def story() -> list[int]:
        empty = acts(stage).acts.trash.empty_trash
        return list(await asyncio.gather(empty(OPERATOR), empty(OPERATOR, UI.name)))

    assert sum(stage.run(story())) == 11
    assert left(stage.house) == (0, 0)


def _empty(url: str, data: Path, said: Any) -> None:
    """Empties the trash until it is killed, in the second rest."""
    emptying.__dict__["_THINGS"] = 2
    with opened(url, data) as house, pytest.MonkeyPatch.context() as patch:

        async def stop(rest: int) -> None:
            if rest == 2:
                said.put(rest)
                await asyncio.sleep(600)

        resting(patch, stop)
        house.run(rooms_of(house).acts.trash.empty_trash(OPERATOR))


def test_an_emptying_that_is_killed_has_a_beginning_and_no_end_and_the_next_one_goes_on(
    house: House, database_url: str
) -> None:
    filled(house, 9)
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    process = context.Process(target=_empty, args=(database_url, house.data, said))
    process.start()
    said.get(timeout=60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    assert left(house) == (5, 5)
    assert emptied(house) == [("trash.empty.begun", "allowed", told(9))]
    assert house.run(rooms_of(house).acts.trash.empty_trash(OPERATOR)) == 5
    assert left(house) == (0, 0)
    assert emptied(house)[1:] == [("trash.empty", "allowed", told(5))]
