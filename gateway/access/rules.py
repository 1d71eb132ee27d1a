"""Rules: what may be done to a project's content, whoever asks; decided from values, refused with what to do next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.access.patterns import matches
from gateway.errors import Invalid, QuotaExceeded, ReadOnly, TagImmutable
from gateway.oci.names import ProjectName, Repository

#: How many patterns a project may have, and how long a reason may be.
PATTERNS: Final = 32
REASON_CHARACTERS: Final = 200
#: The largest quota: what either database keeps in a column.
QUOTA_BYTES: Final = 2**62

_PATTERN: Final = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9._*-]{0,127}", re.ASCII)
#: Signatures and attestations belong to a digest and are renewed under one tag; so is the list of what refers to it.
_COMPANION: Final = re.compile(r"sha(?:256|512)-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?", re.ASCII)
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@dataclass(frozen=True, slots=True)
class Rules:
    """
    The rules of a project: at most *quota_bytes* (None: any number), tags that match one of *immutable* stay where
    they are, and nothing changes while *read_only* holds a reason. *frozen* is the reason for which the whole gateway
    is read-only.
    """

    quota_bytes: int | None = None
    immutable: tuple[str, ...] = ()
    read_only: str = ""
    frozen: str = ""

    def require_writable(self, project: ProjectName) -> None:
        """Raises `ReadOnly` with the reason."""
        if self.frozen:
            raise ReadOnly(
                f"The gateway is read-only: {_clause(self.frozen)}. Ask its operator when it takes changes again.",
                detail={"read_only": "gateway", "reason": self.frozen},
            )
        if self.read_only:
            raise ReadOnly(
                f"Project {project} is read-only: {_clause(self.read_only)}. Ask its owner when it takes changes "
                "again.",
                detail={"read_only": project.name, "reason": self.read_only},
            )

    def holding(self, tag: str) -> str:
        """The pattern that keeps *tag* where it is; "" if none does."""
        if not self.immutable or _COMPANION.fullmatch(tag):
            return ""
        return next((pattern for pattern in self.immutable if matches(pattern, tag)), "")


def immovable(repository: Repository, tag: str, pattern: str) -> TagImmutable:
    """What to raise when *tag*, which exists, would be moved to another digest."""
    return TagImmutable(
        f"Tag {tag} of {repository} is immutable (pattern {pattern}): push under another tag, or ask an owner of the "
        "project to change the rule.",
        detail={"tag": tag, "pattern": pattern},
    )


def irremovable(repository: Repository, tag: str, pattern: str) -> TagImmutable:
    """What to raise when *tag* would be removed, alone or with what it names."""
    return TagImmutable(
        f"Tag {tag} of {repository} is immutable (pattern {pattern}) and cannot be removed; ask an owner of the "
        "project to change the rule.",
        detail={"tag": tag, "pattern": pattern},
    )


def over_quota(project: ProjectName, quota_bytes: int, used_bytes: int, wanted_bytes: int) -> QuotaExceeded:
    """What to raise when *wanted_bytes* more do not fit; 0 when it is not known how many there would be."""
    more = f"{size_text(wanted_bytes)} more do not fit" if wanted_bytes else "nothing more fits"
    return QuotaExceeded(
        f"The quota of project {project} is {size_text(quota_bytes)} and {size_text(used_bytes)} are used: {more}. "
        "Delete what is not needed, or ask an owner or administrator for room.",
        detail={"quota_bytes": quota_bytes, "used_bytes": used_bytes, "wanted_bytes": wanted_bytes},
    )


def parse_patterns(texts: Sequence[str]) -> tuple[str, ...]:
    """Patterns of tags, each once, in their order; raises `Invalid`."""
    for text in texts:
        if _PATTERN.fullmatch(text) is None or "**" in text:
            raise Invalid(
                "A pattern of tags has 1 to 128 letters, digits, '_', '.' and '-', and '*' for any characters, "
                "as in v* or release-*."
            )
    patterns = tuple(dict.fromkeys(texts))
    if len(patterns) > PATTERNS:
        raise Invalid(f"A project has at most {PATTERNS} patterns of immutable tags; put some together with '*'.")
    return patterns


def parse_reason(text: str) -> str:
    """A reason as clients are told it: one line; raises `Invalid`."""
    reason = text.strip()
    if not reason or len(reason) > REASON_CHARACTERS or not reason.isprintable():
        raise Invalid(f"Say why in one line of at most {REASON_CHARACTERS} characters: clients are told it.")
    return reason


def parse_quota(size_bytes: int) -> int:
    """A quota in bytes; raises `Invalid`."""
    if not 0 <= size_bytes <= QUOTA_BYTES:
        raise Invalid("A quota is a number of bytes from 0 to 4 EiB.")
    return size_bytes


def size_text(size_bytes: int) -> str:
    """The size as people read it: `1.5 GiB`; never more than it is."""
    unit = 0
    while size_bytes >> (10 * (unit + 1)) and unit < len(_UNITS) - 1:
        unit += 1
    tenths = size_bytes * 10 >> (10 * unit)
    whole, tenth = divmod(tenths, 10)
    return f"{whole}.{tenth} {_UNITS[unit]}" if tenth and unit else f"{whole} {_UNITS[unit]}"


def _clause(reason: str) -> str:
    return reason.rstrip(".")
