"""The database is away: whoever asks is told to come back, 503, and the log has one line of it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.protocol.harness import PASSWORD, SERVICE, world_on
from tests.services.postgres import running_postgres

#: Longer than the ledger's thread waits before it looks again.
LOOKS_SECONDS = 1.2


def test_nobody_meets_a_fault_while_the_database_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_postgres() as server, world_on(server.create_database(), tmp_path) as world:
        world.push_image(world.token("alice", "repository:alpha/app:pull,push"), "alpha/app", "v1")
        tokens = [world.token(name, "repository:alpha/app:pull") for name in ("alice", "bob", "dave")]
        everything = world.token("root", "registry:catalog:*")
        caplog.clear()
        caplog.set_level(logging.WARNING)
        with server.away():
            # Whatever is idle finds out, too.
            time.sleep(LOOKS_SECONDS)
            for _ in range(2):
                answers = [
                    world.sign_in("alice", "repository:alpha/app:pull"),
                    world.sign_in("alice", "repository:alpha/app:pull", password="wrong"),
                    world.sign_in("nobody-at-all", "repository:alpha/app:pull"),
                    world.sign_in("", "repository:pub/app:pull"),
                    world.ask(
                        "POST",
                        "/token",
                        body=urlencode(
                            {
                                "grant_type": "password",
                                "service": SERVICE,
                                "username": "alice",
                                "password": PASSWORD,
                            }
                        ).encode(),
                        headers={"Content-Type": "application/x-www-form-urlencoded"},
                    ),
                    *(world.ask("GET", "/v2/alpha/app/manifests/v1", token=token) for token in tokens),
                    world.ask("POST", "/v2/alpha/app/blobs/uploads/", token=tokens[0]),
                    world.ask("GET", "/v2/_catalog", token=everything),
                ]
                assert [answer.status for answer in answers] == [503] * len(answers)
                assert {answer.code for answer in answers} == {"UNAVAILABLE"}
                assert all(int(answer.header("retry-after")) > 0 for answer in answers)
        assert [record.message.partition(":")[0] for record in caplog.records] == ["the database does not answer"]
        assert world.sign_in("alice", "repository:alpha/app:pull").status == 200
        assert world.ask("GET", "/v2/alpha/app/manifests/v1", token=tokens[1]).status == 200
