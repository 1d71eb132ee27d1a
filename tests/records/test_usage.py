"""The counter of what a project uses: always what it holds, whatever came and went, and never over the quota."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select, update

from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.engine.embedded.assembly import embedded
from gateway.errors import QuotaExceeded, Refusal
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository, Tag
from gateway.records import content, mirror, projects, usage
from gateway.records.database import Database
from gateway.records.importing import Bundle, keep
from gateway.records.projects import Wishes
from gateway.records.schema import links
from gateway.records.schema import projects as project_table
from tests.contract.house import WRITER, Houses, image, index
from tests.contract.house import House as Process
from tests.house import OPERATOR, House, opened

GALLERY = ProjectName("gallery")
BLOB_BYTES = 1000
PUSHES = 40
TAG = Tag("v1")


def counters(database: Database) -> dict[str, tuple[int, int]]:
    """Of each project, what its counter says and what it holds."""

    def look(connection: Connection) -> dict[str, tuple[int, int]]:
        rows = connection.execute(select(project_table)).all()
        return {row.name: (row.used_bytes, usage.measured(connection, row.id)[1]) for row in rows}

    return database.read_now(look)


def right(process: Process) -> bool:
    found = counters(process.database)
    return all(says == holds for says, holds in found.values())


PLACES = [Repository(name) for name in ("gallery/ui", "gallery/api", "garden/ui")]
IMAGES = [image(b"{}", layer, annotations={"number": str(number)}) for number, layer in enumerate((b"a", b"bb", b"cc"))]
LISTING = index([(IMAGES[0].content, IMAGES[0].media_type)])
STEPS = st.tuples(
    st.sampled_from(["push", "image", "index", "mount", "unlink", "delete", "untag", "remove", "import"]),
    st.sampled_from(PLACES),
    st.integers(0, len(IMAGES) - 1),
)


async def _step(process: Process, verb: str, place: Repository, number: int) -> None:
    engine, chosen = process.engine, IMAGES[number]
    layer = chosen.layers[0].digest
    text = (b"a", b"bb", b"cc")[number]
    match verb:
        case "push":
            await process.push(place, text)
        case "image":
            await process.push(place, b"{}")
            await process.push(place, text)
            await process.put(place, chosen, "v1")
        case "index":
            await process.put(place, LISTING, "v2")
        case "mount":
            await process.commit(engine.blobs.mount(PLACES[number], place, layer))
        case "unlink":
            await process.commit(engine.blobs.delete(place, layer))
        case "delete":
            await process.commit(engine.manifests.delete(place, chosen.digest))
        case "untag":
            await process.commit(engine.manifests.untag(place, Tag("v1")))
        case "remove":
            process.apply(Change(lambda connection: content.remove_repository(connection, place) or Notes()))
        case "import":
            act = content.Act(1, WRITER, True)
            bundle = Bundle({layer: len(text), Digest.of(b"{}"): 2}, [chosen], [(Tag("v3"), chosen.digest)])

            def bring(connection: Any) -> Notes:
                keep(connection, place, bundle, act)
                return Notes()

            process.apply(Change(bring, policy=True))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_the_counter_is_what_a_project_holds_whatever_comes_and_goes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Repository, int]]
) -> None:
    data = tmp_path_factory.mktemp("data")
    houses = Houses(f"sqlite:///{data / 'gateway.db'}", data)
    process = houses.open()

    async def story() -> None:
        for step in steps:
            try:
                await _step(process, *step)
            except Refusal:
                continue
            finally:
                assert right(process), step

    try:
        asyncio.run(story())
    finally:
        houses.close()


def test_the_counter_is_right_on_each_database(database_url: str, tmp_path: Path) -> None:
    houses = Houses(database_url, tmp_path)
    process = houses.open()

    async def story() -> None:
        verbs = ("push", "image", "index", "mount", "import", "unlink", "delete", "untag", "remove")
        for verb in verbs:
            for place in PLACES:
                for number in range(len(IMAGES)):
                    try:
                        await _step(process, verb, place, number)
                    except Refusal:
                        continue
                    finally:
                        assert right(process), (verb, place, number)

    asyncio.run(story())
    houses.close()


def test_a_counter_that_was_changed_from_outside_is_set_right(house: House) -> None:
    def act(change: Callable[[Connection], Any]) -> Any:
        done = Change(lambda connection: Notes(result=change(connection)), policy=True)
        return house.run(house.ledger.commit(Act(Event(Kind.PROJECT_SET, OPERATOR), done))).result

    row = house.run(
        house.ledger.commit(Act(Event(Kind.PROJECT_ADD, OPERATOR), projects.add(GALLERY, public=False, now=1)))
    )
    act(lambda connection: connection.execute(update(project_table).values(used_bytes=77)) and None)

    assert act(lambda connection: usage.recount(connection, row.result.id)) == (77, 0)
    assert act(lambda connection: usage.recount(connection, row.result.id)) == (0, 0)


def test_what_half_the_world_holds_is_weighed_once_in_each_project(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage._statements.cache_clear()
    monkeypatch.setattr("gateway.records.usage._NEAR", 2)
    houses = Houses(database_url, tmp_path)
    process = houses.open()

    async def story() -> None:
        for number in range(5):
            await process.push(Repository(f"p{number}/ui"), b"shared")
        for name in ("gallery/a", "gallery/b", "gallery/c"):
            await process.push(Repository(name), b"shared")
            assert right(process)
        for name in ("gallery/b", "gallery/a", "gallery/c"):
            await process.commit(process.engine.blobs.delete(Repository(name), Digest.of(b"shared")))
            assert right(process)

    asyncio.run(story())
    assert counters(process.database)["gallery"] == (0, 0)
    houses.close()
    usage._statements.cache_clear()


def test_an_import_moves_no_immutable_tag_and_keeps_to_the_quota(database_url: str, tmp_path: Path) -> None:
    houses = Houses(database_url, tmp_path)
    process = houses.open()
    act = content.Act(1, "operator:0", True)
    kept: list[tuple[str, ...]] = []

    def bring(number: int) -> Change:
        chosen, text = IMAGES[number], (b"a", b"bb", b"cc")[number]
        bundle = Bundle({chosen.layers[0].digest: len(text), Digest.of(b"{}"): 2}, [chosen], [(TAG, chosen.digest)])

        def apply(connection: Any) -> Notes:
            kept.append(keep(connection, PLACES[0], bundle, act)[0])
            return Notes()

        return Change(apply, policy=True)

    process.apply(bring(0))
    process.apply(bring(1))
    process.apply(projects.set_project(GALLERY, Wishes(immutable=("v*",))))
    process.apply(bring(0))
    assert kept == [(), (), (TAG.name,)]
    used, _ = counters(process.database)["gallery"]
    process.apply(projects.set_project(GALLERY, Wishes(quota_bytes=used)))
    with pytest.raises(QuotaExceeded):
        process.apply(bring(2))
    assert right(process)
    houses.close()


def test_what_was_removed_in_bulk_is_counted_afterwards(database_url: str, tmp_path: Path) -> None:
    houses = Houses(database_url, tmp_path)
    process = houses.open()
    shared, alone = Digest.of(b"shared"), Digest.of(b"alone")

    async def story() -> None:
        for place in PLACES[:2]:
            await process.push(place, b"shared")
        await process.push(PLACES[0], b"alone")

        def sweep(connection: Connection) -> Notes:
            place = content.repository_id(connection, PLACES[0])
            connection.execute(delete(links).where(links.c.repository_id == place))
            usage.gone(connection, GALLERY, {shared.text: 6, alone.text: 5})
            return Notes()

        process.apply(Change(sweep))

    asyncio.run(story())
    assert counters(process.database) == {"gallery": (6, 6)}
    houses.close()


def test_what_another_project_still_holds_is_no_weight_of_the_one_that_lost_it(
    database_url: str, tmp_path: Path
) -> None:
    houses = Houses(database_url, tmp_path)
    process = houses.open()
    shared = Digest.of(b"shared")

    async def story() -> None:
        for place in (PLACES[0], PLACES[2]):
            await process.push(place, b"shared")

        def sweep(connection: Connection) -> Notes:
            place = content.repository_id(connection, PLACES[0])
            connection.execute(delete(links).where(links.c.repository_id == place))
            usage.gone(connection, PLACES[0].project, {shared.text: 6})
            return Notes()

        process.apply(Change(sweep))

    asyncio.run(story())
    assert {name: used for name, (used, _) in counters(process.database).items()} == {
        PLACES[0].project.name: 0,
        PLACES[2].project.name: 6,
    }
    houses.close()


def test_what_was_there_before_quotas_counts(database_url: str, tmp_path: Path) -> None:
    houses = Houses(database_url, tmp_path)
    process = houses.open()
    asyncio.run(process.push_image(PLACES[0], "v1"))
    asyncio.run(process.push_image(PLACES[1], "v1", layer=b"another layer"))
    asyncio.run(process.push_image(PLACES[2], "v1"))
    expected = counters(process.database)
    with process.database.engine.connect() as connection:
        for name in ("quota_bytes", "used_bytes", "immutable", "read_only"):
            connection.exec_driver_sql(f"ALTER TABLE projects DROP COLUMN {name}")
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
        config.attributes["connection"] = connection
        scripts = ScriptDirectory.from_config(config).walk_revisions()
        [rules] = [script for script in scripts if script.path.endswith("_rules.py")]
        command.stamp(config, str(rules.down_revision))
        # This step alone: the tables of later ones are there.
        command.upgrade(config, rules.revision)
    houses.close()

    database = Database.open(database_url, tmp_path)
    found = counters(database)
    database.close()
    assert found == expected
    assert all(says == holds > 0 for says, holds in found.values())


def _fill(url: str, data: Path, seed: str, done: Any) -> None:
    """Pushes many blobs, several at once, and tells how many were taken."""
    with opened(url, data) as house:
        engine = embedded(data, house.database)

        async def push(number: int) -> bool:
            place = Repository(f"gallery/{seed}")
            text = f"{seed}{number}".encode().ljust(BLOB_BYTES)
            upload, begun = await engine.uploads.begin(place, f"user:{seed}")
            await house.ledger.commit(Act(Event(Kind.UPLOAD_BEGIN, OPERATOR), begun))

            async def body() -> Any:
                yield text

            _, linked = await engine.uploads.finish(upload, body(), None, Digest.of(text))
            try:
                await house.ledger.commit(Act(Event(Kind.BLOB_PUSH, OPERATOR), linked))
            except QuotaExceeded:
                return False
            return True

        async def story() -> int:
            taken = 0
            for first in range(0, PUSHES, 8):
                taken += sum(await asyncio.gather(*(push(number) for number in range(first, first + 8))))
            return taken

        done.put(house.run(story()))


def test_two_processes_that_push_at_once_fill_a_quota_and_never_exceed_it(house: House, database_url: str) -> None:
    room = 31
    quota = room * BLOB_BYTES + BLOB_BYTES - 1
    for change in (
        projects.add(GALLERY, public=False, now=1),
        projects.set_project(GALLERY, Wishes(quota_bytes=quota)),
    ):
        house.run(house.ledger.commit(Act(Event(Kind.PROJECT_SET, OPERATOR), change)))
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    processes = [context.Process(target=_fill, args=(database_url, house.data, seed, done)) for seed in ("a", "b")]
    for process in processes:
        process.start()
    taken = sum(done.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()

    assert taken == room
    assert counters(house.database) == {"gallery": (room * BLOB_BYTES, room * BLOB_BYTES)}
    denied = house.records(kind="blob.push", outcome="denied")
    assert len(denied) == 2 * PUSHES - room
    assert {event["reason"] for event in denied} == {"quota_exceeded"}


def test_a_true_size_moves_the_counter_of_everybody_who_holds_the_blob_and_of_nobody_else(
    database_url: str, tmp_path: Path
) -> None:
    houses = Houses(database_url, tmp_path)
    process = houses.open()
    act, digest = content.Act(1, "operator:0", True), Digest.of(b"shared")

    def linked(place: Repository, size_bytes: int) -> None:
        change = Change(lambda connection: content.link_blob(connection, place, digest, size_bytes, act), policy=True)
        process.apply(change)

    for place in PLACES:
        linked(place, 1)
    asyncio.run(process.push(Repository("attic/ui"), b"another"))
    mirror.learn_size(process.database, digest, 60)
    mirror.learn_size(process.database, Digest.of(b"unknown"), 60)
    assert counters(process.database) == {"gallery": (60, 60), "garden": (60, 60), "attic": (7, 7)}
    linked(PLACES[0], 6)
    assert counters(process.database) == {"gallery": (6, 6), "garden": (6, 6), "attic": (7, 7)}
    assert not process.database.read_now(lambda connection: usage.weigh(connection, Digest.of(b"unknown"), 1))
    houses.close()
