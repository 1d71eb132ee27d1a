"""A gateway whose processes begin as copies of one that has imported it: they are many, and importing takes long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.services.clients import Result
from tests.services.daemon import POLL_SECONDS, Daemon, NotReady, scratch
from tests.services.gateway import PROGRAM, Gateway

_PROGRAM = Path(__file__).with_name("preloaded.py")


class Preloaded:
    """One process of `preloaded.py`; what it begins has its environment, but for settings."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = _lasting(environment)
        self._ended: dict[int, int] = {}
        self._begun: list[int] = []
        self._news = threading.Condition()
        self._asking = threading.Lock()
        # It dies with the thread of the test that began it at the latest, and all that it began with it.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
        )
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether what it begins may have this environment."""
        return self._process.poll() is None and _lasting(environment) == self.environment

    def begin(
        self, argv: Sequence[str], files: Sequence[Path], environment: Mapping[str, str], directory: Path
    ) -> Forked:
        """A process of the gateway with those arguments; *files* are its standard input, output and errors."""
        assert self._process.stdin is not None
        order = {
            "argv": list(argv),
            "files": [str(file) for file in files],
            "environment": dict(environment),
            "directory": str(directory),
        }
        with self._asking:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            with self._news:
                assert self._news.wait_for(lambda: self._begun, 60), "the process that is to begin others does not"
                return Forked(self, self._begun.pop())

    def status(self, pid: int, timeout_seconds: float | None) -> int | None:
        """How it ended; None if it has not by then."""
        with self._news:
            self._news.wait_for(lambda: pid in self._ended, timeout_seconds)
            return self._ended.get(pid)

    def close(self) -> None:
        """Ends it, and all that it began."""
        self._process.kill()
        self._process.wait()
        self._hearing.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._news:
                if "pid" in said:
                    self._begun.append(said["pid"])
                else:
                    self._ended[said["ended"]] = said["status"]
                self._news.notify_all()


class Forked:
    """A process that `Preloaded` began; as a `Popen`, as far as a `Daemon` asks."""

    def __init__(self, origin: Preloaded, pid: int) -> None:
        self._origin = origin
        self.pid = pid

    def poll(self) -> int | None:
        return self._origin.status(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._origin.status(self.pid, timeout)
        if status is None:
            raise subprocess.TimeoutExpired(str(PROGRAM), timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedDaemon(Daemon):
    """The server, begun by a `Preloaded` of its own."""

    def __init__(self, origin: Preloaded, argv: Sequence[str], log: Path, place: Mapping[str, str], home: Path) -> None:
        super().__init__(argv, log, environment=place, directory=home)
        self._origin, self._place, self._home = origin, dict(place), home
        self._nothing = home / "nothing"
        self._nothing.touch()
        log.touch()

    def start(self, ready: Callable[[], bool], *, timeout_seconds: float = 30) -> None:
        assert not self.is_running, f"{self.argv[0]} runs already"
        forked: Any = self._origin.begin(self.argv, (self._nothing, self.log, self.log), self._place, self._home)
        self._process = forked
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.is_running or time.monotonic() > deadline:
                self.stop()
                raise NotReady(f"{' '.join(self.argv)} did not become ready:\n{self.tail()}")
            time.sleep(POLL_SECONDS / 5)


class ForkedGateway(Gateway):
    """A gateway of one process. Settings in its environment may change, what strikes it may not."""

    def __init__(
        self, home: Path, *, port: int | None, config: str, place: Mapping[str, str], commands: Mapping[str, str]
    ) -> None:
        super().__init__(home, port=port, config=config, environment=dict(place))
        self._server = Preloaded(self.environment)
        self.daemon = ForkedDaemon(self._server, self.daemon.argv, self.log, dict(self.environment), home)
        self.environment |= commands
        self._commands = Preloaded(self.environment)

    def cli(self, *arguments: str, stdin: str = "", timeout_seconds: float = 60) -> Result:
        if not self._commands.fits(self.environment):
            return super().cli(*arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        argv = (str(PROGRAM), *self._place, *arguments)
        with scratch("command") as folder:
            files = [folder / name for name in ("in", "out", "err")]
            files[0].write_text(stdin)
            process = self._commands.begin(argv, files, self.environment, Path.cwd())
            try:
                status = process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            said = [file.read_text() if file.exists() else "" for file in files[1:]]
        return Result(argv, status, *said)

    def close(self) -> None:
        """Ends whatever of it still lives."""
        self._server.close()
        self._commands.close()


def _lasting(environment: Mapping[str, str]) -> dict[str, str]:
    # pytest says in a variable which test it is at.
    return {name: value for name, value in environment.items() if not name.startswith(("GATEWAY_", "PYTEST_"))}
