"""The database is away: programs are told to come back, 503, and the log has one line of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.administration.accounts import Accounts
from gateway.api.routes import PREFIX
from tests.api.desk import Desk, desk_on
from tests.services.postgres import PostgresServer, running_postgres

#: Longer than the ledger's thread waits before it looks again.
LOOKS_SECONDS = 1.2


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be stopped: nobody else uses it."""
    with running_postgres() as made:
        yield made


@pytest.fixture(scope="module")
def desk(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_on(server.create_database(), tmp_path_factory.mktemp("data")) as made:
        yield made


def test_nobody_meets_a_fault_while_the_database_is_away(
    server: PostgresServer, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    assert desk.ask("root", "GET", f"{PREFIX}/projects").status == 200
    caplog.clear()
    caplog.set_level(logging.WARNING)
    with server.away():
        # Whatever is idle finds out, too.
        time.sleep(LOOKS_SECONDS)
        for _ in range(2):
            answers = [
                desk.ask("root", "GET", f"{PREFIX}/projects"),
                desk.ask("alice", "GET", f"{PREFIX}/projects/alpha"),
                desk.ask("root", "POST", f"{PREFIX}/projects", {"name": "gamma"}),
                desk.ask("root", "DELETE", f"{PREFIX}/projects/beta"),
                desk.ask("", "GET", f"{PREFIX}/projects", token=f"{desk.tokens['root'][:-1]}_"),
            ]
            assert [answer.status for answer in answers] == [503] * len(answers)
            assert {answer.problem["code"] for answer in answers} == {"UNAVAILABLE"}
            assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["the database does not answer"]
    assert desk.ask("root", "GET", f"{PREFIX}/projects").status == 200


def test_what_may_have_been_done_before_it_went_away_is_not_done_again_under_its_key(
    server: PostgresServer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Idempotency-Key": "broken-off"}
    real = Accounts.add_user

    async def add_user(self: Any, *args: Any, **given: Any) -> Any:
        await real(self, *args, **given)
        with server.away():
            return await self.database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())

    monkeypatch.setattr(Accounts, "add_user", add_user)
    first = desk.ask("root", "POST", f"{PREFIX}/users", {"name": "unheard"}, headers=key)
    monkeypatch.undo()
    assert first.status == 503
    again = desk.ask("root", "POST", f"{PREFIX}/users", {"name": "unheard"}, headers=key)
    assert (again.status, "was done" in again.problem["detail"]) == (409, True)
