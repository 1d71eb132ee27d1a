"""Pulls and pushes: one large blob, several at once, many small ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import clients
from tests.benchmarks.clients import Asking
from tests.benchmarks.content import image_manifest, make_file
from tests.benchmarks.figures import Book, Case, Sample
from tests.benchmarks.pusher import small_blobs
from tests.benchmarks.sizes import MIB, Sizes
from tests.benchmarks.stand import PROJECT, Stand, Target
from tests.services.images import OCI_MANIFEST

REPOSITORY = f"{PROJECT}/image"
TAG = "v1"


@dataclass(slots=True)
class Field:
    """The targets, running side by side, each with the same content: what the cases of this and other files race on."""

    sizes: Sizes
    scratch: Path
    registries: list[Target] = field(default_factory=list)
    ceiling: Target | None = None
    big: str = ""
    pulled: str = ""
    small: list[str] = field(default_factory=list)

    @classmethod
    def entered(cls, stand: Stand, sizes: Sizes, closing: ExitStack) -> Field:
        """Starts the gateway, with each number of workers in turn, Distribution and nginx."""
        files = stand.directory / "files"
        files.mkdir()
        enter = closing.enter_context
        registries: list[Target] = [enter(stand.gateway(workers)) for workers in sizes.workers]
        registries.append(enter(stand.distribution()))
        return cls(sizes, stand.directory, registries, enter(stand.nginx(files)))

    @property
    def files(self) -> Path:
        return self.scratch / "files"

    @property
    def everyone(self) -> list[Target]:
        return [*self.registries, *([self.ceiling] if self.ceiling else [])]

    def fill_image(self) -> None:
        """The small blobs, and an image of the first eight of them under TAG."""
        if self.small:
            return
        count, size = self.sizes.small_blobs, self.sizes.small_bytes
        for number in range(2):
            for blob, digest in small_blobs(f"content/{number}", count // 2, size):
                (self.files / digest.partition(":")[2]).write_bytes(blob)
                self.small.append(digest)
        manifest = image_manifest([(digest, size) for digest in self.small[:8]], (self.small[0], size))
        for target in self.registries:
            authorization = target.authorization(REPOSITORY)
            if clients.small_pushes(target, REPOSITORY, count, size, authorization, "content").errors:
                raise RuntimeError(f"{target.name} did not take the small blobs")
            clients.put_manifest(target, REPOSITORY, TAG, manifest, OCI_MANIFEST, authorization)

    def fill_large(self) -> None:
        """The blob that one client pulls, and the one that several do."""
        self.big, big = make_file(self.files, self.sizes.big_bytes)
        self.pulled, pulled = make_file(self.files, self.sizes.pull_bytes)
        for target in self.registries:
            for digest, file in ((self.big, big), (self.pulled, pulled)):
                clients.put(target, REPOSITORY, digest, file, target.authorization(REPOSITORY))


def measure_pulls(field: Field, book: Book) -> None:
    field.fill_large()
    field.fill_image()
    sizes = field.sizes

    def streams(digest: str, count: int, size: int) -> None:
        def measure(target: Target, _: int) -> Sample:
            authorization = target.authorization(REPOSITORY)
            return clients.pull(target, target.path(REPOSITORY, digest), count, authorization)

        name = f"pull {size // MIB} MiB" if count == 1 else f"pull {count} × {size // MIB} MiB"
        book.alternate(Case(name, "pull", "GB/s", bytes=size * count), field.everyone, sizes.rounds, measure)

    streams(field.big, 1, sizes.big_bytes)
    streams(field.pulled, sizes.clients, sizes.pull_bytes)

    def many(target: Target, _: int) -> Sample:
        paths = [target.path(REPOSITORY, digest) for digest in field.small]
        random.Random(1).shuffle(paths)
        asking = Asking(paths, target.authorization(REPOSITORY))
        return clients.requests(target, asking, 16, sizes.request_seconds, field.scratch)

    name = f"pull {sizes.small_blobs} blobs of {sizes.small_bytes // 1024} KiB, 16 connections"
    book.alternate(Case(name, "pull", "blobs/s"), field.everyone, sizes.rounds, many)

    def nodes(target: Target, _: int) -> Sample:
        paths = [target.path(REPOSITORY, digest) for digest in field.small]
        random.Random(1).shuffle(paths)
        tokens = "\n".join(target.authorization(REPOSITORY) for _ in range(_NODES))
        return clients.requests(target, Asking(paths, tokens), 16, sizes.request_seconds, field.scratch)

    name = f"pull {sizes.small_blobs} blobs of {sizes.small_bytes // 1024} KiB, 16 connections, {_NODES} tokens"
    book.alternate(Case(name, "pull", "blobs/s", note=_NODES_NOTE), field.registries, sizes.rounds, nodes)


def measure_pushes(field: Field, book: Book) -> None:
    sizes = field.sizes

    def streams(count: int, size: int) -> None:
        made: list[dict[str, Path]] = []

        def measure(target: Target, number: int) -> Sample:
            if len(made) == number:
                made.append(dict(make_file(field.files, size) for _ in range(count)))
                for old in made[:-1]:
                    _remove(list(old.values()))
            return clients.push(target, REPOSITORY, made[number], target.authorization(REPOSITORY))

        name = f"push {size // MIB} MiB" if count == 1 else f"push {count} × {size // MIB} MiB"
        case = Case(name, "push", "GB/s", bytes=size * count, note=DURABILITY)
        book.alternate(case, field.registries, sizes.heavy_rounds, measure)
        _remove([file for each in made for file in each.values()])

    streams(1, sizes.big_bytes)
    streams(sizes.clients, sizes.push_bytes)

    def many(target: Target, number: int) -> Sample:
        authorization = target.authorization(REPOSITORY)
        return clients.small_pushes(
            target, REPOSITORY, sizes.small_blobs, sizes.small_bytes, authorization, f"push/{number}"
        )

    name = f"push {sizes.small_blobs} blobs of {sizes.small_bytes // 1024} KiB, 16 connections"
    book.alternate(Case(name, "push", "blobs/s", note=DURABILITY), field.registries, sizes.rounds, many)


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


#: Shares no divisor with the number of blobs.
_NODES = 19
_NODES_NOTE = (
    "The gateway remembers replies to the same token: with 19 of them, as the nodes of a cluster have, none is "
    "asked for twice while it is remembered."
)
DURABILITY = (
    "The gateway answers when bytes, directory, link and audit event are synced. "
    "Distribution 2.8 syncs the file's bytes, neither their new name nor the directory."
)
