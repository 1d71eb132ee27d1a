"""A client that pushes small blobs over connections that stay open: POST, then PUT with the bytes.

Told what to do by one line of JSON; says `ready`, begins at the next line, and prints what it found.
"""

from __future__ import annotations

import hashlib
import json
import random
import ssl
import sys
import threading
import time
from typing import Any

from tests.benchmarks.wire import connect, head


def small_blobs(seed: str, count: int, size: int) -> list[tuple[bytes, str]]:
    """The blobs of a seed, the same ones each time, with their digests."""
    source = random.Random(seed)
    blobs = [source.randbytes(size) for _ in range(count)]
    return [(blob, f"sha256:{hashlib.sha256(blob).hexdigest()}") for blob in blobs]


class Connection:
    """One connection and its reader; replies must carry a Content-Length, as those to pushes do."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket: ssl.SSLSocket = connect(port)
        self._rest = b""

    def ask(self, request: bytes) -> tuple[int, dict[str, str]]:
        """Sends a request whole; the status and headers of its reply."""
        self._socket.sendall(request)
        data = self._rest
        while b"\r\n\r\n" not in data:
            data += self._more()
        raw, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(rest) < length:
            rest += self._more()
        self._rest = rest[length:]
        return int(first.split(" ")[1]), headers

    def _more(self) -> bytes:
        found = self._socket.recv(65536)
        if not found:
            raise ConnectionError("the server closed the connection")
        return found


class Pushes:
    """The work of one process, shared by its threads."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.port: int = told["port"]
        self.repository: str = told["repository"]
        self.authorization: str = told["authorization"]
        self.latencies: list[float] = []
        self.errors = 0
        self.blobs = small_blobs(told["seed"], told["count"], told["size"])
        self.connections = [Connection(self.port) for _ in range(told["connections"])]

    def work(self, connection: Connection) -> None:
        while True:
            try:
                blob, digest = self.blobs.pop()
            except IndexError:
                return
            begun = time.perf_counter()
            try:
                kept = push_blob(connection, self.repository, self.authorization, blob, digest)
            except (OSError, KeyError):
                self.errors += 1
                return
            self.latencies.append(time.perf_counter() - begun)
            self.errors += not kept


def push_blob(connection: Connection, repository: str, authorization: str, blob: bytes, digest: str) -> bool:
    """Pushes one blob, by POST and PUT; whether it was taken."""
    port = connection.port
    begin = f"/v2/{repository}/blobs/uploads/"
    _, headers = connection.ask(head(port, "POST", begin, authorization, "Content-Length: 0"))
    place = headers["location"].partition(f":{port}")[2] or headers["location"]
    place += f"{'&' if '?' in place else '?'}digest={digest}"
    kind = ("Content-Type: application/octet-stream", f"Content-Length: {len(blob)}")
    status, _ = connection.ask(head(port, "PUT", place, authorization, *kind) + blob)
    return status == 201


def main() -> None:
    pushes = Pushes(json.loads(sys.stdin.readline()))
    threads = [threading.Thread(target=pushes.work, args=(each,)) for each in pushes.connections]
    print("ready", flush=True)
    sys.stdin.readline()
    begun, used = time.time(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {"begun": begun, "ended": time.time(), "processor": time.process_time() - used}
    print(json.dumps({**found, "latencies": pushes.latencies, "errors": pushes.errors + len(pushes.blobs)}))


if __name__ == "__main__":
    main()
