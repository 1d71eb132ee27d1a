"""What people see of content: repositories, tags, a manifest with all that is in it, and what a removal would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

from gateway.oci.config import Config
from gateway.oci.purpose import Purpose
from gateway.records.pulls import LastPull

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shelf(Generic[T]):
    """
    A page of what there is, by name; *next* is what the following page begins after, "" when this is the last.

    A page may hold fewer entries than were asked for, even none, and still have a next one: what is looked through
    for it is bounded. *may_delete* says, of a repository's tags, that the caller has the right to remove there.
    """

    entries: tuple[T, ...]
    next: str = ""
    may_delete: bool = False


@dataclass(frozen=True, slots=True)
class Pulled:
    """
    The last pull on record: when (UTC), and by whom, told to who may review the project, "" to others.

    Without one, *at* is None; *all_seen* says whether there is none at all, or none among the newest events.
    """

    at: datetime | None = None
    by: str = ""
    all_seen: bool = True


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """A repository in a list; *size_bytes* counts each digest once; times are UTC."""

    name: str
    tags: int
    manifests: int
    blobs: int
    size_bytes: int
    created_at: datetime
    pushed_at: datetime | None
    pulled: Pulled


@dataclass(frozen=True, slots=True)
class TagEntry:
    """
    A tag in a list. *size_bytes* is that of the manifest and all it names (*least*: and more); times are UTC.

    *platforms* is None where they could not be read in time. A tag that is *known* by name alone, because it never
    passed the gateway, says nothing else. *kept_by* is the pattern that keeps it from being moved, "" if none does.
    """

    name: str
    known: bool = True
    digest: str = ""
    media_type: str = ""
    purpose: Purpose = Purpose.ARTIFACT
    size_bytes: int = 0
    least: bool = False
    platforms: tuple[str, ...] | None = None
    pushed_at: datetime | None = None
    pushed_by: str = ""
    pulled: Pulled = field(default_factory=Pulled)
    kept_by: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A layer or the config of an image; *created_by* is the step of its history that made it, as far as it tells."""

    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str]
    urls: tuple[str, ...] = ()
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class Child:
    """A manifest that an index lists. *about* is the digest an attestation of its is for; *known* if it is here."""

    media_type: str
    digest: str
    size_bytes: int
    platform: str
    purpose: Purpose
    about: str
    known: bool
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Referrer:
    """Something about the manifest; *tag* is set for what cosign keeps under a tag instead of a subject."""

    purpose: Purpose
    artifact_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str]
    tag: str = ""


@dataclass(frozen=True, slots=True)
class ManifestView:
    """
    A manifest with what is in it and around it.

    Of each list there are at most so many as `contents` says, and *more* counts, by the list's name, what is left out.
    *config_trouble* says why the config could not be read. *total_bytes* counts each digest once. *pushed_at* is None
    for what never passed the gateway. *may_delete* says that the caller may, by rights; rules may be against it.
    """

    repository: str
    reference: str
    digest: str
    media_type: str
    artifact_type: str
    purpose: Purpose
    size_bytes: int
    total_bytes: int
    subject: str
    annotations: Mapping[str, str]
    config: Part | None
    image: Config | None
    config_trouble: str
    layers: tuple[Part, ...]
    children: tuple[Child, ...]
    referrers: tuple[Referrer, ...]
    listed_in: tuple[str, ...]
    tags: tuple[str, ...]
    pushed_at: datetime | None
    pushed_by: str
    pulled: Pulled
    may_delete: bool
    more: Mapping[str, int]

    def pull_command(self, host: str) -> str:
        """The command that pulls exactly these bytes from the gateway at *host* (`registry.example.com:8443`)."""
        return f"docker pull {host}/{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Consequences:
    """
    What a removal would do besides.

    *tags* go too; *indexes* stay, listing what is gone; *referrers* stay, about what is gone. *loose_bytes* are bytes
    that nothing else in the repository needs, *freed_bytes* those of them that a sweep frees, because no other
    repository holds them either. The counts are of all, the lists hold the first hundred. *hindrance* is the rule that
    forbids it now, "" if none does. *differs* says how the engine's removal differs from a real one, "" if it does not.
    What goes can be had back until *until*, in UTC; None: not at all.
    """

    repository: str
    digest: str = ""
    tag: str = ""
    tags: tuple[str, ...] = ()
    tag_count: int = 0
    manifest_count: int = 0
    indexes: tuple[str, ...] = ()
    index_count: int = 0
    referrers: tuple[Referrer, ...] = ()
    referrer_count: int = 0
    loose_bytes: int = 0
    freed_bytes: int | None = None
    left_untagged: bool = False
    pulled: Pulled = field(default_factory=Pulled)
    hindrance: str = ""
    differs: str = ""
    until: datetime | None = None


def told(pull: LastPull, *, named: bool) -> Pulled:
    """The last pull, with who it was only if that may be told."""
    return Pulled(pull.at, pull.by if named else "", pull.all_seen)


def moment(seconds: int) -> datetime:
    """A moment of the records, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
