"""The database is away: a page says so, 503, in the frame that needs no database, and the log has one line of it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.administration.sessions import Sessions
from tests.console.browsing import PASSWORD, Browser, desk_on
from tests.house import OPERATOR
from tests.services.postgres import running_postgres

#: Longer than the ledger's thread waits before it looks again.
LOOKS_SECONDS = 1.2


def test_nobody_meets_a_fault_while_the_database_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_postgres() as server, desk_on(server.create_database(), tmp_path) as desk:
        jane, guest = desk.browser("jane", administrator=True), Browser(desk)
        csrf, session = jane.csrf(), desk.run(desk.acts.sessions.find(jane.cookie, OPERATOR.origin))
        caplog.clear()
        caplog.set_level(logging.WARNING)
        with server.away():
            # Whatever is idle finds out, too.
            time.sleep(LOOKS_SECONDS)
            for _ in range(2):
                pages = [
                    jane.get("/console/"),
                    jane.get("/console/projects"),
                    jane.post("/console/projects", {"name": "gallery", "csrf": csrf}),
                    guest.post("/console/sign-in", {"name": "jane", "password": PASSWORD}),
                    guest.post("/console/sign-in", {"name": "nobody-at-all", "password": "wrong"}),
                ]
                assert [(page.status, page.heading) for page in pages] == [(503, "Not available")] * len(pages)
                assert all("The database does not answer" in page.words for page in pages)
                assert all(int(page.header("retry-after")) > 0 for page in pages)
            assert guest.get("/console/sign-in").status == 200

            async def find(*_: Any) -> Any:
                return session

            # It goes away after the session was found, and before anything else is.
            monkeypatch.setattr(Sessions, "find", find)
            page = jane.get("/console/projects")
            assert (page.status, page.heading) == (503, "Not available")
            monkeypatch.undo()
        assert [record.message.partition(":")[0] for record in caplog.records] == ["the database does not answer"]
        assert jane.get("/console/projects").status == 200
