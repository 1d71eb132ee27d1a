"""A registry's file system volume, read as it lies; the registry that wrote it may be running or gone.

    docker/registry/v2/
    ├─ blobs/<algorithm>/<first two hex digits>/<hex digits>/data
    └─ repositories/<name>/
       ├─ _layers/<algorithm>/<hex digits>/link                  this repository holds that blob
       ├─ _manifests/revisions/<algorithm>/<hex digits>/link     … and that manifest
       └─ _manifests/tags/<tag>/current/link                     the manifest that the tag names

A link is a file that holds a digest. Files are opened without following a symbolic link, and only regular ones.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.engine.port import StoredManifest
from gateway.engine.source import Found, media_type_of
from gateway.errors import BlobUnknown, DigestInvalid, Invalid, ManifestInvalid, ManifestUnknown, Refusal
from gateway.oci.digest import Digest
from gateway.oci.manifest import LIMIT_BYTES
from gateway.oci.names import Repository

_BELOW: Final = Path("docker/registry/v2")
_LINK_BYTES: Final = 256
#: Deeper than any name this registry keeps: 200 characters hold a hundred components.
_DEPTH: Final = 128
_EMPTY: Final = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, slots=True)
class Volume:
    """A source; *root* holds `blobs` and `repositories`. Make one with `at`."""

    root: Path

    @classmethod
    def at(cls, folder: Path) -> Volume:
        """The volume in *folder*, which is its root or `docker/registry/v2` in it; raises `Invalid` if it is none."""
        for root in (folder / _BELOW, folder):
            if (root / "repositories").is_dir():
                return cls(root)
        if not folder.is_dir():
            raise Invalid(f"There is no directory {folder}; name a registry's volume, or the URL of a registry.")
        raise Invalid(f"{folder} is no volume of a registry: there is no docker/registry/v2/repositories in it.")

    async def repositories(self) -> Sequence[str]:
        return await asyncio.to_thread(self._repositories)

    async def tags(self, repository: Repository) -> Mapping[str, Digest | Refusal]:
        return await asyncio.to_thread(self._tags, repository)

    async def manifests(self, repository: Repository) -> Sequence[Digest]:
        return await asyncio.to_thread(self._revisions, repository)

    async def referrers(self, repository: Repository, subject: Digest) -> Sequence[Digest]:
        return ()

    async def manifest(self, repository: Repository, digest: Digest) -> StoredManifest:
        return await asyncio.to_thread(self._manifest, repository, digest)

    async def find(self, repository: Repository, digest: Digest) -> Found:
        return await asyncio.to_thread(self._find, repository, digest)

    async def read(self, repository: Repository, digest: Digest) -> AsyncIterator[bytes]:
        raise BlobUnknown("its bytes are a file")
        yield b""

    async def close(self) -> None:
        return None

    # in threads

    def _repositories(self) -> list[str]:
        found: list[str] = []
        waiting: list[tuple[Path, str, int]] = [(self.root / "repositories", "", 0)]
        while waiting:
            folder, name, depth = waiting.pop()
            for entry in _folders(folder):
                if entry == "_manifests":
                    found.append(name)
                elif not entry.startswith("_") and depth < _DEPTH:
                    waiting.append((folder / entry, f"{name}/{entry}" if name else entry, depth + 1))
        return sorted(found)

    def _tags(self, repository: Repository) -> dict[str, Digest | Refusal]:
        folder = self._folder(repository) / "_manifests" / "tags"
        found: dict[str, Digest | Refusal] = {}
        for name in sorted(_folders(folder)):
            try:
                found[name] = _target(folder / name / "current" / "link")
            except FileNotFoundError:
                found[name] = ManifestUnknown("its link is missing")
            except Refusal as refusal:
                found[name] = refusal
        return found

    def _revisions(self, repository: Repository) -> list[Digest]:
        folder = self._folder(repository) / "_manifests" / "revisions"
        found: list[Digest] = []
        for algorithm in sorted(_folders(folder)):
            for entry in sorted(_folders(folder / algorithm)):
                # A deleted manifest leaves its folder behind, without the link.
                if (folder / algorithm / entry / "link").exists():
                    found.append(Digest(f"{algorithm}:{entry}"))
        return [digest for digest in found if _is_digest(digest.text)]

    def _manifest(self, repository: Repository, digest: Digest) -> StoredManifest:
        place = self._folder(repository) / "_manifests" / "revisions" / digest.algorithm.value / digest.hex / "link"
        try:
            target = _target(place)
        except FileNotFoundError:
            raise ManifestUnknown("the manifest was deleted, or its link is missing") from None
        if target != digest:
            raise ManifestInvalid("the manifest's link names another digest")
        try:
            content = _content(self._blob(digest), LIMIT_BYTES)
        except FileNotFoundError:
            raise ManifestUnknown("the manifest's bytes are missing") from None
        return StoredManifest(digest, media_type_of(content), content)

    def _find(self, repository: Repository, digest: Digest) -> Found:
        place = self._folder(repository) / "_layers" / digest.algorithm.value / digest.hex / "link"
        try:
            target = _target(place)
        except FileNotFoundError:
            raise BlobUnknown("the repository does not hold it") from None
        # Under another algorithm the link leads to the one algorithm that the registry keeps bytes by.
        if target != digest and target.algorithm is digest.algorithm:
            raise BlobUnknown("its link names another digest")
        file = self._blob(target)
        try:
            status = os.stat(file, follow_symlinks=False)
        except FileNotFoundError:
            raise BlobUnknown("its bytes are missing") from None
        except OSError as error:
            raise BlobUnknown(f"its bytes cannot be read: {_why(error)}") from error
        if not stat.S_ISREG(status.st_mode):
            raise BlobUnknown("its bytes are no regular file")
        if not status.st_size and target.text != _EMPTY:
            raise BlobUnknown("its bytes are an empty file")
        return Found(status.st_size, file)

    def _folder(self, repository: Repository) -> Path:
        return self.root / "repositories" / repository.name

    def _blob(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.algorithm.value / digest.hex[:2] / digest.hex / "data"


def open_file(path: Path) -> int:
    """A descriptor of the regular file at *path*; raises `OSError`, also for anything that is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(0, "it is no regular file")


def _target(link: Path) -> Digest:
    """The digest in a link; raises `FileNotFoundError` if there is none, `ManifestInvalid` if it holds nothing good."""
    content = _content(link, _LINK_BYTES)
    if not content:
        raise ManifestInvalid("its link is an empty file")
    try:
        return Digest.parse(content.decode("ascii", "replace").strip())
    except DigestInvalid:
        raise ManifestInvalid("its link holds no digest") from None


def _content(path: Path, limit_bytes: int) -> bytes:
    try:
        descriptor = open_file(path)
        try:
            content = b""
            while len(content) <= limit_bytes:
                piece = os.read(descriptor, limit_bytes + 1 - len(content))
                if not piece:
                    return content
                content += piece
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ManifestInvalid(f"it cannot be read: {_why(error)}") from error
    raise ManifestInvalid(f"it has more than {limit_bytes} bytes")


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Invalid(f"{folder} cannot be read: {_why(error)}; run as somebody who may read the volume.") from error


def _is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except DigestInvalid:
        return False
    return True


def _why(error: OSError) -> str:
    return (error.strerror or "unknown reason").lower()
