"""A database that goes away and comes back: readers are refused meanwhile, and the log has a line for each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.errors import Unavailable
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.names import Repository
from gateway.records import driver, mirror, sweeping, uploads
from tests.house import GATEWAY, House, opened
from tests.services.postgres import PostgresServer, running_postgres

DIGEST = Digest(f"sha256:{'0' * 64}")
#: Longer than the ledger's thread waits before it looks again.
LOOKS_SECONDS = 1.2


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be stopped: nobody else uses it."""
    with running_postgres() as made:
        yield made


@pytest.fixture
def house_there(server: PostgresServer, tmp_path: Path) -> Iterator[House]:
    with opened(server.create_database(), tmp_path) as made:
        yield made


def one(connection: Connection) -> Any:
    return connection.execute(text("SELECT 1")).scalar()


def one_of_the_driver(connection: Connection) -> Any:
    return driver.rows_of(connection, "SELECT 1")[0][0]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message.partition(":")[0] for record in caplog.records]


@pytest.mark.parametrize("query", [one, one_of_the_driver])
def test_who_reads_is_refused_while_the_database_is_away(
    server: PostgresServer, house_there: House, query: Callable[[Connection], Any]
) -> None:
    database = house_there.database
    assert asyncio.run(database.read(query)) == 1
    with server.away():
        for _ in range(2):
            with pytest.raises(Unavailable, match="The database does not answer"):
                asyncio.run(database.read(query))
            with pytest.raises(Unavailable, match="The database does not answer"):
                database.read_now(query)
            with pytest.raises(Unavailable, match="The database does not answer"):
                database.writer()
    assert asyncio.run(database.read(query)) == 1


@pytest.mark.parametrize("query", [one, one_of_the_driver])
def test_who_was_reading_when_it_went_away_is_refused(
    server: PostgresServer, house_there: House, query: Callable[[Connection], Any]
) -> None:
    def meanwhile(connection: Connection) -> Any:
        query(connection)
        with server.away():
            return query(connection)

    with pytest.raises(Unavailable, match="The database does not answer") as refused:
        house_there.database.read_now(meanwhile)
    assert refused.value.uncertain


def test_a_fault_of_a_query_is_no_outage(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for query in (lambda connection: connection.execute(text("SELECT nothing")), lambda _: 1 // 0):
        with pytest.raises(Exception, match=r"nothing|by zero") as fault:
            house.database.read_now(query)
        assert not isinstance(fault.value, Unavailable)
    assert told(caplog) == []


def test_the_log_has_one_line_when_it_goes_and_one_when_it_is_back(
    server: PostgresServer, house_there: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def act() -> None:
        await house_there.ledger.commit(Act(Event(Kind.GATEWAY_START, GATEWAY)))

    asyncio.run(act())
    with server.away():
        time.sleep(LOOKS_SECONDS)
        for _ in range(3):
            with pytest.raises(Unavailable, match="The audit trail cannot be written now"):
                asyncio.run(act())
            with pytest.raises(Unavailable):
                house_there.database.read_now(one)
        assert house_there.ledger.broken
        assert told(caplog) == ["the database does not answer"]
        assert all(record.exc_info is None and "\n" not in record.message for record in caplog.records)
    asyncio.run(act())
    assert told(caplog) == ["the database does not answer", "the database answers again"]


@pytest.mark.parametrize("query", [one, one_of_the_driver])
def test_an_outage_in_the_middle_of_a_change_is_one_line_in_the_log(
    server: PostgresServer, house_there: House, caplog: pytest.LogCaptureFixture, query: Callable[[Connection], Any]
) -> None:
    def meanwhile(connection: Connection) -> Notes:
        query(connection)
        server.stop()
        query(connection)
        return Notes()

    house_there.run(house_there.ledger.commit(Act(Event(Kind.GATEWAY_START, GATEWAY))))
    try:
        with caplog.at_level(logging.WARNING), pytest.raises(Unavailable, match="The audit trail cannot be written"):
            house_there.run(house_there.ledger.commit(Act(Event(Kind.GATEWAY_START, GATEWAY), Change(meanwhile))))
    finally:
        # By this thread: started by the ledger's own, it would end with it.
        server.start()
    assert told(caplog)[0] == "the database does not answer"
    assert all(record.exc_info is None and "\n" not in record.message for record in caplog.records)
    house_there.run(house_there.ledger.commit(Act(Event(Kind.GATEWAY_START, GATEWAY))))


def test_what_is_written_by_the_way_may_wait_until_it_is_back(server: PostgresServer, house_there: House) -> None:
    with server.away():
        mirror.learn_size(house_there.database, DIGEST, 1)
        uploads.forget(house_there.database, "0" * 32)
        assert sweeping.spare(house_there.database, Repository("gallery/ui"), DIGEST, 1)
