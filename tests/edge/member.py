"""A gateway of nothing but the edge, as a process: `python -m tests.edge.member FOLDER WORKERS DRAIN_SECONDS`."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools
import json
import logging
import os
import resource
import signal
import sys
from multiprocessing import util
from pathlib import Path
from typing import Any

from gateway.errors import Invalid
from gateway.protocol import EdgeLimits
from gateway.server import Plan, Seat, Worker, serve
from tests.edge.serving import HOSTS, answer, read_all

PR_GET_DUMPABLE = 3


def worker(folder: Path, seat: Seat) -> Worker:
    if (folder / "refuse").exists():
        raise Invalid("This worker does not want to start.")
    draining: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                if message["type"] == "lifespan.startup" and (folder / "fail").exists():
                    await send({"type": "lifespan.startup.failed", "message": "no"})
                    return
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    (folder / f"ended-{os.getpid()}").touch()
                    return
        await read_all(receive)
        if scope["path"].startswith("/wait"):
            (folder / f"waiting-{os.getpid()}").touch()
            (folder / "waiting").touch()
            await asyncio.sleep(float(scope["query_string"]))
        shown = {
            "pid": os.getpid(),
            "number": seat.number,
            "draining": bool(draining),
            "dumpable": ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        await answer(send, json.dumps(shown).encode())

    return Worker(app, on_drain=lambda: draining.append(True))


def crowd(folder: Path) -> None:
    """Has the system give no process while *folder* has a file `full`; each time that shows in `refused`."""
    start = util.spawnv_passfds  # type: ignore[attr-defined]

    def spawn(*arguments: Any) -> int:
        if (folder / "full").exists():
            (folder / "refused").touch()
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        pid: int = start(*arguments)
        return pid

    util.spawnv_passfds = spawn  # type: ignore[attr-defined]


def main() -> int:
    # Begun in the background of a shell, a process ignores it: who does so with a gateway means it, a test does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.basicConfig(level=logging.INFO)
    folder, workers, drain = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    limits = EdgeLimits(hosts=HOSTS)
    crowd(folder)
    plan = Plan("127.0.0.1", 0, folder / "leaf.crt", folder / "leaf.key", limits, workers, drain)
    return serve(functools.partial(worker, folder), plan, lambda port: print(f"ready {port}", flush=True))


if __name__ == "__main__":
    sys.exit(main())
