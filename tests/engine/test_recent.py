"""What is remembered counts only while its repository stands still, and never weighs more than it may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.oci.names import Repository
from gateway.records.recent import Recent
from gateway.records.versions import Versions

UI = Repository("gallery/ui")


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    found = Versions(tmp_path / "versions")
    yield found
    found.close()


def test_a_value_is_found_until_its_repository_moves(versions: Versions) -> None:
    recent: Recent[str] = Recent(versions, 10)
    recent.keep(UI, "v1", recent.version(UI), "one")
    assert recent.find(UI, "v1", recent.version(UI)) == "one"
    assert recent.find(Repository("gallery/other"), "v1", recent.version(UI)) is None
    with versions.moving(policy=False, repositories=[UI.name]):
        assert recent.find(UI, "v1", recent.version(UI)) is None
    assert recent.find(UI, "v1", recent.version(UI)) is None


def test_nothing_read_while_the_repository_is_in_motion_is_kept(versions: Versions) -> None:
    recent: Recent[str] = Recent(versions, 10)
    with versions.moving(policy=False, repositories=[UI.name]):
        version = recent.version(UI)
        recent.keep(UI, "v1", version, "one")
        assert recent.find(UI, "v1", version) is None


def test_a_value_read_before_a_move_and_kept_after_it_does_not_count(versions: Versions) -> None:
    recent: Recent[str] = Recent(versions, 10)
    version = recent.version(UI)
    with versions.moving(policy=False, repositories=[UI.name]):
        pass
    recent.keep(UI, "v1", version, "old")
    assert recent.find(UI, "v1", recent.version(UI)) is None


def test_the_least_recently_used_goes_first_when_it_gets_too_heavy(versions: Versions) -> None:
    recent: Recent[bytes] = Recent(versions, 100, len)
    version = recent.version(UI)
    for key in ("a", "b", "c"):
        recent.keep(UI, key, version, b"x" * 30)
    assert recent.find(UI, "a", version)
    recent.keep(UI, "d", version, b"x" * 30)
    assert recent.find(UI, "b", version) is None
    assert recent.find(UI, "a", version)
    recent.keep(UI, "a", version, b"x" * 40)
    assert recent.find(UI, "d", version)
    recent.keep(UI, "whole", version, b"x" * 101)
    assert all(recent.find(UI, key, version) is None for key in ("a", "b", "c", "d", "whole"))
