"""The command line, imported once: each command is a process of its own that has not to import it again.

A command begins as a copy of a process that has done nothing but import. Everything from its first argument to its
exit status is as in the installed program, which is started itself where a test is about that, or about signals.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.services.daemon import scratch

_IMPORTED = ("gateway.cli.entry", "gateway.app")


def told(
    program: Path, arguments: Sequence[str], *, environment: Mapping[str, str], stdin: str, timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """
    What *program*, the installed `gateway`, does and says; raises `TimeoutExpired` when it has not ended by then.

    It is started itself where the environment says more than settings: an interpreter obeys some of that as it starts.
    """
    command = [str(program), *arguments]
    if _beyond_settings(environment) != _beyond_settings(os.environ):
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, timeout=timeout_seconds
        )
    with scratch("command") as folder:
        (folder / "in").write_text(stdin)
        process = _context().Process(target=_run, args=(folder, command, dict(environment)))
        process.start()
        process.join(timeout_seconds)
        status = process.exitcode
        if status is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout_seconds)
        process.close()
        return subprocess.CompletedProcess(command, status, (folder / "out").read_text(), (folder / "err").read_text())


def _beyond_settings(environment: Mapping[str, str]) -> dict[str, str]:
    # pytest says in a variable which test it is at.
    ours = ("GATEWAY_", "PYTEST_")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload([*_IMPORTED, __name__])
    return context


def _run(folder: Path, command: list[str], environment: dict[str, str]) -> None:
    from gateway.cli import main

    for descriptor, name in enumerate(("in", "out", "err")):
        opened = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, encoding="utf-8") for number, mode in enumerate("rww"))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    main()
