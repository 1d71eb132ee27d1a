"""The sink that is a syslog server: RFC 5424 messages over TLS (RFC 5425), each preceded by its length.

Syslog has no receipts. A shipment counts as taken when the server's machine has acknowledged every byte of it; what a
server loses after that is seen as a gap by whoever verifies what it wrote.
"""

from __future__ import annotations

import fcntl
import re
import select
import socket
import ssl
import struct
import termios
import time
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.sinks.line import Line
from gateway.audit.sinks.port import Shipment, SinkFailed, why

_SECONDS: Final = 10.0
_WHOLE_SECONDS: Final = 60.0
#: Facility 13: log audit (RFC 5424 §6.2.1).
_FACILITY: Final = 13
_NOTICE: Final = 5
_SEVERITIES: Final = {"denied": 4, "failed": 3, "allowed": 6}
_HEAD: Final = "<{priority}>1 {time} {host} gateway - {kind} - "


class _Told(msgspec.Struct, gc=False):
    time: str = "-"
    kind: str = ""
    type: str = ""
    outcome: str = ""


_DECODER = msgspec.json.Decoder(_Told)


class SyslogSink:
    """
    Sends to *host* and *port*, whose certificate must be right for that name.

    *authority* is a file of trusted certificates, None for those of the system; *certificate* and *key* are shown to a
    server that asks who we are. *name* is what the messages call this host. A server that takes nothing for
    *timeout_seconds* has failed, and so has one that has not taken a shipment whole after *whole_seconds*.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        name: str,
        authority: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout_seconds: float = _SECONDS,
        whole_seconds: float = _WHOLE_SECONDS,
    ) -> None:
        self._address = (host, port)
        self._name = re.sub(r"[^!-~]", "", name)[:255] or "-"
        self._files = (authority, certificate, key)
        self._timeout_seconds = timeout_seconds
        self._line = Line(timeout_seconds, whole_seconds)
        self._socket: ssl.SSLSocket | None = None

    def deliver(self, shipment: Shipment) -> None:
        content = b"".join(self.message(line) for line in shipment.lines)
        try:
            with self._line.delivery():
                connection = self._connected()
                connection.sendall(content)
                self._await_receipt(connection)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise SinkFailed(
                f"{self._place} shows a certificate that is not trusted: {error.verify_message}"
            ) from error
        except OSError as error:
            self.close()
            raise SinkFailed(f"{self._place} does not take messages: {why(error)}") from error

    def message(self, line: str) -> bytes:
        """*line* as it is sent: its length, a space, the message."""
        told = _DECODER.decode(line)
        priority = _FACILITY * 8 + _SEVERITIES.get(told.outcome, _NOTICE)
        kind = (told.kind or told.type or "-")[:32]
        head = _HEAD.format(priority=priority, time=told.time, host=self._name, kind=kind)
        message = (head + line).encode()
        return b"%d %b" % (len(message), message)

    def abort(self) -> None:
        self._line.abort()

    def close(self) -> None:
        self._socket = None
        self._line.close()

    @property
    def _place(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def _connected(self) -> ssl.SSLSocket:
        if self._socket is not None:
            if not _has_ended(self._socket):
                return self._socket
            self.close()
        authority, certificate, key = self._files
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        made = self._line.opened(*self._address, context)
        assert isinstance(made, ssl.SSLSocket)
        self._socket = made
        return made

    def _await_receipt(self, connection: ssl.SSLSocket) -> None:
        """Returns when the other machine has acknowledged all that was sent; raises `OSError`."""
        deadline = time.monotonic() + self._timeout_seconds
        pause = 0.0005
        while _unacknowledged(connection):
            self._line.require()
            if time.monotonic() > deadline:
                raise TimeoutError("it acknowledges nothing")
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        if _has_ended(connection):
            raise ConnectionResetError("it ended the connection")


def _unacknowledged(connection: socket.socket) -> int:
    """How many bytes of what was sent the other machine has not acknowledged (tcp(7), SIOCOUTQ)."""
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(count)


def _has_ended(connection: ssl.SSLSocket) -> bool:
    """Whether the other side has closed; whatever else it says is of no interest."""
    ready, _, _ = select.select([connection], [], [], 0)
    if not ready:
        return False
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(1024) == b""
    except (ssl.SSLWantReadError, BlockingIOError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout)
