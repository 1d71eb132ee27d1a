"""Memory: at rest, under connections that do nothing, under slow pulls and slow uploads."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.benchmarks.figures import Book, Case, Sample
from tests.benchmarks.processes import resident_bytes
from tests.benchmarks.sizes import MIB
from tests.benchmarks.stand import Target
from tests.benchmarks.transfers import REPOSITORY, Field

_NOTE = "resident, all processes of the server; pages that they share are counted in each"


def measure_memory(field: Field, book: Book) -> None:
    sizes = field.sizes
    if not field.big:
        field.fill_large()
    path = f"/v2/{REPOSITORY}/blobs/{field.big}"
    states: tuple[tuple[str, dict[str, object]], ...] = (
        ("at rest", {}),
        (
            f"{sizes.idle_connections:,} idle connections",
            {"state": "idle", "path": "/v2/", "count": sizes.idle_connections},
        ),
        (f"{sizes.pulls} slow pulls", {"state": "pull", "path": path, "count": sizes.pulls}),
        (f"{sizes.uploads} slow uploads", {"state": "upload", "count": sizes.uploads, "bytes": 1 << 30}),
    )
    for name, told in states:
        case = Case(f"memory, {name}", "memory", "MiB", "less", _NOTE)
        for target in field.registries:
            case.samples[target.name] = [held(target, REPOSITORY, told, sizes.hold_seconds)]
        book.tell(book.add(case))


def measure_rest(field: Field, book: Book) -> None:
    """Of the gateways just started and asked once: the largest worker by itself."""
    case = Case("memory, the largest process at rest", "memory", "MiB", "less", _NOTE)
    for target in field.registries:
        target.authorization(REPOSITORY)
        case.samples[target.name] = [Sample(resident_bytes(target.daemon.pid)[0] / MIB, 0)]
    book.tell(book.add(case))


def held(target: Target, repository: str, told: dict[str, object], seconds: float) -> Sample:
    """The most that the target holds while clients keep it in the state that *told* describes; at rest if nothing."""
    if not told:
        return Sample(_resident(target), 0)
    asked = {**told, "port": target.port, "repository": repository, "authorization": target.authorization(repository)}
    argv = [sys.executable, "-m", "tests.benchmarks.holder"]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(json.dumps(asked) + "\n")
        holder.stdin.flush()
        if holder.stdout.readline().strip() != "holding":
            return Sample(_resident(target), 0, errors=1)
        highest, until = 0.0, time.monotonic() + seconds
        while time.monotonic() < until:
            highest = max(highest, _resident(target))
            time.sleep(0.1)
        told_back = holder.communicate("\n", timeout=60)[0].strip()
        return Sample(highest, seconds, errors=int(told_back or 1))
    finally:
        holder.kill()
        holder.wait()


def _resident(target: Target) -> float:
    return sum(resident_bytes(target.daemon.pid)) / MIB
