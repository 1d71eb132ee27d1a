"""What is measured of the gateway by itself: how soon it is ready, and how its processes share the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.figures import Book, Case, Sample
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.stand import Stand

_WAITING = 64


def measure_start(stand: Stand, sizes: Sizes, book: Book) -> None:
    case = Case("start until ready", "start", "seconds", "less", "looked at every 0.05 s")
    data = stand.fresh_data()
    for _ in range(min(3, sizes.rounds)):
        for workers in sizes.workers:
            begun = time.perf_counter()
            with stand.gateway(workers, data=data) as gateway:
                took = time.perf_counter() - begun
                case.samples.setdefault(gateway.name, []).append(Sample(took, took))
        begun = time.perf_counter()
        with stand.distribution() as peer:
            took = time.perf_counter() - begun
            case.samples.setdefault(peer.name, []).append(Sample(took, took))
    book.tell(book.add(case))


def measure_commits(stand: Stand, sizes: Sizes, book: Book) -> None:
    case = Case(f"ledger: synced commits of one event, {_WAITING} waiting", "commits", "commits/s")
    for count in (1, 2):
        name = "1 process" if count == 1 else f"{count} processes"
        case.samples[name] = [_commit(stand.fresh_data(), count, sizes.commit_seconds)]
    book.tell(book.add(case))


def _commit(data: Path, count: int, seconds: float) -> Sample:
    argv = [sys.executable, "-m", "tests.benchmarks.committer"]
    piped = subprocess.PIPE
    processes = [subprocess.Popen(argv, stdin=piped, stdout=piped, text=True) for _ in range(count)]
    told = json.dumps({"data": str(data), "waiting": _WAITING // count, "seconds": seconds})
    for line, answer in ((told, "ready"), ("go", "")):
        for each in processes:
            assert each.stdin is not None
            assert each.stdout is not None
            each.stdin.write(line + "\n")
            each.stdin.flush()
        if answer and any(each.stdout is None or each.stdout.readline().strip() != answer for each in processes):
            raise RuntimeError("a committing process did not begin")
    found = [json.loads(each.communicate(timeout=seconds + 60)[0]) for each in processes]
    latencies = sorted(latency for each in found for latency in each["latencies"])
    middle, high = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    used = sum(each["processor"] for each in found)
    return Sample(len(latencies) / seconds, seconds, middle * 1000, high * 1000, server_seconds=used)
