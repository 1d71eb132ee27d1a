"""The byte ranges of both directions: what a reader asks for, what a writer says it sends."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import BlobUploadInvalid, RangeNotSatisfiable

#: Longer headers are not looked at: no honest range needs more, and a parser must not work for a hostile one.
RANGE_CHARACTERS = 64

_WANTED = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.ASCII | re.IGNORECASE)
_SENT = re.compile(r"(?:bytes )?([0-9]{1,19})-([0-9]{1,19})(?:/(\*|[0-9]{1,19}))?", re.ASCII | re.IGNORECASE)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """
    The first and last byte (inclusive) that a `Range` header asks of *size* bytes; None means: serve the whole.

    Understands one range, `bytes=a-b`, `bytes=a-` or `bytes=-n`, and cuts it at the end (RFC 9110 §14.1.2). Several
    ranges, other units, garbled headers and headers over 64 characters are ignored, as §14.2 permits, and so is any
    range of an empty blob, because no `Content-Range` can describe it. Raises `RangeNotSatisfiable` when the range
    begins behind the end, ends before it begins, or asks for the last 0 bytes.
    """
    if size <= 0 or len(header) > RANGE_CHARACTERS:
        return None
    match = _WANTED.fullmatch(header)
    if match is None:
        return None
    first_text, last_text = match.groups()
    if not first_text:
        return _suffix(last_text, size)
    first = int(first_text)
    last = int(last_text) if last_text else size - 1
    if first >= size or (last_text and last < first):
        raise RangeNotSatisfiable(f"Ask for bytes between 0 and {size - 1}, lowest first.", size_bytes=size)
    return first, min(last, size - 1)


def _suffix(count_text: str, size: int) -> tuple[int, int] | None:
    if not count_text:
        return None
    count = int(count_text)
    if count == 0:
        raise RangeNotSatisfiable("Ask for at least the last byte.", size_bytes=size)
    return max(0, size - count), size - 1


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Where a chunk of an upload lies: its *first* and *last* byte, inclusive."""

    first: int
    last: int

    @classmethod
    def parse(cls, header: str) -> ContentRange:
        """
        The range a chunk's `Content-Range` names; raises `BlobUploadInvalid` for anything malformed.

        The form is `a-b` (distribution-spec, "Pushing a blob in chunks"); `bytes a-b/total` and `bytes a-b/*`, which
        RFC 9110 would have, are understood too. Whether it fits the upload is for the upload to say.
        """
        match = _SENT.fullmatch(header) if len(header) <= RANGE_CHARACTERS else None
        if match is None:
            raise BlobUploadInvalid("Send Content-Range as <first byte>-<last byte>, as in 0-1023.")
        first, last, total = int(match[1]), int(match[2]), match[3]
        if last < first:
            raise BlobUploadInvalid("Send a Content-Range whose last byte does not lie before its first.")
        if total not in (None, "*") and int(total) <= last:
            raise BlobUploadInvalid("Send a Content-Range whose last byte lies inside the total it names.")
        return cls(first, last)

    @property
    def length_bytes(self) -> int:
        """How many bytes the chunk must have."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def render_upload_range(received_bytes: int) -> str:
    """The `Range` header of an upload that holds *received_bytes*: `0-<last>`, and `0-0` for none.

    Clients read it as two numbers without a unit and fail on `0--1`, so an empty upload looks like one byte.
    """
    return f"0-{max(0, received_bytes - 1)}"


def render_content_range(first: int, last: int, size_bytes: int) -> str:
    """The `Content-Range` header of a partial reply: `bytes a-b/total`."""
    return f"bytes {first}-{last}/{size_bytes}"


def render_unsatisfied_range(size_bytes: int) -> str:
    """The `Content-Range` header of a 416: `bytes */total`."""
    return f"bytes */{size_bytes}"
