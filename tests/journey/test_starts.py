"""A start that cannot be says why in one line, does nothing by halves, and the next one finds its way."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.authority import Authority
from tests.services.daemon import free_port, scratch
from tests.services.gateway import PROGRAM, Gateway, printed_password, said_in_one_line

pytestmark = pytest.mark.journey


@pytest.fixture
def home() -> Iterator[Path]:
    with scratch("start") as directory:
        yield directory


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory that a gateway has made and left."""
    with scratch("made") as directory:
        gateway = Gateway(directory)
        gateway.start()
        gateway.stop()
        yield gateway.data


def made_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_first_run_on_a_taken_port_makes_nothing_and_tells_no_password(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(home, port=taken.getsockname()[1])
        refused = gateway.cli("up", "--port", str(gateway.port))
        assert (refused.code, refused.stdout) == (4, "")
        assert said_in_one_line(refused)
        assert f"Port {gateway.port} on 127.0.0.1 is taken" in refused.stderr
        assert made_in(gateway.data) == []
    assert printed_password(gateway.start())
    gateway.stop()


def expired(authority: Authority, tls: Path) -> None:
    pair = authority.issue("hub.test", days=-1)
    pair.certificate.rename(tls / "gateway.crt")
    pair.key.rename(tls / "gateway.key")


def another_s_key(authority: Authority, tls: Path) -> None:
    authority.issue("hub.test").key.rename(tls / "gateway.key")


def readable(authority: Authority, tls: Path) -> None:
    (tls / "gateway.key").chmod(0o644)


def missing(authority: Authority, tls: Path) -> None:
    (tls / "gateway.key").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(expired, "expired"), (another_s_key, "key"), (readable, "chmod 600"), (missing, "gateway.key")],
    ids=["expired", "another-s-key", "readable-by-others", "missing"],
)
def test_a_first_run_with_a_bad_certificate_makes_nothing(
    home: Path, spoil: Callable[[Authority, Path], None], says: str
) -> None:
    tls = home / "tls"
    tls.mkdir()
    authority = Authority(home)
    pair = authority.issue("hub.test")
    pair.certificate.rename(tls / "gateway.crt")
    pair.key.rename(tls / "gateway.key")
    spoil(authority, tls)
    settings = f"""\
[server]
names = ["hub.test"]
port = {free_port()}
certificate = "tls/gateway.crt"
key = "tls/gateway.key"
[engine]
root = "data"
"""
    refused = Gateway(home, config=settings).cli("up")
    assert refused.code == 2
    assert refused.stdout == ""
    assert said_in_one_line(refused)
    assert says in refused.stderr
    assert made_in(home / "data") == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("[server]\nport = 5000\nprot = 5001\n", "line 3: [server] prot"),
        ('[server]\n\nport = "5000"\n', "line 3: [server] port"),
        ("[tokens]\nlifetime_seconds = 10\n", "line 2: [tokens] lifetime_seconds"),
        ("[server\n", "line 1"),
    ],
    ids=["unknown", "wrong-type", "out-of-range", "no-toml"],
)
def test_a_wrong_setting_is_named_with_its_line_and_nothing_is_made(home: Path, settings: str, says: str) -> None:
    gateway = Gateway(home, config=settings)
    refused = gateway.cli("up")
    assert refused.code == 2
    assert said_in_one_line(refused)
    assert says in refused.stderr
    assert str(gateway.config) in refused.stderr
    assert made_in(home) == ["gateway.toml"]


def copied(made: Path, home: Path) -> Gateway:
    gateway = Gateway(home)
    subprocess.run(["cp", "-a", str(made), str(gateway.data)], check=True)
    return gateway


def test_a_schema_that_is_newer_is_left_alone(made: Path, home: Path) -> None:
    gateway = copied(made, home)
    with sqlite3.connect(gateway.data / "gateway.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'f00d'")
    database.close()
    for command in (("up", "--port", str(gateway.port)), ("migrate",)):
        refused = gateway.cli(*command)
        assert refused.code == 4
        assert said_in_one_line(refused)
        assert "newer than this program" in refused.stderr


def test_a_secret_that_others_may_read_stops_everything(made: Path, home: Path) -> None:
    gateway = copied(made, home)
    (gateway.data / "keys/secret").chmod(0o644)
    for command in (("up", "--port", str(gateway.port)), ("user", "list")):
        refused = gateway.cli(*command)
        assert refused.code == 2
        assert said_in_one_line(refused)
        assert "chmod 600" in refused.stderr
    (gateway.data / "keys/secret").chmod(0o600)
    gateway.cli("user", "list").must()


def test_a_secret_that_is_gone_is_not_made_anew(made: Path, home: Path) -> None:
    gateway = copied(made, home)
    (gateway.data / "keys/secret").unlink()
    for command in (("up", "--port", str(gateway.port)), ("user", "list")):
        refused = gateway.cli(*command)
        assert not refused.ok
        assert said_in_one_line(refused)
        assert not (gateway.data / "keys/secret").exists()


@pytest.mark.parametrize("step", ["gateway.db-wal", "tls/ca.key"])
def test_a_first_run_that_was_killed_is_finished_by_the_next(home: Path, step: str) -> None:
    gateway = Gateway(home)
    argv = [str(PROGRAM), "--data", str(gateway.data), "up", "--port", str(gateway.port), "--workers", "1"]
    first = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (gateway.data / step).exists():
        assert first.poll() is None, "it ended before it came to this step"
        time.sleep(0.001)
    os.kill(first.pid, signal.SIGKILL)
    said = first.communicate()[0]
    assert "Ready" not in said
    again = gateway.start()
    # Made, but not told before the kill: whoever runs the command may set another.
    if "Password" not in said + again:
        gateway.cli("user", "password", "admin").must()
    assert gateway.is_trail_whole()
    assert [user["name"] for user in gateway.cli("user", "list", "--json").json()] == ["admin"]
    assert [event["outcome"] for event in gateway.events(kind="gateway.initialise")] == ["allowed"]
    gateway.wire.ask("GET", "/health/ready").must(200)
    gateway.stop()
