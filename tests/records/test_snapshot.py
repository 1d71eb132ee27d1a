"""A snapshot has every row of either database, and either database can be made from one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select

from gateway.audit.event import Event, Kind
from gateway.errors import Unavailable
from gateway.gate import Act
from gateway.records import snapshot
from gateway.records.migration import REVISIONS, migrate
from gateway.records.review_tables import event_counts, origins
from gateway.records.schema import event_index, metadata, projects
from tests.house import GATEWAY, House, opened
from tests.records.rows import a_repository, an_offline_token, written


def inhabited(house: House) -> None:
    """A project that is gone, one that is there with a repository in it, an account, and some events."""
    for name in ("gone", "gallery"):
        written(house, lambda connection, name=name: connection.execute(insert(projects).values(**named(name))))
    account = {"kind": "user", "name": "writer", "secret": "x", "enabled": True, "administrator": False}
    times = {"auditor": False, "generation": 1, "created_at": 1, "changed_at": 1}
    table = metadata.tables["accounts"]
    written(house, lambda connection: connection.execute(insert(table).values(**account, **times)))
    a_repository(house, "gallery/ui")
    an_offline_token(house, 1)
    written(house, lambda connection: connection.execute(insert(projects).values(**named("newest"))))
    written(
        house, lambda connection: connection.execute(delete(projects).where(projects.c.name.in_(["gone", "newest"])))
    )


def named(name: str) -> dict[str, object]:
    return {"name": name, "public": False, "created_at": 1}


def rows(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, but for what follows the events: that happens when nothing else does."""
    return {
        each.name: sorted((dict(row) for row in connection.execute(select(each)).mappings()), key=repr)
        for each in metadata.sorted_tables
        if each not in (event_index, event_counts, origins)
    }


def test_a_snapshot_has_every_row(house: House, tmp_path: Path) -> None:
    inhabited(house)
    file = tmp_path / "snapshot.db"
    snapshot.take(house.database, file)
    assert file.stat().st_mode & 0o777 == 0o600
    with snapshot.opened(file) as connection:
        found = snapshot.contents(connection)
        assert rows(connection) == house.database.read_now(rows)
        assert snapshot.linked_blobs(connection) == [("sha256:" + "a" * 64, 100)]
    assert found.schema == REVISIONS[-1]
    assert (found.counts["projects"], found.counts["repositories"], found.counts["events"]) == (1, 1, found.head.seq)
    assert sorted(path.name for path in tmp_path.glob("snapshot.db*")) == ["snapshot.db"]


def test_either_database_is_made_from_the_snapshot_of_either(
    house: House, new_postgres_database: Callable[[], str], tmp_path: Path
) -> None:
    inhabited(house)
    file, there = tmp_path / "snapshot.db", tmp_path / "there"
    there.mkdir()
    snapshot.take(house.database, file)
    before = house.database.read_now(rows)
    newest = house.database.read_now(lambda connection: connection.execute(select(projects.c.id)).scalar_one()) + 1

    url = new_postgres_database()
    migrate(url, there)
    with opened(url, there) as made:
        assert snapshot.is_empty(made.database)
        snapshot.fill(file, made.database)
        assert not snapshot.is_empty(made.database)
        assert made.database.read_now(rows) == before
        goes_on(made, newest)
    snapshot.bring_up(file)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with opened(f"sqlite:///{file}", elsewhere) as made:
        assert made.database.read_now(rows) == before
        goes_on(made, newest)


def goes_on(house: House, newest: int) -> None:
    """The chain goes on where it was, and no id is given twice."""
    assert house.trail.verify().fault == ""
    house.run(house.ledger.commit(Act(Event(Kind.STORAGE_RESTORE, GATEWAY))))
    made = written(house, lambda connection: connection.execute(insert(projects).values(**named("next"))))
    assert made.inserted_primary_key[0] == newest + 1
    assert house.trail.verify().fault == ""


def test_nobody_waits_for_a_snapshot_and_it_is_of_one_moment(house: House, tmp_path: Path) -> None:
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            house.run(house.ledger.commit(Act(Event(Kind.PROJECT_ADD, GATEWAY))))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            snapshot.take(house.database, tmp_path / f"{number}.db")
    finally:
        ended.set()
        writer.join()
    for number in range(3):
        with snapshot.opened(tmp_path / f"{number}.db") as connection:
            found = snapshot.contents(connection)
        assert found.counts["events"] == found.head.seq
        snapshot.bring_up(tmp_path / f"{number}.db")
        folder = tmp_path / f"opened-{number}"
        folder.mkdir()
        with opened(f"sqlite:///{tmp_path / f'{number}.db'}", folder) as made:
            assert made.trail.verify().fault == ""


def test_a_damaged_database_gives_no_snapshot(tmp_path: Path) -> None:
    file = tmp_path / "gateway.db"
    with opened(f"sqlite:///{file}", tmp_path) as house:
        inhabited(house)
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    file.write_bytes(content)
    with pytest.raises(Unavailable, match="damaged"), snapshot.opened(file) as connection:
        snapshot.require_sound(connection)
