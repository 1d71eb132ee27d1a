"""A program that runs beside the tests: started, awaited until it is ready, and stopped whatever happens."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

POLL_SECONDS = 0.05

_PORTS = 3000
_RANGES = (20_000, 23_000, 26_000, 29_000)
# Another run of the tests may be under way: it begins elsewhere.
_next = itertools.count(os.getpid() * 37)


class NotReady(AssertionError):
    """A daemon ended, or took too long, before it was ready; the text ends with the last lines of its log."""


class Daemon:
    """One child process in the foreground, its output in a log file.

    The kernel sends it `parting` when the test process dies, so that even a killed run leaves nothing behind.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        as_nobody: bool = False,
        parting: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.argv = tuple(argv)
        self.log = log
        self._environment = dict(os.environ if environment is None else environment)
        self._directory = directory
        self._parting = parting
        self._prefix = ["setpriv", "--pdeathsig", parting.name.removeprefix("SIG")]
        if as_nobody:
            self._prefix += ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; fails when the daemon has not been started."""
        assert self._process is not None, f"{self.argv[0]} has not been started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, ready: Callable[[], bool], *, timeout_seconds: float = 30) -> None:
        """Start it and return once `ready()` is true; raises NotReady, with the end of its log, when that fails."""
        assert not self.is_running, f"{self.argv[0]} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._directory,
            )
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.is_running or time.monotonic() > deadline:
                self.stop()
                raise NotReady(f"{' '.join(self.argv)} did not become ready:\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self, using: signal.Signals | None = None, *, timeout_seconds: float = 20) -> int | None:
        """Ask it to end (by `parting` unless told otherwise), insist after the timeout.

        Returns its exit code, or None when it was never started.
        """
        if self._process is None:
            return None
        if self.is_running:
            self._process.send_signal(using or self._parting)
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def wait(self, timeout_seconds: float) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        assert self._process is not None, f"{self.argv[0]} has not been started"
        return self._process.wait(timeout_seconds)

    def kill(self) -> int:
        """End it as a power cut would, with no chance to tidy up; returns its exit code."""
        assert self._process is not None, f"{self.argv[0]} has not been started"
        self._process.kill()
        return self._process.wait()

    def tail(self, lines: int = 30) -> str:
        """The last lines of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """
    A TCP port of 127.0.0.1 that nothing listens on, and that this process has not been told of before.

    Below those the system gives to outgoing connections; each process that runs tests has a range of its own.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(_RANGES)
    for _ in range(_PORTS):
        port = _RANGES[number] + next(_next) % _PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("every port that tests may use is taken")


def accepts_connections(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory of our own that any user may enter, gone afterwards.

    pytest's directories are closed to other users and too long for the path of a Unix socket.
    """
    # Not tempfile's names: podman takes a path for the name of an image, which knows fewer letters.
    directory = Path(f"/tmp/gw-{name}-{uuid4().hex[:12]}")
    directory.mkdir()
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
