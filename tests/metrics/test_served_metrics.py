"""A served gateway's figures: of all its workers, for whoever has the token, and traces when they are wanted."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.services.daemon import scratch
from tests.services.gateway import Gateway

TOKEN = "not-a-secret-but-long"


class _Collector(http.server.BaseHTTPRequestHandler):
    taken: list[bytes]

    def do_POST(self) -> None:
        self.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    """Takes spans as an OpenTelemetry collector does: where to send them, and what came."""
    taken: list[bytes] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("_Own", (_Collector,), {"taken": taken}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def metrics(gateway: Gateway) -> dict[tuple[str, tuple[str, ...]], float]:
    content = gateway.wire.ask("GET", "/metrics", token=TOKEN).must(200).body.decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(content)
        for sample in family.samples
    }


def test_every_worker_s_requests_are_in_the_figures_and_spans_arrive() -> None:
    with scratch("met") as home, collecting() as (endpoint, spans):
        token = home / "token"
        token.touch(mode=0o600)
        token.write_text(TOKEN + "\n")
        environment = {
            "GATEWAY_METRICS__TOKEN_FILE": str(token),
            "GATEWAY_METRICS__TRACE_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        gateway = Gateway(Path(home), workers=2, environment=environment)
        gateway.start()
        try:
            for _ in range(20):
                gateway.wire.ask("GET", "/v2/").must(401)
            gateway.wire.ask("GET", "/metrics").must(401)
            until = time.monotonic() + 20
            while (found := metrics(gateway))["gateway_requests_total", ("v2", "GET", "401")] < 20:
                assert time.monotonic() < until, found
                time.sleep(0.2)
            assert found["gateway_requests_total", ("v2", "GET", "401")] == 20
            assert {("gateway_worker_memory_bytes", (seat,)) for seat in "01"} <= set(found)
            assert found["gateway_ready", ()] == 1
            assert found["gateway_certificate_until_seconds", ()] > time.time()
            while not any(b"GET /v2" in each for each in spans):
                assert time.monotonic() < until, "no span arrived"
                time.sleep(0.1)
            assert TOKEN not in gateway.log.read_text()
            assert TOKEN not in str(gateway.events())
        finally:
            gateway.stop()
