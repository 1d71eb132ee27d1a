"""The listening sockets: where to listen, and who may come in before a handshake is paid for."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Final

from gateway.errors import Conflict, Invalid, Refusal
from gateway.protocol.edge import Edge

log = logging.getLogger("gateway.server")

HANDSHAKE_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 30.0
BACKLOG: Final = 2048

_PAUSE_SECONDS: Final = 0.5
_RESET: Final = struct.pack("ii", 1, 0)


def bind(address: str, port: int) -> list[socket.socket]:
    """Listening sockets for *address* (every one a name resolves to) and *port*; raises `Conflict` or `Invalid`."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as problem:
        raise Invalid(f"{address} is not an address of this machine: choose another with --bind.") from problem
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            bound = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_listen(family, str(where[0]), bound))
    except OSError as problem:
        for each in sockets:
            each.close()
        raise _unbound(problem, address, port) from problem
    return sockets


def _listen(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if everywhere else 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _unbound(problem: OSError, address: str, port: int) -> Refusal:
    match problem.errno:
        case errno.EADDRINUSE:
            return Conflict(
                f"Port {port} on {address} is taken: stop what listens there, or choose another with --port "
                '(with make: make up ARGS="--port PORT").'
            )
        case errno.EACCES | errno.EPERM:
            return Invalid(f"Port {port} needs a privilege this user lacks: choose one from 1024 up with --port.")
        case _:
            return Invalid(f"{address} is not an address of this machine: choose another with --bind.")


class Listener:
    """
    Accepts from one listening socket, one connection in a turn of the loop so that several workers share them.

    An address that already holds its share, handshakes included, is dropped before anything is spent on it. When the
    process has no file to spare it pauses for a moment instead of giving up.
    """

    def __init__(
        self,
        listening: socket.socket,
        edge: Edge,
        context: ssl.SSLContext,
        connection: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listening = listening
        self._edge = edge
        self._context = context
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._closed = False
        self._resume()

    def close(self) -> None:
        """Accept no more; handshakes under way go on."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        # One in a turn: each costs a handshake in the next, and who is connected waits for it.
        try:
            accepted, peer = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as problem:
            log.error("no connection can be accepted for a moment: %s", problem)  # noqa: TRY400
            self._loop.remove_reader(self._listening)
            self._loop.call_later(_PAUSE_SECONDS, self._resume)
            return
        self._admit(accepted, str(peer[0]))

    def _admit(self, accepted: socket.socket, peer: str) -> None:
        origin = self._edge.knock(peer)
        if origin is None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            accepted.close()
            return
        accepted.setblocking(False)
        task = self._loop.create_task(self._shake(accepted, origin))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake(self, accepted: socket.socket, origin: str) -> None:
        connection = self._connection()
        self._edge.knocks[connection] = origin
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except OSError as problem:
            log.debug("a handshake failed: %s", problem)
            accepted.close()
        finally:
            self._edge.unknock(connection)
