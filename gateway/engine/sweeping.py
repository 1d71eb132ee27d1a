"""What a sweep counts: what would go or went, what stays, and how the records and the disk agree afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Amount:
    """How many, and how many bytes they have."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(self.count + other.count, self.bytes + other.bytes)

    def __bool__(self) -> bool:
        return bool(self.count)


@dataclass(frozen=True, slots=True)
class Swept:
    """
    What goes. Bytes of *links* and *blobs* are those recorded, of all others those of the files.

    *links* lead from a repository to a blob that no manifest of it names, each counted for itself. *blobs* are records
    of blobs that no repository links, *files* their files. *strays* are files of blobs that no record knows. *uploads*
    have expired; *spools* hold bytes of an upload that is gone. *leftovers* are of imports and sweeps that were
    stopped. *shared_bytes* are those of files that have another name elsewhere: removing this one frees nothing.
    """

    links: Amount = field(default_factory=Amount)
    blobs: Amount = field(default_factory=Amount)
    files: Amount = field(default_factory=Amount)
    strays: Amount = field(default_factory=Amount)
    uploads: Amount = field(default_factory=Amount)
    spools: Amount = field(default_factory=Amount)
    leftovers: Amount = field(default_factory=Amount)
    shared_bytes: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def freed_bytes(self) -> int:
        """What the disk gets back."""
        gone = self.files + self.strays + self.spools + self.leftovers
        return gone.bytes - self.shared_bytes


@dataclass(frozen=True, slots=True)
class Stock:
    """
    The blobs as the records and the disk know them at one time.

    *missing* are recorded and have no file, *misfits* have a file of another size; *strays* are files without a record.
    *foreign* counts files that are no blob at all: nothing touches them.
    """

    recorded: Amount = field(default_factory=Amount)
    stored: Amount = field(default_factory=Amount)
    missing: Amount = field(default_factory=Amount)
    misfits: Amount = field(default_factory=Amount)
    strays: Amount = field(default_factory=Amount)
    foreign: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def balanced(self) -> bool:
        """Whether every recorded byte is on the disk, and every byte there is recorded or a stray's."""
        return self.recorded.bytes + self.strays.bytes == self.stored.bytes and not self.missing and not self.misfits


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep would do: *going*, and *waiting*, the links that no manifest names but are too young to go."""

    going: Swept
    waiting: Amount
    stock: Stock

    @property
    def empty(self) -> bool:
        return self.going == Swept()


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What a sweep did. *busy* could not be removed because somebody was bringing it back; *waiting* is as in the plan.

    Unless somebody pushed meanwhile, what was stored before less the files and strays that went is stored after.
    """

    gone: Swept
    waiting: Amount
    busy: int
    before: Stock
    after: Stock
    seconds: float
