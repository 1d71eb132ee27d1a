"""What is answered of things that projects keep or drop: trash, retention; and of evidence that leaves the host."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from gateway import administration as acts
from gateway.access.retention import Decision
from gateway.access.retention import Retention as Kept
from gateway.administration.evidence import Lag, Stored
from gateway.administration.retention import Applied


class Trashed(Struct, frozen=True):
    """Something deleted that can be had back *until* then: a tag, or a manifest (*tag* is empty)."""

    repository: str
    tag: str
    digest: str
    size_bytes: int
    deleted: datetime
    deleted_by: str
    until: datetime

    @classmethod
    def of(cls, row: acts.TrashRow) -> Trashed:
        which = (row.repository, row.tag, row.digest, row.size_bytes)
        return cls(*which, row.deleted_at, row.deleted_by, row.until)


class Dropped(Struct, frozen=True):
    """How many tags and manifests left the trash for good."""

    count: int


class Restored(Struct, frozen=True):
    """What is there again: the manifest, and the tags that name it again."""

    repository: str
    digest: str
    tags: list[str]


class Retention(Struct, frozen=True):
    """
    What keeps a tag of the project: being one of the *last*, *matching* a pattern, a pull or push *within_days*.

    Any one does; without any of them everything is kept.
    """

    last: int | None
    matching: list[str]
    within_days: int | None

    @classmethod
    def of(cls, kept: Kept) -> Retention:
        return cls(kept.last, list(kept.matching), kept.pulled_days)


class Decided(Struct, frozen=True):
    """Whether a tag would stay, and every reason for it."""

    repository: str
    tag: str
    digest: str
    stays: bool
    reasons: list[str]

    @classmethod
    def of(cls, repository: str, found: Decision) -> Decided:
        return cls(repository, found.tag.name, found.tag.digest, found.stays, list(found.reasons))


class Gone(Struct, frozen=True):
    """What went from a repository: tags, and the manifests that nothing named any more."""

    repository: str
    tags: list[str]
    manifests: list[str]

    @classmethod
    def of(cls, done: Applied) -> Gone:
        return cls(done.repository, list(done.tags), list(done.manifests))


class PublicKey(Struct, frozen=True):
    """The public half of the key that signs checkpoints, in PEM."""

    kid: str
    pem: str


class Checkpoint(Struct, frozen=True):
    """
    A signed statement of where the chain stood at event *seq*.

    *statement* is what `verify-against` takes, and *line* the same in the very text that a file of checkpoints holds.
    A row that somebody edited, so that it is none, has an empty *statement*: verifying the trail tells of it.
    """

    number: int
    seq: int
    made: datetime
    line: str
    statement: dict[str, Any]

    @classmethod
    def of(cls, row: Stored) -> Checkpoint:
        return cls(row.number, row.seq, row.made, row.line, row.statement if row.is_statement else {})


class Sink(Struct, frozen=True):
    """
    How far a sink has got: *lag_events* it has not taken, the oldest of them *lag_seconds* old.

    *trouble* is what keeps it; *wanted* whether the settings of the gateway name it.
    """

    name: str
    kind: str
    place: str
    delivered_to: int
    lag_events: int
    lag_seconds: int
    delivered: datetime | None
    failing_since: datetime | None
    trouble: str
    wanted: bool

    @classmethod
    def of(cls, row: Lag) -> Sink:
        lag = (row.name, row.kind, row.place, row.seq, row.events, row.seconds)
        return cls(*lag, _moment(row.delivered_at), _moment(row.failing_since), row.trouble, row.wanted)


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
