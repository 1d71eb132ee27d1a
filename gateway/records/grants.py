"""Grants in the database: who holds which role where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class GrantRow:
    """*principal* holds *role* on *reach*, `PROJECT[/PATTERN]`, until *expires_at* if given; times are UTC."""

    id: int
    principal: str
    role: str
    reach: str
    created_at: datetime
    expires_at: datetime | None
