"""What a check may find wrong with what is kept, as values, and how each may be mended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.change import Change, Notes


class FlawKind(StrEnum):
    BLOB_MISSING = "blob_missing"
    BLOB_SIZE = "blob_size"
    BLOB_BYTES = "blob_bytes"
    BLOB_UNREADABLE = "blob_unreadable"
    BLOB_UNRECORDED = "blob_unrecorded"
    """A blob's file without its row, though something names the blob."""
    BLOB_STRAY = "blob_stray"
    """A file without its row that nothing names: what a push that was refused or broken off leaves to a sweep."""
    BLOB_LEFT = "blob_left"
    """A row without its file that no repository holds: what a sweep that was stopped leaves to the next."""
    LINK_DANGLING = "link_dangling"
    """A link to a blob without its row."""
    FOREIGN_FILE = "foreign_file"
    UPLOAD_ORPHAN = "upload_orphan"
    UPLOAD_DAMAGED = "upload_damaged"
    IMPORT_LEFT = "import_left"
    MANIFEST_MISSING = "manifest_missing"
    """A manifest's row without its bytes."""
    MANIFEST_BYTES = "manifest_bytes"
    MANIFEST_UNREADABLE = "manifest_unreadable"
    MANIFEST_FIELDS = "manifest_fields"
    """What is recorded of a manifest is not what its bytes say."""
    MANIFEST_EDGES = "manifest_edges"
    MANIFEST_INCOMPLETE = "manifest_incomplete"
    """Something it requires is not in its repository."""
    INDEX_INCOMPLETE = "index_incomplete"
    """A manifest that an index lists was deleted, as it may be."""
    EDGE_DANGLING = "edge_dangling"
    TAG_DANGLING = "tag_dangling"
    COUNTERS = "counters"
    """What overviews add up of a day is not what its events are."""
    DATABASE = "database"
    TRAIL = "trail"


#: Left so by what may happen: told, but nothing is wrong.
REMARKS = frozenset({FlawKind.INDEX_INCOMPLETE, FlawKind.BLOB_LEFT, FlawKind.BLOB_STRAY})
#: Bytes that were acknowledged are lost or damaged.
DAMAGE = frozenset(
    {
        FlawKind.BLOB_MISSING,
        FlawKind.BLOB_SIZE,
        FlawKind.BLOB_BYTES,
        FlawKind.BLOB_UNREADABLE,
        FlawKind.MANIFEST_BYTES,
    }
)


@dataclass(frozen=True, slots=True)
class Mend:
    """
    How a flaw is mended: *change* is committed with an event whose detail is *detail*, then *after* is called.

    *text* says what was done. *whole* is False when the damage is out of the way and the bytes are still missing.
    """

    text: str
    change: Change = field(default_factory=lambda: Change(lambda _: Notes()))
    after: Callable[[], object] = lambda: None
    whole: bool = True
    detail: Mapping[str, object] = field(default_factory=dict)


def nothing_to_mend() -> Mend | None:
    return None


@dataclass(frozen=True, slots=True)
class Flaw:
    """
    One thing that is wrong: *what* is a digest, a tag or a path below the data directory; *text* a sentence.

    *mend* blocks; it looks again and answers None if it can do nothing, or nothing is to be done any more.
    """

    kind: FlawKind
    what: str
    text: str
    repository: str = ""
    mend: Callable[[], Mend | None] = field(default=nothing_to_mend, repr=False, compare=False)


class Stopped(Exception):
    """Raised out of a reading that nobody waits for any more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far a check is: *part* names what *done* and *total* count.

    That is `blobs`, `bytes` of blobs, `manifests`, `days` of counters, `events`.
    """

    part: str
    done: int
    total: int
