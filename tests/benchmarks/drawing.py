"""Runs the plots under a Python of their own: what draws them is no part of what serves or tests."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

_HERE = Path(__file__).parent
_LOCK = _HERE / "requirements.lock"


def draw(written: Path) -> None:
    """Draws the plots of a JSON; installs matplotlib, by its hashes, when it is not there yet. Raises when it fails."""
    python = _python()
    subprocess.run([python, str(_HERE / "plots.py"), str(written)], check=True, timeout=120)


def _python() -> str:
    directory = Path(sys.prefix) / "bench"
    python, stamp = directory / "bin/python", directory / "installed.lock"
    if not stamp.exists() or stamp.read_bytes() != _LOCK.read_bytes():
        venv.create(directory, with_pip=True, clear=True)
        argv = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--require-hashes"]
        subprocess.run([*argv, "-r", str(_LOCK)], check=True, timeout=600)
        stamp.write_bytes(_LOCK.read_bytes())
    return str(python)
