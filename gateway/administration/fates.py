"""What became of each repository when a registry was adopted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.oci.names import Repository
from gateway.records.adoption import Found, Known, Remark

__all__ = ["Adopted", "Fate", "Reading", "Remark"]

#: Remarks kept of one repository; the rest is counted.
_REMARKS: Final = 20


class Fate(StrEnum):
    """What a run did, or would do, with a repository."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    EMPTY = "empty"
    """The registry lists it, and nothing in it."""
    LEFT_OUT = "left out"
    """Its name is none that clients may use here."""
    FAILED = "failed"
    """Not all of it could be read; what was read has entered."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """
    One repository of the registry, and what of it entered the records.

    *new_project* says that its project is made for it. *tags* counts those that were read, *manifests* those that
    entered, *referrers* those of them that are about another, *absent* what manifests name and the registry lacks,
    *by_sha512* those that name something by that, which the registry's next garbage collection takes from them. *left*
    tells what cannot be taken over, the first few of *left_count*. *fault* is why it failed or was left out.
    """

    repository: str
    project: str
    fate: Fate
    new_project: bool = False
    tags: int = 0
    manifests: int = 0
    referrers: int = 0
    tags_added: int = 0
    tags_moved: int = 0
    absent: int = 0
    by_sha512: int = 0
    left: tuple[Remark, ...] = ()
    left_count: int = 0
    fault: str = ""


@dataclass(slots=True)
class Reading:
    """What was read of *repository* so far, beside what was *known* of it."""

    repository: Repository
    known: Known
    tags: int = 0
    manifests: int = 0
    referrers: int = 0
    tags_added: int = 0
    tags_moved: int = 0
    absent: int = 0
    by_sha512: int = 0
    left: list[Remark] = field(default_factory=list)
    left_count: int = 0
    lost: Remark | None = None
    lost_count: int = 0

    @property
    def entered(self) -> bool:
        """Whether any of it is new."""
        return bool(self.manifests or self.tags_added or self.tags_moved)

    @property
    def fault(self) -> str:
        """Why this is not all that the registry may hold; "" if it is."""
        if self.lost is not None:
            more = f" (and {self.lost_count - 1} more)" if self.lost_count > 1 else ""
            return f"{self.lost.reference}: {self.lost.why}{more}"
        if not self.tags and self.known.tags:
            return f"The registry tells of no tags, while {len(self.known.tags)} are on record; nothing was removed."
        return ""

    def add(self, found: Found) -> None:
        """Counts a further part."""
        self.tags += found.read
        self.manifests += len(found.manifests)
        self.referrers += sum(manifest.subject is not None for manifest in found.manifests)
        moved = sum(name in self.known.tags for name in found.tags)
        self.tags_moved += moved
        self.tags_added += len(found.tags) - moved
        self.absent += found.absent
        self.by_sha512 += found.by_sha512
        self.left += found.left[: _REMARKS - len(self.left)]
        self.left_count += len(found.left)
        self.lost = self.lost or next(iter(found.lost), None)
        self.lost_count += len(found.lost)

    def outcome(self, fault: str) -> Adopted:
        """The whole; *fault* is why it is not all."""
        return Adopted(
            self.repository.name,
            self.repository.project.name,
            Fate.FAILED if fault else self._fate(),
            self.entered and not self.known.project,
            self.tags,
            self.manifests,
            self.referrers,
            self.tags_added,
            self.tags_moved,
            self.absent,
            self.by_sha512,
            tuple(self.left),
            self.left_count,
            fault,
        )

    def _fate(self) -> Fate:
        if self.entered:
            return Fate.CHANGED if self.known.manifests else Fate.ADDED
        # What was pushed by its digest alone has no tag, and is on record nevertheless.
        return Fate.UNCHANGED if self.tags or self.known.manifests else Fate.EMPTY
