"""A database file that is really damaged: one line that says what to do, and a check that tells what else it sees."""

from __future__ import annotations

import json
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing

import pytest

from gateway.records.database import Database, is_damage
from tests.cli.line import Line
from tests.cli.test_serving import running
from tests.services.daemon import free_port

PAGE = 4096
ADVICE = "is damaged: keep a copy, restore a backup (docs/backup.md)."


def told(line: Line) -> str:
    return f"gateway: The database {line.folder}/gateway.db {ADVICE}\n"


def damage(line: Line, name: str) -> None:
    """Overwrites the first page of the table *name*, or `everything` but the file's own first page."""
    file = line.folder / "gateway.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [*roots] = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,))
    every = range(2, file.stat().st_size // PAGE + 1)
    with file.open("r+b") as pages:
        for number in every if name == "everything" else roots[0]:
            pages.seek((number - 1) * PAGE)
            pages.write(b"\xff" * PAGE)


def no_database(line: Line) -> None:
    (line.folder / "gateway.db").write_bytes(b"this is no database, and was not one\n" * 500)


@pytest.mark.parametrize(
    ("ruin", "words"),
    [
        (lambda line: damage(line, "accounts"), ("user", "list")),
        (lambda line: damage(line, "events"), ("user", "list")),
        (lambda line: damage(line, "event_index"), ("audit", "verify")),
        (lambda line: damage(line, "trail_head"), ("audit", "verify")),
        (lambda line: damage(line, "everything"), ("user", "list")),
        (lambda line: damage(line, "everything"), ("up",)),
        (lambda line: damage(line, "facts"), ("migrate",)),
        (no_database, ("user", "list")),
        (no_database, ("audit", "verify")),
        (no_database, ("up",)),
        (no_database, ("serve",)),
        (no_database, ("migrate",)),
        (no_database, ("backup", "/nowhere")),
    ],
)
def test_a_damaged_database_is_told_of_in_one_line(
    furnished: Line, ruin: Callable[[Line], None], words: tuple[str, ...]
) -> None:
    ruin(furnished)
    said = furnished(*words)
    assert (said.status, said.err) == (5, told(furnished))


def test_a_program_of_its_own_says_no_more_of_damage(furnished: Line) -> None:
    damage(furnished, "events")
    said = furnished.program("user", "list")
    assert (said.status, said.out, said.err) == (5, "", told(furnished))


@pytest.mark.parametrize("name", ["accounts", "blobs", "events", "event_index", "trail_head", "manifests", "links"])
def test_a_check_tells_of_damage_and_of_what_else_it_sees(furnished: Line, name: str) -> None:
    damage(furnished, name)
    (furnished.folder / "blobs" / "odd").mkdir(parents=True)
    said = furnished("check", "--json")
    assert (said.status, said.err) == (1, "")
    kinds = [flaw["kind"] for flaw in said.json["flaws"]]
    assert "database" in kinds
    assert "foreign_file" in kinds or name == "blobs"
    assert "manifest_missing" in kinds or name == "manifests"
    assert ("trail" in kinds) == (name in {"events", "event_index", "trail_head"})
    assert furnished("check", "--repair").status == 1


@pytest.mark.parametrize("ruin", [no_database, lambda line: damage(line, "facts")])
def test_a_check_of_what_cannot_be_opened_finds_the_database(furnished: Line, ruin: Callable[[Line], None]) -> None:
    ruin(furnished)
    said = furnished("check")
    assert (said.status, said.err) == (1, "")
    assert said.out.startswith(f"bad     database: The database {furnished.folder}/gateway.db {ADVICE}\n")
    found = furnished("doctor", "--json").json["findings"]
    assert next(each["text"] for each in found if each["name"] == "records").endswith(ADVICE)


def test_damage_inside_a_text_is_damage(furnished: Line) -> None:
    file = furnished.folder / "gateway.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = file.read_bytes()
    assert b"writer" in content
    file.write_bytes(content.replace(b"writer", b"wr\xff\xfeer"))
    assert furnished("user", "list").err == told(furnished)


def test_no_other_fault_is_taken_for_damage(furnished: Line) -> None:
    database = Database.open(f"sqlite:///{furnished.folder}/gateway.db", furnished.folder)
    with pytest.raises(Exception, match="no such table") as raised:
        database.read_now(lambda connection: connection.exec_driver_sql("SELECT * FROM nowhere"))
    database.close()
    assert not is_damage(raised.value)


def test_a_served_gateway_answers_damage_in_its_own_words(furnished: Line) -> None:
    folder, port = furnished.folder, free_port()
    with running("--data", str(folder), "up", "--port", str(port), "--workers", "1") as served:
        served.until_ready()
        damage(furnished, "accounts")
        trust = ssl.create_default_context(cafile=str(folder / "tls" / "ca.crt"))
        request = urllib.request.Request(f"https://localhost:{port}/token")
        request.add_header("Authorization", "Basic d3JpdGVyOndyb25nLXBhc3N3b3Jk")
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, context=trust, timeout=20)
        body = raised.value.read().decode()
        assert raised.value.code in (500, 503)
        assert json.loads(body)["errors"][0]["message"]
        assert not any(word in body for word in ("Traceback", "sqlite", "SELECT", str(folder), "malformed"))
