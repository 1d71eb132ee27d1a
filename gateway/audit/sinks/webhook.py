"""The sink that is a webhook: JSON lines by POST, signed with a secret that both sides know.

    X-Gateway-Sink: NAME                 X-Gateway-Events: FIRST-LAST       if there are events in it
                                         X-Gateway-Checkpoints: FIRST-LAST  if there are checkpoints in it
    X-Gateway-Timestamp: UNIX seconds    X-Gateway-Signature: v1=HMAC-SHA256(secret, timestamp "." body), hexadecimal

Any answer of 2xx that is there in time is a receipt; everything else means: send it again.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.audit.sinks.line import Line
from gateway.audit.sinks.port import Shipment, SinkFailed, why
from gateway.errors import Invalid

_SECONDS: Final = 15.0
#: Enough for a full shipment over a line of 10 kB a second; whoever is slower falls behind without end anyhow.
_WHOLE_SECONDS: Final = 60.0
_LONGEST_REST_SECONDS: Final = 3600.0


class WebhookSink:
    """
    Posts to *url*; *secret* is asked for each time, so that it can be changed while the gateway serves.

    *authority* is a file of trusted certificates, None for those of the system. Redirects are not followed. A peer that
    is silent for *timeout_seconds* has failed, and so has one that has not answered whole after *whole_seconds*.
    """

    def __init__(
        self,
        name: str,
        url: str,
        secret: Callable[[], str],
        *,
        authority: Path | None = None,
        timeout_seconds: float = _SECONDS,
        whole_seconds: float = _WHOLE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        self._name = name
        self._host, self._port = parts.hostname or "", parts.port
        self._safe = parts.scheme == "https"
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = secret
        self._authority = authority
        self._line = Line(timeout_seconds, whole_seconds)
        self._clock = clock
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, shipment: Shipment) -> None:
        body = "".join(f"{line}\n" for line in shipment.lines).encode()
        try:
            headers = self._headers(shipment, body)
            with self._line.delivery():
                status, rest = self._post(body, headers)
        except Invalid as error:
            raise SinkFailed(error.message) from error
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise SinkFailed(f"{self._host} shows a certificate that is not trusted: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            told = why(error) if isinstance(error, OSError) else type(error).__name__
            raise SinkFailed(f"{self._host} does not answer: {told}") from error
        if not 200 <= status < 300:
            raise SinkFailed(f"{self._host} answers {status}", retry_after_seconds=rest)

    def abort(self) -> None:
        self._line.abort()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._line.close()

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, float]:
        reused = self._connection is not None
        try:
            return self._exchange(body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A connection that was kept may have been closed meanwhile, which is no fault of anybody's.
            self.close()
            self._line.require()
            if not reused:
                raise
            return self._exchange(body, headers)

    def _exchange(self, body: bytes, headers: dict[str, str]) -> tuple[int, float]:
        connection = self._opened()
        connection.request("POST", self._target, body, headers)
        reply = connection.getresponse()
        # A bounded look at what it says, so that the connection may be used again.
        if len(reply.read(64 * 1024)) == 64 * 1024 or reply.will_close:
            self.close()
        return reply.status, _rest(reply.getheader("Retry-After", ""))

    def _opened(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._safe:
                context = ssl.create_default_context(cafile=self._authority)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(self._host, self._port)
            else:
                context, connection = None, http.client.HTTPConnection(self._host, self._port)
            # It would open another by itself, past the line.
            connection.auto_open = 0
            connection.sock = self._line.opened(connection.host, connection.port, context)
            self._connection = connection
        return self._connection

    def _headers(self, shipment: Shipment, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._clock()))
        first, last = shipment.statements
        return {
            "Content-Type": "application/x-ndjson",
            "User-Agent": "registry-gateway",
            "X-Gateway-Sink": self._name,
            **({"X-Gateway-Events": f"{shipment.first}-{shipment.last}"} if shipment.last else {}),
            **({"X-Gateway-Checkpoints": f"{first}-{last}"} if last else {}),
            "X-Gateway-Timestamp": timestamp,
            "X-Gateway-Signature": f"v1={signature(self._secret(), timestamp, body)}",
        }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What the receiver computes too, and compares."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _rest(retry_after: str) -> float:
    return min(float(retry_after), _LONGEST_REST_SECONDS) if retry_after.isascii() and retry_after.isdigit() else 0.0
