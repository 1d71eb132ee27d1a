"""The content port: blobs, uploads, manifests, listings; what every engine can do, in the specification's nouns.

Reading verbs answer or refuse. Mutating verbs prepare — the slow, invisible part — and return a `Change` that the gate
commits together with its event. Engines raise content refusals and know no status, no caller's rights and no HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from gateway.change import Change
from gateway.oci.digest import Digest
from gateway.oci.manifest import Descriptor, Manifest
from gateway.oci.names import ProjectName, Reference, Repository, Tag

T = TypeVar("T")

#: The most that a piece of a blob has.
PIECE_BYTES: Final = 256 * 1024
#: How many bytes the next piece should have at most: told before each, by whoever passes it on, once it is wanted.
Appetite: TypeAlias = Callable[[], Awaitable[int]]


async def greedy() -> int:
    """The appetite of those who take whatever comes, at once."""
    return PIECE_BYTES


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob; *repository* is where it was found, for an engine that has to know where to read it from."""

    digest: Digest
    size_bytes: int
    repository: Repository | None = None


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed, byte for byte; *digest* is the one it was asked for by, sha256 by tag."""

    digest: Digest
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """
    An upload where it durably stands. *owner* is `kind:id` of the principal that began it.

    *begun* and *expires* are UNIX seconds. *state* is the engine's own.
    """

    id: str
    repository: Repository
    owner: str
    offset: int
    begun: int
    expires: int
    state: str = ""


@dataclass(frozen=True, slots=True)
class Appended:
    """Bytes that an upload has taken, not yet acknowledged: *change* makes *offset* the upload's own.

    *interrupted* says that the body stopped before its end: what came is kept, so that the client can resume.
    """

    change: Change
    offset: int
    interrupted: bool = False


class Interrupted(EOFError):
    """Raised by a body's iterator when the client stops before the end of its body."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some entries of a listing in bytewise order; *more* says that others follow."""

    entries: Sequence[T]
    more: bool = False


class Blobs(Protocol):
    async def find(self, repository: Repository, digest: Digest, *, spares_push: bool = False) -> Blob:
        """
        The blob, if it is linked in *repository*; raises `BlobUnknown`, and `ContentDamaged` if that is known.

        *spares_push*: whoever is told that it is here will not send it. What is only suspected is damaged to him.
        """
        ...

    def read(self, blob: Blob, first: int, last: int, appetite: Appetite = greedy) -> AsyncIterator[bytes]:
        """
        The bytes from *first* to *last*, inclusive, in pieces of at most 256 KiB; memory stays bounded.

        No piece is longer than *appetite* says, but one that was read ahead. Until it says so none is held.
        """
        ...

    def mount(self, source: Repository, target: Repository, digest: Digest) -> Change:
        """Links *source*'s blob into *target*; on commit raises `BlobUnknown` if it is not linked in *source*."""
        ...

    def delete(self, repository: Repository, digest: Digest) -> Change:
        """
        Unlinks the blob from *repository*.

        On commit raises `BlobUnknown`, or `ContentReferenced` while a manifest of the repository references it.
        """
        ...


class Uploads(Protocol):
    async def begin(self, repository: Repository, owner: str) -> tuple[Upload, Change]:
        """A new, empty upload; its project comes into being with it if missing.

        Raises `TooManyRequests`, here or on commit, when *owner* has too many open.
        """
        ...

    async def find(self, repository: Repository, owner: str, upload_id: str) -> Upload:
        """The upload, if *owner* began it in *repository*; raises `BlobUploadUnknown` for anybody else."""
        ...

    async def append(self, upload: Upload, body: AsyncIterator[bytes], first: int | None) -> Appended:
        """
        Writes *body* at the upload's end, kept before it returns; *first* is the offset the client claims to be at.

        What was taken and never committed may count or not: `find` says where the upload stands.

        Raises `RangeInvalid` if that is not where the upload stands, `UploadBusy` while another request writes.
        """
        ...

    async def finish(
        self, upload: Upload, body: AsyncIterator[bytes], first: int | None, digest: Digest
    ) -> tuple[Blob, Change]:
        """
        Appends *body*, compares the digest of the whole and puts the blob in its place; *change* links it.

        Raises `DigestInvalid` on a mismatch, and the upload is gone then; `RangeInvalid`, `UploadBusy` as `append`;
        `Interrupted` if the body stopped: the upload stands where `find` says. `Unavailable` when the storage is full.
        """
        ...

    async def cancel(self, upload: Upload) -> Change:
        """Forgets the upload and its bytes."""
        ...


class Manifests(Protocol):
    async def find(self, repository: Repository, reference: Reference) -> StoredManifest:
        """The manifest; raises `ManifestUnknown`, or `NameUnknown` if the repository does not exist."""
        ...

    def put(self, repository: Repository, manifest: Manifest, tags: Sequence[Tag], owner: str = "") -> Change:
        """
        Keeps the manifest by its digest and moves *tags* to it, in the name of *owner* (`kind:id`); its subject is
        indexed.

        On commit raises `ManifestBlobUnknown` unless everything it requires is linked in *repository*. The notes say
        `before` and `after` of each tag.
        """
        ...

    def delete(self, repository: Repository, digest: Digest, owner: str = "") -> Change:
        """
        Removes the manifest with its tags, as *owner* (`kind:id`); on commit raises `ManifestUnknown`.

        Raises `ContentReferenced` where a blob of the same bytes would go along, and something in the repository needs
        it.
        """
        ...

    def untag(self, repository: Repository, tag: Tag, owner: str = "") -> Change:
        """Removes the tag alone, in the name of *owner*; on commit raises `ManifestUnknown`."""
        ...


class Listings(Protocol):
    async def tags(self, repository: Repository, *, after: str, limit: int) -> Page[str]:
        """Tags after *after*, bytewise; raises `NameUnknown`."""
        ...

    async def repositories(
        self,
        *,
        after: str,
        limit: int,
        projects: Sequence[ProjectName] | None,
        admits: Callable[[Repository], bool],
    ) -> Page[str]:
        """Repositories after *after* that *admits* lets pass, of *projects* (None: of all)."""
        ...

    async def referrers(
        self, repository: Repository, subject: Digest, *, after: str, limit: int, types: Collection[str] = ()
    ) -> Page[Descriptor]:
        """
        Manifests whose subject is *subject*, by digest after *after*; empty if there is none, or no repository.

        With *types* only those of one of these artifact types.
        """
        ...


class Feature(StrEnum):
    """What an engine may have to stand in for, because what keeps the content cannot do it."""

    UNTAG = "untag"
    REFERRERS = "referrers"
    REMOVAL = "removal"
    """Of a repository with all it holds."""
    TRASH = "trash"
    """Of what is deleted, for a while."""


async def _nothing() -> None:
    return None


class Admission(Protocol):
    async def __call__(
        self, repository: Repository, *, held_bytes: int = 0, coming_bytes: int = 0, digest: Digest | None = None
    ) -> None:
        """
        Returns if bytes may come for a blob of *repository*, as far as can be said before they do.

        *held_bytes* have come already, *coming_bytes* are promised (0: who knows); *digest* is the blob's if that is
        known. Raises `ReadOnly`, `QuotaExceeded`, `InsufficientStorage`; rules are asked again when the change that
        links the blob is committed.
        """
        ...


async def _anything(
    repository: Repository, *, held_bytes: int = 0, coming_bytes: int = 0, digest: Digest | None = None
) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Engine:
    """
    The four parts of what keeps content.

    *emulated* says, in a sentence each, how a feature that is stood in for differs from the real one: clients are
    warned. *version* is a number that moves when anything in a repository does, odd while it moves: what was read at
    one stays true as long as it stands, apart from tags when *tags_move_unseen*; None when only asking again tells.
    *trouble* tells what keeps the engine from working now, "" for nothing, as far as was noticed; *look* notices it,
    within some two seconds, if nothing else has lately. *close* lets go of connections.
    *admit* is asked before bytes are taken, and now and then while they come.
    """

    blobs: Blobs
    uploads: Uploads
    manifests: Manifests
    listings: Listings
    emulated: Mapping[Feature, str] = field(default_factory=dict)
    version: Callable[[Repository], int] | None = None
    tags_move_unseen: bool = False
    trouble: Callable[[], str] = str
    look: Callable[[], Awaitable[None]] = _nothing
    admit: Admission = _anything
    close: Callable[[], Awaitable[None]] = _nothing
