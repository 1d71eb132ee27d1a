"""The command line as tests use it: in this process where that will do, as a program of its own where it will not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Rooms, opened
from gateway.cli.entry import run
from gateway.settings import Settings
from tests.house import House
from tests.records.rows import a_repository, an_offline_token

PROGRAM = Path(sys.executable).parent / "gateway"


@dataclass(frozen=True, slots=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Line:
    """`gateway --data FOLDER …`"""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> Said:
        """One command, in this process."""
        self.capsys.readouterr()
        status = run(["--data", str(self.folder), *words])
        said = self.capsys.readouterr()
        return Said(status, said.out, said.err)

    def done(self, *words: str) -> Said:
        """One command that must succeed."""
        said = self(*words)
        assert said.status == 0, said
        return said

    def program(self, *words: str, stdin: bytes = b"", **more: Any) -> Said:
        """One command, as a program of its own."""
        command = [str(PROGRAM), "--data", str(self.folder), *words]
        ended = subprocess.run(command, input=stdin, capture_output=True, timeout=60, **more)
        return Said(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def events(self, *filters: str) -> list[dict[str, Any]]:
        """The newest events first."""
        found: list[dict[str, Any]] = self.done("audit", "list", "--json", *filters).json
        return found


def quietly(folder: Path, *words: str) -> None:
    """One command that must succeed, in this process, whatever it says."""
    with redirect_stdout(io.StringIO()):
        assert run(["--data", str(folder), *words]) == 0


def repository_in(folder: Path, name: str) -> None:
    """Puts a repository with a tag `v1` into its project, which must exist."""
    with opened(Settings.for_data(folder, {})) as rooms:
        a_repository(_house(rooms), name)


def an_offline_token_in(folder: Path, account: int) -> int:
    """Gives the account an offline token; returns its number."""
    with opened(Settings.for_data(folder, {})) as rooms:
        return an_offline_token(_house(rooms), account)


def _house(rooms: Rooms) -> House:
    return House(rooms.settings.data, rooms.database, rooms.ledger, rooms.directory, rooms.gate, rooms.trail)
