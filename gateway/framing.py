"""How a request is framed on the wire: one strict reading of heads, hosts and chunks, before any parser sees them.

A head is judged once, whole; what is not plainly RFC 9112 is refused rather than repaired, because two readers that
repair differently are how a request is smuggled.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, Literal, assert_never

CHUNKED: Final = -1

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_FIELD = _TOKEN + rb":[\t -~\x80-\xff]*+\r\n"
_HEAD = re.compile(rb"([A-Z]{1,20}) (/[!\"$-~]*+) HTTP/1\.([01])\r\n(?:" + _FIELD + rb")*+\r\n")
_REQUEST_LINE = re.compile(rb"[A-Z]{1,20} (/[!\"$-~]*+) HTTP/1\.[01]\r\n")
_VERSION = re.compile(rb"[^\r\n]* HTTP/(?!1\.[01]\r)\d\.\d\r\n")
_UPGRADE = re.compile(rb"(?i)\r\n(?:upgrade|http2-settings):[^\r]*")
_HEALTH = re.compile(rb"/health/[a-z]+(?:\?|$)")
_LENGTH = re.compile(rb"[0-9]{1,19}")
_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")


class Misframed(Exception):
    """
    A request that is not answered: *status* for the reply, *code* for its envelope, the message for the caller.

    *advice* is for the operator's log alone.
    """

    def __init__(self, status: int, message: str, code: str = "UNSUPPORTED", *, advice: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.advice = advice


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """
    What one client may use of the edge; sizes in bytes, times in seconds.

    *hosts* are the names and addresses the gateway answers to: lower case, no port, no brackets. Connections from
    *trusted_proxies* name their client in `X-Forwarded-For` and are not counted against *connections_per_address*.
    A body must bring *body_min_bytes_per_second* on average over each *body_window_seconds* after a grace, counted
    only while we read; a reply must be taken at *write_min_bytes_per_second* over each *write_stall_seconds*.
    """

    hosts: frozenset[str]
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    header_bytes: int = 32 * 1024
    header_count: int = 100
    url_bytes: int = 8 * 1024
    connections_per_address: int = 200
    header_seconds: float = 10
    first_byte_seconds: float = 15
    idle_seconds: float = 150
    body_min_bytes_per_second: int = 1024
    body_grace_seconds: float = 10
    body_window_seconds: float = 30
    write_min_bytes_per_second: int = 2048
    write_stall_seconds: float = 60
    write_buffer_bytes: int = 32 * 1024
    drain_bytes: int = 64 * 1024
    drain_seconds: float = 5
    linger_seconds: float = 5
    linger_bytes: int = 16 * 1024 * 1024


@dataclass(slots=True)
class Framing:
    """A judged head: *length* is the body's (`CHUNKED` when unknown), *host* the allowed name or "" for a probe."""

    head: bytes
    target: bytes
    length: int
    host: str
    continues: bool


def judge(head: bytes, limits: EdgeLimits) -> Framing:
    """Judge a whole head, its blank line included; raises `Misframed` for anything that is not plainly right."""
    found = _HEAD.fullmatch(head)
    if found is None:
        raise _complaint(head, limits)
    target = found[2]
    if len(target) > limits.url_bytes:
        raise Misframed(414, "Shorten the address of this request.")
    if head.count(b"\r\n") - 2 > limits.header_count:
        raise Misframed(431, f"Send at most {limits.header_count} headers.")
    if target.startswith(b"//") or found[1] == b"CONNECT":
        raise Misframed(400, "Ask for a path that starts with a single slash.")
    lowered = head.lower()
    modern = found[3] == b"1"
    length = _body_length(lowered, modern)
    if _only(lowered, b"\ncontent-encoding:") not in (None, b"identity", b""):
        raise Misframed(415, "Send the body without Content-Encoding.")
    if lowered.count(b"\nauthorization:") > 1:
        raise Misframed(400, "Send the Authorization header once.")
    if b"\nupgrade:" in lowered:
        head = _UPGRADE.sub(b"", head)
    return Framing(
        head=head,
        target=target,
        length=length,
        host=_host(lowered, target, modern, limits.hosts),
        continues=_continues(lowered) and length != 0 and modern,
    )


def judge_part(part: bytes, limits: EdgeLimits) -> None:
    """Judge the beginning of a head that has no end yet, so that a hopeless one need not wait for its deadline."""
    line = part.find(b"\r\n")
    if line < 0 and len(part) > limits.url_bytes + 40:
        raise Misframed(414, "Shorten the address of this request.")
    if len(part) > limits.header_bytes:
        raise _too_long(part, limits)
    if part.count(b"\n") != part.count(b"\r\n"):
        raise Misframed(400, "End every line of the request with CR LF.")


def _too_long(head: bytes, limits: EdgeLimits) -> Misframed:
    line = _REQUEST_LINE.match(head)
    if line is not None and len(line[1]) > limits.url_bytes:
        return Misframed(414, "Shorten the address of this request.")
    return Misframed(431, f"Send at most {limits.header_bytes} bytes of headers.")


def judge_size(head_bytes: int, head: bytes, limits: EdgeLimits) -> None:
    """Refuse a complete head over the limit."""
    if head_bytes > limits.header_bytes:
        raise _too_long(head, limits)


def _complaint(head: bytes, limits: EdgeLimits) -> Misframed:
    if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") != head.count(b"\r\n"):
        return Misframed(400, "End every line of the request with CR LF.")
    if _VERSION.match(head):
        return Misframed(505, "Speak HTTP/1.1.")
    line = _REQUEST_LINE.match(head)
    if line is None:
        return Misframed(400, "Begin the request with a method, a path and HTTP/1.1.")
    if b"\r\n " in head or b"\r\n\t" in head:
        return Misframed(400, "Do not fold headers over several lines.")
    return Misframed(400, "Send headers as `name: value`, without control characters.")


def _only(lowered: bytes, name: bytes) -> bytes | None:
    at = lowered.find(name)
    if at < 0:
        return None
    begin = at + len(name)
    if lowered.find(name, begin - 1) >= 0:
        raise Misframed(400, f"Send the {name[1:-1].decode().title()} header once.")
    return lowered[begin : lowered.index(b"\r", begin)].strip(b" \t")


def _body_length(lowered: bytes, modern: bool) -> int:
    length = _only(lowered, b"\ncontent-length:")
    coding = _only(lowered, b"\ntransfer-encoding:")
    if coding is not None:
        if length is not None or not modern:
            raise Misframed(400, "Frame the body by Content-Length or by Transfer-Encoding, not by both.")
        if coding != b"chunked":
            raise Misframed(400, "Use no Transfer-Encoding but chunked.")
        return CHUNKED
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length) or int(length) > 2**63 - 1:
        raise Misframed(400, "Send Content-Length as one decimal number.")
    return int(length)


def _continues(lowered: bytes) -> bool:
    wish = _only(lowered, b"\nexpect:")
    if wish is None:
        return False
    if wish != b"100-continue":
        raise Misframed(417, "Expect nothing but 100-continue.")
    return True


def _host(lowered: bytes, target: bytes, modern: bool, hosts: frozenset[str]) -> str:
    raw = _only(lowered, b"\nhost:")
    if raw is None:
        if modern or not _HEALTH.match(target):
            raise Misframed(400, "Send exactly one Host header.")
        return ""
    name = host_name(raw)
    if name is None:
        raise Misframed(400, "Send a Host header that is a name or an address, with at most a port.")
    if name in hosts:
        return name
    if _HEALTH.match(target):
        return ""
    advice = f"It was called {name}; if that is right, add it to [server] names, or give `gateway up` --host {name}."
    raise Misframed(421, "Use one of the names this gateway is configured for.", advice=advice)


@lru_cache(maxsize=256)
def host_name(raw: bytes) -> str | None:
    """The name or address in a lower-case `Host` value, without port and brackets; None when malformed."""
    text = raw.decode("latin-1")
    if text.startswith("["):
        inner, closed, rest = text[1:].partition("]")
        name = _address(inner) if closed else None
    else:
        inner, colon, port = text.partition(":")
        rest = colon + port
        name = inner if _NAME.fullmatch(inner) else None
    if rest and not (rest[0] == ":" and _PORT.fullmatch(rest[1:]) and 1 <= int(rest[1:]) <= 65535):
        return None
    return name


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return None


class Chunks:
    """
    The framing of one chunked body (RFC 9112 §7.1), read as it arrives.

    Extensions and trailers are never interpreted, only bounded; so is the number of tiny chunks beyond the larger
    ones, because each costs us far more than it costs the sender.
    """

    LINE_BYTES: ClassVar[int] = 256
    EXTENSION_BYTES: ClassVar[int] = 4096
    TRAILER_BYTES: ClassVar[int] = 8192
    TINY_BYTES: ClassVar[int] = 64
    TINY_CHUNKS: ClassVar[int] = 4096

    _SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(;[\t -~]*)?\r\n")
    _TRAILER = re.compile(_FIELD)

    __slots__ = ("_extensions", "_left", "_line", "_stage", "_tiny", "_trailers")

    def __init__(self) -> None:
        self._left = 0
        self._line = b""
        self._stage: Literal["size", "close", "trailer"] = "size"
        self._extensions = 0
        self._tiny = 0
        self._trailers = 0

    def scan(self, piece: bytes, at: int) -> int:
        """Read *piece* from *at*: the offset just past the body's end, or -1 while it goes on."""
        end = len(piece)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            cut = piece.find(b"\n", at)
            line = self._line + (piece[at:] if cut < 0 else piece[at : cut + 1])
            if len(line) > self.LINE_BYTES and self._stage != "trailer":
                raise Misframed(400, "Send chunk sizes on short lines.")
            if cut < 0:
                self._line = line
                self._wait(line)
                return -1
            self._line = b""
            at = cut + 1
            if self._take(line):
                return at
        return -1

    def _take(self, line: bytes) -> bool:
        match self._stage:
            case "size":
                return self._size(line)
            case "close":
                return self._close(line)
            case "trailer":
                return self._trailer(line)
            case never:
                assert_never(never)

    def _wait(self, line: bytes) -> None:
        if self._stage == "close" and not b"\r\n".startswith(line):
            raise Misframed(400, "End every chunk with CR LF.")
        if self._trailers + len(line) > self.TRAILER_BYTES:
            raise Misframed(431, "Send fewer trailers.")

    def _size(self, line: bytes) -> bool:
        found = self._SIZE.fullmatch(line)
        if found is None:
            raise Misframed(400, "Send chunk sizes as hexadecimal numbers.")
        self._left = int(found[1], 16)
        if self._left >= 2**63:
            raise Misframed(400, "Send smaller chunks.")
        if found[2]:
            self._extensions += len(found[2])
        self._tiny = max(0, self._tiny + (1 if self._left < self.TINY_BYTES else -1))
        if self._extensions > self.EXTENSION_BYTES or self._tiny > self.TINY_CHUNKS:
            raise Misframed(400, "Send fewer and larger chunks, without extensions.")
        self._stage = "close" if self._left else "trailer"
        return False

    def _close(self, line: bytes) -> bool:
        if line != b"\r\n":
            raise Misframed(400, "End every chunk with CR LF.")
        self._stage = "size"
        return False

    def _trailer(self, line: bytes) -> bool:
        if line == b"\r\n":
            return True
        self._trailers += len(line)
        if self._trailers > self.TRAILER_BYTES:
            raise Misframed(431, "Send fewer trailers.")
        if not self._TRAILER.fullmatch(line):
            raise Misframed(400, "Send trailers as `name: value`.")
        return False
