"""Projects in the database, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project; *id* is never reused, *created_at* is UTC."""

    id: int
    name: str
    public: bool
    created_at: datetime
