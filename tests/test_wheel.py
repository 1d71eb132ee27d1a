"""The wheel: all that `pip install` needs, in an environment that holds nothing but what the lock names."""

from __future__ import annotations

import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.services.daemon import Daemon, free_port, scratch
from tests.services.engines import ENVIRONMENT

ROOT = Path(__file__).parent.parent


def run(*argv: str | Path, directory: Path = ROOT) -> str:
    ended = subprocess.run([str(each) for each in argv], cwd=directory, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Without isolation: the build tools are the locked ones, and nothing is fetched.
    to = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", to, ROOT)
    [built] = to.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """The `bin` of a new environment with the wheel in it, away from this tree."""
    with scratch("wheel") as directory:
        run(sys.executable, "-m", "venv", directory / "venv")
        pip = (directory / "venv/bin/python", "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check")
        run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock")
        run(*pip, "--no-index", wheel)
        yield directory / "venv/bin"


def test_the_wheel_carries_all_that_the_tree_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = [path for path in (ROOT / "gateway").rglob("*") if path.suffix and "__pycache__" not in path.parts]
    modules = {str(path.relative_to(ROOT)) for path in files}
    migrations = {f"gateway/_{path.relative_to(ROOT)}" for path in (ROOT / "migrations").rglob("*.py")}
    assert migrations, "there are no migrations"
    assert modules | migrations | {"gateway/_config/gateway.toml"} <= names
    assert not [
        name for name in names if name.startswith(("tests/", "data/")) or name.endswith((".pyc", ".key", ".db"))
    ]


def test_the_locked_versions_satisfy_the_wheel(installed: Path) -> None:
    run(installed / "python", "-m", "pip", "check", "--disable-pip-version-check")


def test_the_installed_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    argv = [str(installed / "gateway"), "--help"]
    ended = subprocess.run(argv, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "up" in ended.stdout
    assert list(tmp_path.iterdir()) == [], "asking for help leaves something behind"


def test_the_installed_gateway_comes_up_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    argv = [str(installed / "gateway"), "up", "--port", str(port), "--workers", "1"]
    with scratch("wheel-up") as folder:
        daemon = Daemon(argv, tmp_path / "log", environment=ENVIRONMENT, directory=folder)
        try:
            daemon.start(lambda: is_ready(folder / "data/tls/ca.crt", port))
        finally:
            daemon.stop()
        assert (folder / "data/gateway.db").exists()
        assert "Password" in (tmp_path / "log").read_text()


def is_ready(authority: Path, port: int) -> bool:
    """Whether a gateway answers, with a certificate that its own authority vouches for."""
    if not authority.exists():
        return False
    trust = ssl.create_default_context(cafile=str(authority))
    try:
        with urlopen(f"https://localhost:{port}/health/ready", context=trust, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
