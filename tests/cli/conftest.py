"""A real, initialised data directory for each test, and the command line on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.initialisation import initialise
from gateway.settings import Settings
from tests.cli.line import Line, an_offline_token_in, quietly, repository_in


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as the first run leaves it; tests get copies."""
    folder = tmp_path_factory.mktemp("fresh") / "data"
    initialise(Settings.for_data(folder, {}))
    return folder


@pytest.fixture(scope="session")
def inhabited(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a writer, a reader, a project with a repository, grants, a robot and an offline token."""
    folder = tmp_path_factory.mktemp("inhabited") / "data"
    shutil.copytree(fresh, folder)
    quietly(folder, "user", "add", "writer")
    quietly(folder, "user", "add", "reader")
    quietly(folder, "project", "add", "gallery")
    quietly(folder, "grant", "writer", "pusher", "gallery")
    quietly(folder, "grant", "reader", "puller", "gallery/ui*", "--expires", "90d")
    quietly(folder, "robot", "add", "gallery/ci", "pusher")
    repository_in(folder, "gallery/ui")
    an_offline_token_in(folder, account=2)
    return folder


@pytest.fixture
def line(fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    """The command line on a fresh data directory of the test's own."""
    shutil.copytree(fresh, tmp_path / "data")
    return Line(tmp_path / "data", capsys)


@pytest.fixture
def furnished(inhabited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    """The command line on an inhabited data directory of the test's own."""
    shutil.copytree(inhabited, tmp_path / "data")
    return Line(tmp_path / "data", capsys)
