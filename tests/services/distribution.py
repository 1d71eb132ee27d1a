"""Debian's own registry, behind TLS with a password: it proves the clients, and the figures stand beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt

from tests.services.authority import Pair
from tests.services.daemon import Daemon, accepts_connections, free_port

USER, PASSWORD = "tester", "correct-horse"


@contextmanager
def running_distribution(directory: Path, pair: Pair) -> Iterator[int]:
    """A registry on 127.0.0.1 for as long as the block lasts; gives its port. USER signs in with PASSWORD."""
    port = free_port()
    passwords = directory / "htpasswd"
    passwords.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    configuration = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "content")}, "delete": {"enabled": True}},
        "auth": {"htpasswd": {"realm": "tests", "path": str(passwords)}},
        "http": {"addr": f"127.0.0.1:{port}", "tls": {"certificate": str(pair.certificate), "key": str(pair.key)}},
    }
    written = directory / "config.yml"
    written.write_text(json.dumps(configuration))
    # Every REGISTRY_* variable overrides its configuration, and skopeo's REGISTRY_AUTH_FILE has just such a name.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    daemon = Daemon(["docker-registry", "serve", str(written)], directory / "log", environment=environment)
    daemon.start(lambda: accepts_connections(port))
    try:
        yield port
    finally:
        daemon.stop()
