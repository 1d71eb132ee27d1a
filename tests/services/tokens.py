"""A token server as Distribution wants it: who signs in gets what they ask for, signed, with the certificate inside."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import jwt

from tests.services.authority import Pair

ISSUER = "tests"
LIFETIME_SECONDS = 300


@contextmanager
def running_signer(signer: Pair, username: str, password: str) -> Iterator[str]:
    """A token server on 127.0.0.1 for as long as the block lasts; gives its realm."""
    expected = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    class Desk(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two packets, and the second would wait for the first

        def do_GET(self) -> None:
            if self.headers.get("Authorization") == expected:
                self._say(200, {"token": token(signer, self._scopes()), "expires_in": LIFETIME_SECONDS})
            else:
                self._say(401, {"errors": [{"code": "UNAUTHORIZED"}]})

        def _scopes(self) -> list[str]:
            asked = parse_qs(urlsplit(self.path).query).get("scope", [])
            return [scope for each in asked for scope in each.split()]

        def _say(self, status: int, told: object) -> None:
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Desk) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            serving.join()


def token(signer: Pair, scopes: Sequence[str]) -> str:
    """A token for *scopes*, each `type:name:action,…`."""
    access = []
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "tests", "aud": ISSUER, "nbf": now - 10, "iat": now, "exp": now + LIFETIME_SECONDS}
    leaf = ssl.PEM_cert_to_DER_cert(signer.certificate.read_text())
    headers = {"x5c": [base64.b64encode(leaf).decode()]}
    return jwt.encode({**claims, "jti": uuid4().hex, "access": access}, signer.key.read_text(), "ES256", headers)
