"""Looking is bounded: no page of content or access reads a whole table, however much there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from gateway.engine.embedded.assembly import embedded
from tests.administration.rooms import rooms_of
from tests.administration.stocking import Stock
from tests.house import House, opened

#: The tables that grow with what is pushed and asked.
LARGE = "events|event_index|repositories|manifests|links|tags|edges|blobs|manifest_bodies|grants"
SCAN = re.compile(rf"SCAN (?:\w+\.)?(?:{LARGE})(?:_\d+)?\b")


def plans_of(house: House, act: Any) -> list[str]:
    """How SQLite goes about every query of *act*."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, values))

    event.listen(house.database.engine, "before_cursor_execute", note)
    house.run(act)
    event.remove(house.database.engine, "before_cursor_execute", note)
    assert asked
    found = []
    for statement, values in asked:
        rows = house.database.read_now(
            lambda connection, statement=statement, values=values: connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", values
            ).all()
        )
        found += [f"{row[3]}   in {statement}" for row in rows]
    return found


@pytest.mark.parametrize(
    "act",
    ["repositories", "repositories by a part", "tags", "tags by a part", "manifest", "removing", "access", "account"],
)
def test_no_page_reads_a_whole_table(tmp_path: Path, act: str) -> None:
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        rooms = rooms_of(house, engine=embedded(tmp_path / "blobs", house.database))
        jane = rooms.owner("jane", "gallery")
        stock = Stock(house, rooms.acts.engine, jane)
        image = stock.image("gallery/ui", "v1")
        stock.index("gallery/ui", "all", children=[(image, {})])
        contents, effective = rooms.acts.contents, rooms.acts.effective
        acts = {
            "repositories": lambda: contents.repositories(jane, "gallery"),
            "repositories by a part": lambda: contents.repositories(jane, "gallery", containing="u", after="gallery/a"),
            "tags": lambda: contents.tags(jane, "gallery/ui"),
            "tags by a part": lambda: contents.tags(jane, "gallery/ui", containing="v"),
            "manifest": lambda: contents.manifest(jane, "gallery/ui", "all"),
            "removing": lambda: contents.removing(jane, "gallery/ui", image.digest.text),
            "access": lambda: effective.who(jane, "gallery/ui"),
            "account": lambda: effective.of_account(jane, "jane"),
        }
        assert [plan for plan in plans_of(house, acts[act]()) if SCAN.search(plan)] == []
        rooms.acts.hashing.close()
