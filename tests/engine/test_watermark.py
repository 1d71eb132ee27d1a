"""The watermark: no uploads when the disk has less free than it must keep."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.engine.embedded.watermark import Watermark
from gateway.errors import InsufficientStorage


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_what_is_free_above_the_mark_may_be_filled(tmp_path: Path) -> None:
    Watermark(tmp_path, 1).require()
    with pytest.raises(InsufficientStorage, match="nearly full"):
        Watermark(tmp_path, 2**62).require()


def test_what_is_promised_counts_as_if_it_were_there(tmp_path: Path) -> None:
    watermark = Watermark(tmp_path, 1)
    with pytest.raises(InsufficientStorage):
        watermark.require(2 * free_bytes(tmp_path) + 1)


def test_without_a_mark_nobody_asks(tmp_path: Path) -> None:
    Watermark(tmp_path / "nowhere", 0).require(2**62)
