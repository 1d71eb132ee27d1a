"""A database is closed under nobody: what other threads read ends first, and who comes later is refused."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from gateway.errors import Unavailable
from gateway.records import database as module
from gateway.records.database import Database

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i < 0"


def test_a_reading_thread_ends_before_its_connection_is_closed(tmp_path: Path) -> None:
    found = Database.open(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path)
    begun, read = threading.Event(), []

    def slowly(connection: Connection) -> int:
        begun.set()
        time.sleep(0.3)
        return int(connection.execute(text("SELECT 41 + 1")).scalar_one())

    thread = threading.Thread(target=lambda: read.append(found.read_now(slowly)))
    thread.start()
    begun.wait()
    found.close()
    thread.join()
    assert read == [42]
    with pytest.raises(Unavailable):
        found.read_now(slowly)


def test_a_reading_without_an_end_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READING_SECONDS", 0.2)
    found = Database.open(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path)
    begun, failed = threading.Event(), []

    def endlessly(connection: Connection) -> None:
        begun.set()
        connection.execute(text(ENDLESS)).scalar()

    def reading() -> None:
        try:
            found.read_now(endlessly)
        except OperationalError as error:
            failed.append(str(error.orig))

    thread = threading.Thread(target=reading)
    thread.start()
    begun.wait()
    found.close()
    thread.join()
    assert failed == ["interrupted"]
