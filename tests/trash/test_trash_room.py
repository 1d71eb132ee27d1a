"""The counter of what a project has in the trash: what is there, whatever came and went; and asked without counting."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, insert, select

from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository, Tag
from gateway.records import content, projects
from gateway.records import trash as records_trash
from gateway.records.database import Database
from gateway.records.projects import Wishes
from gateway.records.schema import projects as project_table
from gateway.records.schema import repositories, trash, trash_bodies
from gateway.records.trash import Bin, Going, Trashed
from tests.administration.rooms import rooms_of
from tests.contract.house import index
from tests.house import OPERATOR, House, opened
from tests.sweep.stage import DAY, UI, Stage

WEEK = 7 * DAY
AWAY = Repository("zebra/app")
API = Repository("gallery/api")


@pytest.fixture
def stage(house: House) -> Stage:
    return Stage(house, trash_seconds=WEEK)


def counters(database: Database) -> dict[str, tuple[int, int]]:
    """Of each project, what its counter says and what its trash holds."""

    def look(connection: Connection) -> dict[str, tuple[int, int]]:
        held = (
            select(func.coalesce(func.sum(func.length(trash_bodies.c.content)), 0))
            .join(trash, trash.c.id == trash_bodies.c.trash_id)
            .join(repositories, repositories.c.id == trash.c.repository_id)
            .where(repositories.c.project_id == project_table.c.id)
        )
        statement = select(project_table.c.name, project_table.c.trash_bytes, held.scalar_subquery())
        return {name: (int(says), int(holds)) for name, says, holds in connection.execute(statement)}

    return database.read_now(look)


def things(connection: Connection) -> list[tuple[Trashed, bytes | None]]:
    """All that the trash lists, and the bytes of the manifests."""
    found: list[tuple[Trashed, bytes | None]] = []
    for thing in records_trash.listed(connection, limit=100):
        place = content.repository_id(connection, Repository(thing.repository))
        assert place is not None
        kept = None if thing.tag else records_trash.manifest(connection, place, thing.digest)
        found.append((thing, kept and kept[1]))
    return found


def test_the_counter_is_what_the_trash_of_a_project_holds_whatever_comes_and_goes(stage: Stage) -> None:
    acts = rooms_of(stage.house, engine=stage.engine, trash_seconds=WEEK).acts

    def right(wanted: int, away: int = 0) -> None:
        found = counters(stage.house.database)
        assert (found["gallery"], found.get("zebra", (0, 0))) == ((wanted, wanted), (away, away))

    def pushed(place: Repository, *names: str, layer: bytes = b"a layer") -> Manifest:
        return stage.run(stage.push_image(place, *names, layer=layer))

    one, size = pushed(UI, "v1"), len(pushed(UI, "v1").content)
    right(0)
    for _ in range(2):
        stage.run(stage.delete(UI, one.digest))
        right(size)
        pushed(UI, "v1")
    stage.run(stage.commit(stage.engine.manifests.untag(UI, Tag("v1"), "user:7")))
    right(size)
    for place in (API, AWAY):
        stage.run(stage.delete(place, pushed(place, "v1").digest))
    right(2 * size, size)
    stage.run(acts.trash.restore_manifest(OPERATOR, API.name, one.digest.text))
    right(size, size)
    stage.run(stage.delete(API, one.digest))
    right(2 * size, size)
    stage.run(acts.trash.empty_trash(OPERATOR, UI.name))
    right(size, size)
    two = pushed(UI, layer=b"two")
    listing = index([(two.content, two.media_type)])
    stage.run(stage.put(UI, listing, "old"))
    stage.run(acts.retention.set(OPERATOR, "gallery", matching=("v*",)))
    stage.run(acts.retention.apply(OPERATOR, "gallery"))
    right(size + len(two.content) + len(listing.content), size)
    stage.run(acts.repositories.remove_repository(OPERATOR, API.name))
    right(len(two.content) + len(listing.content), size)
    stage.clock.now += 2 * WEEK
    stage.run(stage.sweep())
    right(0)


def test_what_cannot_be_kept_for_want_of_room_does_not_count(stage: Stage) -> None:
    one = stage.run(stage.push_image(UI))
    two = stage.run(stage.push_image(API, layer=b"two"))
    stage.run(stage.commit(projects.set_project(UI.project, Wishes(quota_bytes=len(one.content)))))
    for place, manifest in ((UI, one), (API, two)):
        stage.run(stage.delete(place, manifest.digest))
    assert counters(stage.house.database)["gallery"] == (len(one.content), len(one.content))


def test_throwing_away_takes_no_longer_however_much_is_in_the_trash(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        stage = Stage(house, trash_seconds=WEEK)
        manifests = [stage.run(stage.push_image(UI, layer=b"layer %d" % number)) for number in range(2)]
        stage.run(stage.commit(projects.set_project(UI.project, Wishes(quota_bytes=2**40))))

        def steps(manifest: Manifest) -> int:
            """How many instructions of its own SQLite takes for it, in tens."""
            count = 0

            def step() -> None:
                nonlocal count
                count += 1

            def delete(connection: Connection) -> Notes:
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                driver.set_progress_handler(step, 10)
                try:
                    return content.delete_manifest(connection, UI, manifest.digest, Bin(1, "user:7", WEEK))
                finally:
                    driver.set_progress_handler(None, 0)

            stage.run(stage.commit(Change(delete, repositories=(UI,))))
            return count

        def fill(connection: Connection) -> Notes:
            place = content.repository_id(connection, UI)
            row = {"repository_id": place, "tag": "", "media_type": "m", "size_bytes": 2, "deleted_by": "user:7"}
            rows: list[dict[str, Any]] = [
                {**row, "digest": Digest.of(b"%d" % number).text, "deleted_at": 1, "until": 2} for number in range(5000)
            ]
            connection.execute(insert(trash), rows)
            return Notes()

        alone = steps(manifests[0])
        stage.run(stage.commit(Change(fill)))
        assert steps(manifests[1]) < 2 * alone


def test_what_was_in_the_trash_before_it_was_counted_counts(database_url: str, tmp_path: Path) -> None:
    with opened(database_url, tmp_path) as house:
        stage = Stage(house, trash_seconds=WEEK)
        for place in (UI, API, AWAY):
            stage.run(stage.delete(place, stage.run(stage.push_image(place, "v1")).digest))
        expected, listed = counters(house.database), house.database.read_now(things)
    database = Database.open(database_url, tmp_path)
    with database.engine.connect() as connection:
        for statement in (
            f"ALTER TABLE trash ADD COLUMN content {'BLOB' if database.sqlite else 'BYTEA'}",
            "UPDATE trash SET content = (SELECT content FROM trash_bodies WHERE trash_id = trash.id)",
            "DROP TABLE trash_bodies",
            "ALTER TABLE trash DROP COLUMN size_bytes",
            "ALTER TABLE projects DROP COLUMN trash_bytes",
        ):
            connection.exec_driver_sql(statement)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
        config.attributes["connection"] = connection
        steps = list(ScriptDirectory.from_config(config).walk_revisions())
        for name in ("_trash_room.py", "_trash_bodies.py"):
            [step] = [script for script in steps if script.path.endswith(name)]
            command.stamp(config, str(step.down_revision))
            command.upgrade(config, step.revision)
    found = counters(database)
    assert database.read_now(things) == listed
    database.close()
    assert found == expected
    assert all(says == holds > 0 for says, holds in found.values())


def read_here() -> int:
    """The bytes that this thread has read so far, from whatever file."""
    told = dict(line.split(": ") for line in Path("/proc/thread-self/io").read_text().splitlines())
    return int(told["rchar"])


def test_looking_into_the_trash_reads_nothing_of_the_manifests_thrown_away(tmp_path: Path) -> None:
    large = b"x" * 4_000_000

    def fill(connection: Connection) -> Notes:
        place, _ = content.ensure_repository(connection, UI, content.Act(1, "user:7", makes_project=True))
        told = {
            "repository_id": place,
            "tag": "",
            "media_type": "m",
            "deleted_at": 1,
            "deleted_by": "user:7",
            "until": 2,
        }
        for number in range(10):
            row = {**told, "digest": Digest.of(b"%d" % number).text, "size_bytes": len(large)}
            thrown = connection.execute(insert(trash).returning(trash.c.id), row).scalar_one()
            connection.execute(insert(trash_bodies), {"trash_id": thrown, "content": large})
        return Notes()

    # PostgreSQL keeps what is large apart anyhow.
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        house.run(house.ledger.commit(Act(Event(Kind.PROJECT_SET, OPERATOR), Change(fill))))
        with house.database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA mmap_size = 0")
            looks: list[Callable[[], object]] = [
                lambda: records_trash.listed(connection, limit=100),
                lambda: records_trash.heap(connection, Going()),
                lambda: records_trash.page(connection, Going(), 100, None, 100),
            ]
            for look in looks:
                before = read_here()
                assert look()
                assert read_here() - before < 1_000_000
            before = read_here()
            assert records_trash.manifest(connection, 1, Digest.of(b"1").text)
            assert read_here() - before >= len(large)
