"""Cursors: where the next page begins, sealed to the query it is a page of."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from gateway.errors import Invalid

T = TypeVar("T")

_SEAL_BYTES: Final = 16
_FOREIGN: Final = "This cursor is not of this query: repeat the very same query, or begin it without a cursor."


def seal(key: bytes, query: str, position: str) -> str:
    """The cursor to *position* in the answer to *query*; opaque, and good in every process that has the *key*."""
    content = position.encode()
    return base64.urlsafe_b64encode(_seal(key, query, content) + content).decode().rstrip("=")


def unseal(key: bytes, query: str, cursor: str) -> str:
    """The position that *cursor* names; raises `Invalid` unless it was given out for this very *query*."""
    try:
        # Bits beyond the last byte would be another spelling of the same cursor.
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = raw[_SEAL_BYTES:].decode()
    except (binascii.Error, ValueError):
        raise Invalid(_FOREIGN, detail={"field": "cursor"}) from None
    if not hmac.compare_digest(_seal(key, query, raw[_SEAL_BYTES:]), raw[:_SEAL_BYTES]):
        raise Invalid(_FOREIGN, detail={"field": "cursor"})
    return position


def part(rows: Iterable[T], name: Callable[[T], str], after: str, limit: int) -> tuple[Sequence[T], str]:
    """
    At most *limit* of the *rows* whose *name* comes after *after* ("" for the first), by name.

    And the position of the next part, "" if there is none. What comes or goes meanwhile shifts nothing else.
    """
    following = sorted((row for row in rows if not after or name(row) > after), key=name)
    found = following[:limit]
    return found, name(found[-1]) if len(following) > limit else ""


def _seal(key: bytes, query: str, content: bytes) -> bytes:
    told = query.encode("utf-8", "replace")
    message = len(told).to_bytes(8, "big") + told + content
    return hmac.digest(key, message, "sha256")[:_SEAL_BYTES]
