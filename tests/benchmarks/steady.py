"""A client that pushes small blobs, each another one, until it is told to stop.

Told what to do by one line of JSON; says `ready`, begins at the next line, stops at the one after it, and prints what
it found.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
import time
from typing import Any

from tests.benchmarks.pusher import Connection, push_blob


class Stream:
    """One connection's pushes, one after the other."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.repository: str = told["repository"]
        self.authorization: str = told["authorization"]
        self.latencies: list[float] = []
        self.errors = 0
        self._rest = random.Random(os.urandom(8)).randbytes(told["size"] - 24)
        self._mine = os.urandom(16)
        self._connection = Connection(told["port"])

    def work(self, stopped: threading.Event) -> None:
        """Pushes until *stopped*."""
        number = 0
        while not stopped.is_set():
            number += 1
            blob = self._mine + number.to_bytes(8, "big") + self._rest
            digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
            begun = time.perf_counter()
            self.errors += not push_blob(self._connection, self.repository, self.authorization, blob, digest)
            self.latencies.append(time.perf_counter() - begun)


def main() -> None:
    told = json.loads(sys.stdin.readline())
    streams = [Stream(told) for _ in range(told["connections"])]
    stopped = threading.Event()
    threads = [threading.Thread(target=stream.work, args=(stopped,), daemon=True) for stream in streams]
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    stopped.set()
    for thread in threads:
        thread.join()
    latencies = [latency for stream in streams for latency in stream.latencies]
    found = {"seconds": time.perf_counter() - begun, "latencies": latencies}
    print(json.dumps({**found, "errors": sum(stream.errors for stream in streams)}))


if __name__ == "__main__":
    main()
