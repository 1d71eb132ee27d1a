"""Shelves: the blobs whose digests begin alike, in the records and in their folder, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.engine.embedded.layout import BLOBS, shelf_key
from gateway.engine.stores.clearing import Clearing, Lying
from gateway.engine.sweeping import Amount, Stock, Swept
from gateway.errors import DigestInvalid
from gateway.oci.digest import Algorithm, Digest
from gateway.records import sweeping

_SHELVES: Final = 256


@dataclass(frozen=True, slots=True)
class Shelf:
    """
    One folder of blobs. *recorded* tells by digest the size, and whether the record stays; *files* are those of blobs.

    The records were read first: a file that came with its record in between counts as a stray, and is young.
    """

    algorithm: Algorithm
    digits: str
    recorded: Mapping[str, tuple[int, bool]]
    files: Mapping[str, Lying]
    foreign: int

    @property
    def folder(self) -> str:
        return shelf_key(self.algorithm, self.digits)

    def loose(self) -> list[str]:
        """The records that do not stay."""
        return sorted(digest for digest, (_, stays) in self.recorded.items() if not stays)

    def strays(self, cutoff: float) -> list[str]:
        """The files without a record that nobody has touched since *cutoff*."""
        return sorted(
            digest for digest, lying in self.files.items() if digest not in self.recorded and lying.changed <= cutoff
        )

    def going(self, cutoff: float) -> Swept:
        """What would go of it."""
        loose = self.loose()
        files = [self.files[digest] for digest in loose if digest in self.files]
        strays = [self.files[digest] for digest in self.strays(cutoff)]
        return Swept(
            blobs=Amount(len(loose), sum(self.recorded[digest][0] for digest in loose)),
            files=amount_of(files),
            strays=amount_of(strays),
            shared_bytes=shared_bytes(files) + shared_bytes(strays),
        )

    def stock(self) -> Stock:
        """What there is of it."""
        sizes = {digest: size for digest, (size, _) in self.recorded.items()}
        missing = [size for digest, size in sizes.items() if digest not in self.files]
        misfits = [
            lying for digest, lying in self.files.items() if sizes.get(digest, lying.size_bytes) != lying.size_bytes
        ]
        return Stock(
            recorded=Amount(len(sizes), sum(sizes.values())),
            stored=amount_of(self.files.values()),
            missing=Amount(len(missing), sum(missing)),
            misfits=amount_of(misfits),
            strays=amount_of(lying for digest, lying in self.files.items() if digest not in sizes),
            foreign=self.foreign,
        )


def places(connection: Any, clearing: Clearing) -> list[tuple[Algorithm, str]]:
    """Every shelf that a blob can lie on, of the algorithms that any blob here has."""
    stored = clearing.folders(BLOBS)
    used = [each for each in Algorithm if each.value in stored or sweeping.has_any(connection, f"{each.value}:")]
    return [(algorithm, f"{number:02x}") for algorithm in used for number in range(_SHELVES)]


def read(connection: Any, clearing: Clearing, algorithm: Algorithm, digits: str, cutoff: int | None = None) -> Shelf:
    """The shelf as it is now; a record stays as `sweeping.shelf` says. Blocks."""
    prefix = f"{algorithm.value}:{digits}"
    recorded = sweeping.shelf(connection, prefix, cutoff)
    lying = clearing.files(shelf_key(algorithm, digits))
    before = f"{algorithm.value}:"
    files = {
        digest: file
        for name, file in lying.items()
        if (digest := before + name) in recorded or _belongs(algorithm, digits, name)
    }
    return Shelf(algorithm, digits, recorded, files, len(lying) - len(files))


def amount_of(files: Iterable[Lying]) -> Amount:
    """How many *files*, and their bytes."""
    sizes = [lying.size_bytes for lying in files]
    return Amount(len(sizes), sum(sizes))


def shared_bytes(files: Iterable[Lying]) -> int:
    """Of the bytes, those that another name keeps on the disk."""
    return sum(lying.size_bytes for lying in files if lying.names > 1)


def _belongs(algorithm: Algorithm, digits: str, name: str) -> bool:
    try:
        return Digest.parse(f"{algorithm.value}:{name}").hex.startswith(digits)
    except DigestInvalid:
        return False
