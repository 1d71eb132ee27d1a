"""What keeping the storage in order costs: sweeps with and without pushes beside them, checks against the disk.

    python -m tests.benchmarks.upkeep [sweep] [check] [--blobs 100000] [--rounds 2] [--gib 4]

Everything happens in a scratch folder on this disk, which is removed. Sweeps and quiet stretches take turns, as do the
gateway's reading and `cat`'s of the same files, which are put out of memory before each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from gateway.engine.embedded.layout import blob_key
from gateway.oci.digest import Digest
from gateway.records.schema import blobs, links, projects, repositories
from tests.benchmarks import fill
from tests.benchmarks.content import make_file
from tests.benchmarks.processes import processor_seconds
from tests.benchmarks.sizes import KIB, MIB
from tests.benchmarks.stand import PROJECT, Gateway, Stand, program

_REPOSITORIES = 100
_BLOB_BYTES = 1 * KIB
_PUSHED_BYTES = 16 * KIB
_CONNECTIONS = 8
_BIG_BYTES = 256 * MIB


# what there is to sweep, and to read


def loosen(data: Path, count: int) -> None:
    """Gives the directory so many blobs that no manifest names, with their files, in a hundred repositories."""
    seed = os.urandom(8)
    rows: list[tuple[str, int]] = []
    for number in range(count):
        content = seed + number.to_bytes(8, "big") * (_BLOB_BYTES // 8 - 1)
        digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
        _put(data / blob_key(digest), content)
        rows.append((digest.text, len(content)))
    record(data, rows)
    # What was written here is on the disk before anything is measured.
    os.sync()


def _put(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except FileNotFoundError:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(content)


def record(data: Path, rows: list[tuple[str, int]]) -> None:
    """Records these blobs and one link to each, of long ago."""
    with fill.filling(data) as (_, connection):
        places = _places(connection)
        fill.bulk(connection, blobs, ({"digest": name, "size_bytes": size, "created_at": 0} for name, size in rows))
        fill.bulk(
            connection,
            links,
            (
                {"repository_id": places[number % len(places)], "digest": name, "created_at": 0}
                for number, (name, _) in enumerate(rows)
            ),
        )
        more = sum(size for _, size in rows)
        connection.execute(
            update(projects).where(projects.c.name == PROJECT).values(used_bytes=projects.c.used_bytes + more)
        )


def _places(connection: Connection) -> list[int]:
    project = connection.execute(select(projects.c.id).where(projects.c.name == PROJECT)).scalar_one()
    names = [f"{PROJECT}/old{number}" for number in range(_REPOSITORIES)]
    known = connection.execute(select(func.count()).where(repositories.c.name == names[0])).scalar_one()
    if not known:
        rows = [{"project_id": project, "name": name, "created_at": 0} for name in names]
        connection.execute(insert(repositories), rows)
    return list(connection.execute(select(repositories.c.id).where(repositories.c.name.in_(names))).scalars())


# sweeps


def swept(data: Path) -> tuple[dict[str, Any], float, float]:
    """What `gateway sweep` says it did, how long it took, and its processor seconds."""
    argv = [*program(), "--data", str(data), "sweep", "--grace", "1h", "--json"]
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the sweep ended with {process.returncode}")
    return json.loads(told), time.perf_counter() - begun, used.ru_utime + used.ru_stime


@contextmanager
def pushing(gateway: Gateway) -> Iterator[dict[str, Any]]:
    """Pushes as long as the block lasts; what came of it is there after its end."""
    told = {"port": gateway.port, "repository": f"{PROJECT}/new", "size": _PUSHED_BYTES, "connections": _CONNECTIONS}
    told["authorization"] = gateway.authorization(f"{PROJECT}/new")
    argv = [sys.executable, "-m", "tests.benchmarks.steady"]
    client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(json.dumps(told) + "\n")
    client.stdin.flush()
    if client.stdout.readline().strip() != "ready":
        raise RuntimeError("the client did not begin")
    client.stdin.write("go\n")
    client.stdin.flush()
    found: dict[str, Any] = {}
    before = processor_seconds(gateway.daemon.pid)
    try:
        yield found
    finally:
        answer, _ = client.communicate("stop\n", timeout=60)
        found.update(json.loads(answer))
        pushed = len(found["latencies"])
        found["rate"] = pushed / found["seconds"]
        found["p99_ms"] = sorted(found["latencies"])[int(pushed * 0.99)] * 1000
        found["server_us"] = 1e6 * (processor_seconds(gateway.daemon.pid) - before) / pushed


def measure_sweeps(stand: Stand, count: int, rounds: int, workers: int) -> None:
    data = stand.fresh_data()
    for _ in range(rounds):
        loosen(data, count)
        _say_sweep("sweep, nobody pushes", *swept(data), count)
    with stand.gateway(workers, data=data) as gateway:
        quiet, beside = [], []
        for number in range(rounds):
            loosen(data, count)
            quiet.append(_quietly(gateway, 20))
            with pushing(gateway) as found:
                told = swept(data)
            beside.append(found)
            _say_sweep("sweep beside pushes", *told, count)
            _say_pushes("  pushes beside it", found)
            quiet.append(_quietly(gateway, 20))
            alone = statistics.fmean(each["rate"] for each in quiet[-2:])
            print(f"  of their rate before and after it: {found['rate'] / alone:.2f} (round {number + 1})", flush=True)
        kept = statistics.fmean(each["rate"] for each in beside) / statistics.fmean(each["rate"] for each in quiet)
        print(f"pushes keep {kept:.2f} of their rate while a sweep goes on", flush=True)


def _quietly(gateway: Gateway, seconds: float) -> dict[str, Any]:
    with pushing(gateway) as found:
        time.sleep(seconds)
    _say_pushes("pushes by themselves", found)
    return found


def _say_pushes(what: str, found: dict[str, Any]) -> None:
    wrong = f", {found['errors']} REFUSED" if found["errors"] else ""
    spent = f"p99 {found['p99_ms']:.0f} ms, {found['server_us']:.0f} µs of CPU each in the gateway{wrong}"
    print(f"{what}: {found['rate']:.0f} pushes/s, {spent}", flush=True)


def _say_sweep(what: str, told: dict[str, Any], took: float, used: float, count: int) -> None:
    gone = told["blobs"]["count"]
    balanced = told["before"]["balanced"] and told["after"]["balanced"] and gone == count
    spent = f"{took:.1f} s, {used:.1f} s of CPU, {1e6 * used / max(1, gone):.0f} µs a blob"
    print(f"{what}: {gone:,} blobs in {spent}{'' if balanced else '; NOT BALANCED'}", flush=True)


# checks


def measure_checks(stand: Stand, gib: int, rounds: int) -> None:
    data = stand.fresh_data()
    made = stand.directory / "made"
    made.mkdir()
    rows, files = [], []
    for _ in range(gib * 1024 * MIB // _BIG_BYTES):
        text, file = make_file(made, _BIG_BYTES)
        place = data / blob_key(Digest(text))
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.append(file.rename(place))
        rows.append((text, _BIG_BYTES))
    record(data, rows)
    os.sync()
    size = sum(size for _, size in rows)

    # Its own clock leaves out what the program takes to begin, which weighs nothing on a disk of the usual size.
    own = "check --deep by its own clock"
    works: dict[str, Callable[[], float]] = {
        "cat": lambda: _read(files),
        "check --deep": lambda: checked(data, "--deep"),
    }
    for state, prepare in (("cold", forget), ("in memory", _read)):
        samples: dict[str, list[float]] = {name: [] for name in (*works, own)}
        for _ in range(rounds):
            for name, work in works.items():
                prepare(files)
                begun = time.perf_counter()
                seconds = work()
                samples[name].append(size / (time.perf_counter() - begun) / 1e9)
                if seconds:
                    samples[own].append(size / seconds / 1e9)
        told = "; ".join(f"{name} {statistics.median(each):.2f}" for name, each in samples.items())
        print(f"reading {gib} GiB {state} (GB/s): {told}", flush=True)
    forget(files)
    print(f"check, nothing read: {checked(data):.2f} s by its own clock", flush=True)


def checked(data: Path, *more: str) -> float:
    """The seconds that a check of a directory that is whole says it took."""
    argv = [*program(), "--data", str(data), "check", "--json", *more]
    ended = subprocess.run(argv, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"the check found: {ended.stdout} {ended.stderr}")
    return float(json.loads(ended.stdout)["seconds"])


def _read(files: list[Path]) -> float:
    with open(os.devnull, "wb") as nowhere:
        subprocess.run(["cat", *map(str, files)], stdout=nowhere, check=True)
    return 0.0


def forget(files: list[Path]) -> None:
    """Has the system drop what it holds of *files* in memory."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def main() -> None:
    reading = argparse.ArgumentParser(prog="python -m tests.benchmarks.upkeep", description=__doc__)
    reading.add_argument("what", nargs="*", choices=["sweep", "check", []], help="both unless one is named")
    reading.add_argument("--blobs", type=int, default=100_000, help="in each sweep")
    reading.add_argument("--rounds", type=int, default=2)
    reading.add_argument("--workers", type=int, default=1, help="of the gateway that takes the pushes")
    reading.add_argument("--gib", type=int, default=4, help="that checks read")
    reading.add_argument("--scratch", type=Path, default=Path(os.environ.get("TMPDIR", "build")))
    wanted = reading.parse_args()
    wanted.scratch.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="upkeep-", dir=wanted.scratch)).absolute()
    try:
        stand = Stand(directory)
        if not wanted.what or "sweep" in wanted.what:
            measure_sweeps(stand, wanted.blobs, wanted.rounds, wanted.workers)
        if not wanted.what or "check" in wanted.what:
            measure_checks(stand, wanted.gib, wanted.rounds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
