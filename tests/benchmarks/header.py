"""A client that sends HEAD over connections that stay open: wrk waits for a body that never comes.

Told what to do by one line of JSON; says `ready`, begins at the next line, and prints what it found.
"""

from __future__ import annotations

import json
import select
import ssl
import sys
import time

from tests.benchmarks.wire import connect, head


def main() -> None:
    told = json.loads(sys.stdin.readline())
    port = told["port"]
    request = head(port, "HEAD", told["path"], told["authorization"], f"Accept: {told['accept']}")
    connections = {each.fileno(): each for each in (connect(port) for _ in range(told["connections"]))}
    for each in connections.values():
        each.setblocking(False)
    print("ready", flush=True)
    sys.stdin.readline()
    begun, used = time.time(), time.process_time()
    latencies, errors = ask(connections, request, told["seconds"])
    found = {"begun": begun, "ended": time.time(), "processor": time.process_time() - used}
    print(json.dumps({**found, "latencies": latencies, "errors": errors}))


def ask(connections: dict[int, ssl.SSLSocket], request: bytes, seconds: float) -> tuple[list[float], int]:
    """One request in flight on each connection, for so long."""
    ready = select.epoll()
    now = time.perf_counter
    sent, heads = {}, dict.fromkeys(connections, b"")
    latencies: list[float] = []
    errors = 0
    until = now() + seconds
    for number, connection in connections.items():
        ready.register(number, select.EPOLLIN)
        sent[number] = now()
        connection.send(request)
    while now() < until:
        for number, _ in ready.poll(1):
            connection = connections[number]
            try:
                heads[number] += connection.recv(4096) or b"closed\r\n\r\n"
            except ssl.SSLWantReadError:
                continue
            if not heads[number].endswith(b"\r\n\r\n"):
                continue
            latencies.append(now() - sent[number])
            if not heads[number].startswith(b"HTTP/1.1 200"):
                errors += 1
                if heads[number].startswith(b"closed"):
                    ready.unregister(number)
                    continue
            heads[number] = b""
            sent[number] = now()
            connection.send(request)
    return latencies, errors


if __name__ == "__main__":
    main()
