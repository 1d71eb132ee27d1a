"""Evidence as it leaves a real gateway: to a file, a webhook and a real rsyslog over TLS; then something is removed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.audit import offline
from gateway.audit.sinks.webhook import signature
from tests.services.authority import Authority
from tests.services.daemon import free_port, scratch
from tests.services.gateway import Gateway
from tests.services.receivers import a_hook, a_rsyslog

pytestmark = [pytest.mark.journey, pytest.mark.long]

SECRET = "a secret of the webhook's"
CONFIG = """
[server]
port = {port}
workers = 1
[engine]
root = "data"
[audit.sinks.disk]
kind = "file"
path = "audit.jsonl"
[audit.sinks.hook]
kind = "webhook"
url = "{url}"
secret_file = "hook.secret"
[audit.sinks.siem]
kind = "syslog"
host = "localhost"
port = {syslog}
ca_file = "ca.crt"
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with scratch("evidence") as directory:
        yield directory


def soon(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def verified(*words: str) -> subprocess.CompletedProcess[str]:
    """The offline verifier, as a program that knows nothing of the gateway."""
    command = [sys.executable, "-I", str(offline.__file__), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_evidence_reaches_every_sink_and_tells_what_was_removed_afterwards(home: Path) -> None:
    authority = Authority(home)
    pair = authority.issue("localhost")
    (home / "hook.secret").write_text(SECRET)
    (home / "hook.secret").chmod(0o600)
    key, files = home / "key.pem", (home / "audit.jsonl", home / "syslog/out.jsonl")
    with (
        a_hook([503, 500]) as hook,
        a_rsyslog(home / "syslog", authority.certificate, pair.certificate, pair.key) as syslog,
    ):
        port = free_port()
        gateway = Gateway(home, port=port, config=CONFIG.format(port=port, url=hook.url, syslog=syslog))
        gateway.start()
        try:
            gateway.add_user("writer", "correct horse battery")
            key.write_text(gateway.cli("audit", "key").must().stdout)
            named = json.loads(gateway.cli("audit", "checkpoint").must().stdout)

            def has_all(lines: list[str]) -> bool:
                return any(f'"number":{named["number"]},' in line for line in lines)

            soon(lambda: all(path.exists() and has_all(_messages(path)) for path in files) and has_all(hook.lines()))
            for sink in json.loads(gateway.cli("audit", "sinks", "--json").must().stdout):
                assert sink["delivered_to"] >= named["seq"], sink
        finally:
            gateway.stop()
    post = hook.got[-1]
    told = signature(SECRET, post.headers["x-gateway-timestamp"], post.body)
    assert post.headers["x-gateway-signature"] == f"v1={told}"
    (home / "hook.jsonl").write_text("\n".join(hook.lines()) + "\n")
    (home / "siem.jsonl").write_text("\n".join(_messages(files[1])) + "\n")
    for name in ("audit.jsonl", "hook.jsonl", "siem.jsonl"):
        ended = verified(str(home / name), "--key", str(key))
        assert (ended.returncode, "Proven by" in ended.stdout) == (0, True), (name, ended)

    remove_the_end(gateway.data)

    assert not gateway.cli("audit", "verify", "--against", str(home / "siem.jsonl"), "--key", str(key)).ok
    gateway.cli("audit", "export", "--output", str(home / "export.jsonl")).must()
    ended = verified(str(home / "export.jsonl"), "--checkpoint", str(home / "audit.jsonl"), "--key", str(key))
    assert (ended.returncode, ended.stdout.startswith("DAMAGED")) == (1, True)


def _messages(path: Path) -> list[str]:
    """What was delivered; rsyslog's own file has each message in a line of JSON."""
    lines = path.read_text().splitlines()
    if path.name != "out.jsonl":
        return lines
    return [str(json.loads(line)["msg"]).strip() for line in lines if line.endswith("}")]


def remove_the_end(data: Path) -> None:
    """What somebody with root does: the last events go, and with them what the database knows of them."""
    with sqlite3.connect(data / "gateway.db") as database:
        database.execute("DROP TRIGGER events_keep_delete")
        (last,) = database.execute("SELECT max(seq) FROM events").fetchone()
        for table in ("events", "event_index", "checkpoints"):
            database.execute(f"DELETE FROM {table} WHERE seq > ?", (last - 6,))
        moved = "UPDATE trail_head SET (seq, hash) = (SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1)"
        database.execute(moved)
    database.close()
