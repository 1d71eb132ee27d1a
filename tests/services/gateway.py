"""The real gateway: the installed program on a directory of its own, started, asked, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.administration import FIELDS
from gateway.settings import LOCAL_NAMES
from tests.services.clients import Result
from tests.services.commands import told
from tests.services.daemon import Daemon, free_port, scratch
from tests.services.wire import Wire

PROGRAM = Path(sys.executable).parent / "gateway"
NAME = "registry.local"


class Gateway:
    """
    `gateway up` in the foreground, on a data directory below `home`.

    With `config`, TOML text, the program is told that file instead and everything else is its affair; `home` is what
    its relative paths start from.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        name: str = NAME,
        address: str = "127.0.0.1",
        workers: int = 1,
        config: str = "",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.home = home
        self.address = address
        self.name = name
        self.port = port or free_port()
        self.data = home / "data"
        self.config = home / "gateway.toml" if config else None
        self.certificate = self.data / "tls/ca.crt"
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        self.environment |= environment or {}
        if self.config is not None:
            self.config.write_text(config)
            self._place = ["--config", str(self.config)]
            self._up = ["up"]
        else:
            self._place = ["--data", str(self.data)]
            host = [] if name in LOCAL_NAMES else ["--host", name]
            self._up = ["up", *host, "--bind", address, "--port", str(self.port), "--workers", str(workers)]
        self.log = home / "log"
        self.daemon = Daemon(
            [str(PROGRAM), *self._place, *self._up], self.log, environment=self.environment, directory=home
        )

    @property
    def registry(self) -> str:
        """What clients call it: HOST:PORT, without the port when it is 443."""
        return self.name if self.port == 443 else f"{self.name}:{self.port}"

    @property
    def wire(self) -> Wire:
        """HTTPS without a client in between, trusting `certificate`."""
        return Wire(self.name, self.port, self.certificate, self.address)

    def start(self) -> str:
        """Start it and wait until it says that it is ready; gives all that it said until then."""
        before = self.log.stat().st_size if self.log.exists() else 0

        def said() -> str:
            return self.log.read_bytes()[before:].decode(errors="replace")

        self.daemon.start(lambda: "\nReady: " in f"\n{said()}", timeout_seconds=60)
        return said()

    def stop(self) -> int | None:
        """SIGTERM, and the exit status after the drain."""
        return self.daemon.stop(timeout_seconds=60)

    def terminate(self) -> None:
        """SIGTERM, and no waiting."""
        os.kill(self.daemon.pid, signal.SIGTERM)

    def ended(self, timeout_seconds: float = 60) -> int:
        """Wait until it has ended by itself; gives its exit status."""
        return self.daemon.wait(timeout_seconds)

    def kill(self) -> None:
        """End parent and workers at the same instant, as a power cut would."""
        for pid in (*self.workers(), self.daemon.pid):
            os.kill(pid, signal.SIGKILL)
        self.daemon.kill()

    def restart(self) -> str:
        """Stop it, and start it on what is there."""
        self.stop()
        return self.start()

    def cli(self, *arguments: str, stdin: str = "", timeout_seconds: float = 60) -> Result:
        """One command of the command line, as a process of its own, on the same directory."""
        words = (*self._place, *arguments)
        ended = told(PROGRAM, words, environment=self.environment, stdin=stdin, timeout_seconds=timeout_seconds)
        return Result((str(PROGRAM), *words), ended.returncode, ended.stdout, ended.stderr)

    def add_user(self, name: str, password: str, *options: str) -> None:
        """Make an account."""
        self.cli("user", "add", name, "--password-stdin", *options, stdin=password).must()

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """Events, the oldest first: `events(project="gallery", kind="manifest.push")`."""
        options = [word for name, value in filters.items() for word in (f"--{name}", value)]
        exported = self.cli("audit", "export", *options).must()
        return [{**dict.fromkeys(FIELDS, ""), **json.loads(line)} for line in exported.stdout.splitlines()]

    def is_trail_whole(self) -> bool:
        """Whether `audit verify` says so."""
        return self.cli("audit", "verify", timeout_seconds=300).ok

    def workers(self) -> tuple[int, ...]:
        """The processes that serve: its workers, or itself when it has none."""
        children = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        found = tuple(int(pid) for pid in children if "spawn_main" in _command(int(pid)))
        return found or (self.daemon.pid,)

    def memory_bytes(self) -> dict[int, int]:
        """How much memory each serving process holds now."""
        return {pid: _status(pid, "VmRSS") for pid in self.workers()}

    def peak_memory_bytes(self) -> dict[int, int]:
        """The most that each serving process ever held."""
        return {pid: _status(pid, "VmHWM") for pid in self.workers()}


@contextmanager
def running_gateway(
    *,
    port: int | None = None,
    name: str = NAME,
    address: str = "127.0.0.1",
    workers: int = 1,
    config: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[Gateway]:
    """A gateway in a fresh directory for as long as the block lasts."""
    with scratch("gw") as home:
        gateway = Gateway(
            home, port=port, name=name, address=address, workers=workers, config=config, environment=environment
        )
        gateway.start()
        try:
            yield gateway
        finally:
            gateway.stop()


def printed_password(block: str) -> str:
    """The administrator's password in what the first run said."""
    (line,) = [line for line in block.splitlines() if line.startswith("Password ")]
    return line.split()[1]


def said_in_one_line(result: Result) -> bool:
    """Whether a command that failed said why in one line, and nothing else."""
    lines: Sequence[str] = result.output.strip().splitlines()
    return not result.ok and len(lines) == 1 and lines[0].startswith("gateway: ") and "Traceback" not in lines[0]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def peak_memory_bytes(pid: int) -> int:
    """The most that a process has held so far."""
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {field}")
