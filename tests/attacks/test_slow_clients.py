"""A thousand slow clients at once: good ones keep their pace, and memory and files stay bounded."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.attacks.site import Site, standing

ROOT = Path(__file__).parent.parent.parent
CLIENTS = 1000
REQUESTS = 1500
#: Ten seconds for whoever sends no head, thirty for a body: several rounds of being cut and coming back.
SIEGE_SECONDS = 45
MEMORY_BYTES = 100 * 1024 * 1024
LARGE = bytes(8 * 1024 * 1024)


@contextmanager
def siege(site: Site, number: int) -> Iterator[None]:
    digest = site.push_blob(site.widest("alice", "alpha/large"), "alpha/large", LARGE)
    token = site.widest("alice", "alpha/large")
    argv = [str(site.port), token, "alpha/large", digest, str(number), str(site.data / "tls" / "ca.crt")]
    command = [sys.executable, "-m", "tests.attacks.sluggish", *argv]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as besieging:
        try:
            assert besieging.stdout is not None
            assert besieging.stdout.readline() == b"ready\n"
            yield
        finally:
            besieging.kill()


def paces(site: Site, requests: int, at_least_seconds: float = 0) -> list[float]:
    """How long each of so many pulls of a good client took, on one connection, sorted."""
    token = site.widest("alice", "alpha/app")
    connection = HTTPConnection("localhost", site.port)
    connection.sock = site.connect()
    taken, until = [], time.monotonic() + at_least_seconds
    while len(taken) < requests or time.monotonic() < until:
        begun = time.perf_counter()
        connection.request("GET", "/v2/alpha/app/manifests/v1", headers={"Authorization": f"Bearer {token}"})
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, site.manifest)
        taken.append(time.perf_counter() - begun)
        # A good client is not in a hurry: what is measured is how long it waits, not how fast it can be.
        time.sleep(0.01)
    connection.close()
    return sorted(taken)


def processes(site: Site) -> list[int]:
    """The gateway and everything it started."""
    found = [site.process.pid]
    for pid in found:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += [int(child) for child in children]
    return found


def memory_bytes(site: Site) -> int:
    """What the gateway alone keeps in memory, shared pages counted once."""
    total = 0
    for pid in processes(site):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def files(site: Site) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in processes(site))


@pytest.mark.long
@pytest.mark.alone
def test_a_thousand_slow_clients_hinder_nobody_and_cost_little(tmp_path: Path) -> None:
    with standing(tmp_path / "data", people=("alice", "root")) as site:
        paces(site, 200)
        idle, before, opened = paces(site, REQUESTS), memory_bytes(site), files(site)
        with siege(site, CLIENTS):
            peak = memory_bytes(site)
            busy = paces(site, REQUESTS, SIEGE_SECONDS)
            peak = max(peak, memory_bytes(site))
        calm, besieged = (each[int(len(each) * 0.99)] * 1000 for each in (idle, busy))
        print(
            f"\n{CLIENTS} slow clients: p99 {calm:.2f} ms idle, {besieged:.2f} ms besieged"
            f" (medians {statistics.median(idle) * 1000:.2f}, {statistics.median(busy) * 1000:.2f}),"
            f" {(peak - before) / 2**20:.0f} MiB more"
        )
        assert besieged < 2 * calm
        assert peak - before <= MEMORY_BYTES
        for _ in range(150):
            if files(site) <= opened + 10:
                break
            time.sleep(0.2)
        assert files(site) <= opened + 10
        assert site.ask("GET", "/health/ready").status == 200


def test_sixty_slow_clients_are_served_beside(site: Site) -> None:
    """The same in small: who is slow waits, who is good does not."""
    with siege(site, 60):
        taken = paces(site, 40)
    assert taken[len(taken) // 2] < 0.5
    assert site.process.poll() is None
