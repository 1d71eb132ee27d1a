"""The source of an import: content that is kept elsewhere, and how it can be read there.

Two can be read: the file system volume of a registry (`engine.embedded.volume`) and any registry through its API
(`engine.upstream.source`). What one says is believed only when bytes have the digest they were asked for by.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from gateway.change import Change
from gateway.engine.port import StoredManifest
from gateway.errors import ManifestInvalid, Refusal
from gateway.oci.digest import Digest
from gateway.oci.document import strict_json
from gateway.oci.manifest import LIMIT_BYTES
from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from gateway.oci.names import Repository


@dataclass(frozen=True, slots=True)
class Found:
    """A blob of a source; *file* is where its bytes lie on this host, None if they have to be asked for."""

    size_bytes: int
    file: Path | None = None


class Source(Protocol):
    """
    What an import reads. Nothing here changes the source.

    A `Refusal` about one thing says why that thing cannot be had; `UpstreamUnavailable` itself, and only it among
    its kind, that nothing can be had for now. Messages may go to the operator's terminal.
    """

    async def repositories(self) -> Sequence[str]:
        """The names of the repositories as they are spelled there, sorted; raises what makes reading impossible."""
        ...

    async def tags(self, repository: Repository) -> Mapping[str, Digest | Refusal]:
        """Each tag as it is spelled there, with the manifest it names, or why that cannot be told."""
        ...

    async def manifests(self, repository: Repository) -> Sequence[Digest]:
        """The manifests it can list beside the tagged ones; none if it has no such list."""
        ...

    async def referrers(self, repository: Repository, subject: Digest) -> Sequence[Digest]:
        """The manifests about *subject* that it can list in no other way."""
        ...

    async def manifest(self, repository: Repository, digest: Digest) -> StoredManifest:
        """The bytes kept under *digest*, not compared with it; raises a `Refusal` that says what is wrong."""
        ...

    async def find(self, repository: Repository, digest: Digest) -> Found:
        """The blob, if *repository* holds it; raises a `Refusal` that says what is wrong."""
        ...

    def read(self, repository: Repository, digest: Digest) -> AsyncIterator[bytes]:
        """The bytes of a blob that has no *file*."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Tally:
    """
    What an import did, counted. *…_there* were here already and were not read again.

    *blobs* are those whose bytes came now, *linked* how many of them by a hard link, *bytes* all that came, manifests
    included. *tags_kept* were pushed here since and are left alone. *broken* is what could not be had.
    """

    manifests: int = 0
    manifests_there: int = 0
    tags: int = 0
    tags_there: int = 0
    tags_kept: int = 0
    blobs: int = 0
    blobs_there: int = 0
    linked: int = 0
    bytes: int = 0
    broken: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Left:
    """What stays behind: *what* is a tag or digest of *repository*, "" for all of it, and *reason* is a sentence."""

    repository: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """
    Some content of one repository: its bytes are in place, and *change* makes it visible.

    *tally* counts it beforehand, and *broken* was found on the way. The notes of the change hold the `Outcome` as
    their result; *last* ends a repository, and *done* of its *total* manifests have been looked at.
    """

    change: Change
    tally: Tally
    broken: tuple[Left, ...]
    done: int
    total: int
    last: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a part came to when it was committed; *kept* names the tags that were left alone."""

    tally: Tally
    kept: tuple[str, ...] = ()


def media_type_of(content: bytes) -> str:
    """
    The media type of a manifest: the one it names, else what its fields show it to be.

    Raises `ManifestInvalid` for schema 1, and for what is no manifest.
    """
    if not content:
        raise ManifestInvalid("the manifest's bytes are empty")
    try:
        fields = strict_json(content, limit_bytes=LIMIT_BYTES)
    except ValueError as fault:
        raise ManifestInvalid(f"the manifest cannot be read: {fault}") from fault
    if not isinstance(fields, dict):
        raise ManifestInvalid("the manifest is no JSON object")
    if fields.get("schemaVersion") == 1:
        raise ManifestInvalid("a manifest of schema 1 is not kept; push the image again with a client of today")
    named = fields.get("mediaType")
    if isinstance(named, str) and named:
        return named
    return OCI_INDEX if "manifests" in fields else OCI_MANIFEST
