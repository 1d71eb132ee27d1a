"""Accounts in the database: users and robots, and the offline tokens they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.access.principals import PrincipalKind


@dataclass(frozen=True, slots=True)
class Account:
    """A user or robot, without its secret. *project* is a robot's; times are UTC; *changed_at* is the secret's."""

    id: int
    kind: PrincipalKind
    name: str
    project: str
    enabled: bool
    administrator: bool
    auditor: bool
    created_at: datetime
    changed_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class OfflineTokenRow:
    """A live offline token, without the token. *client* is what the client called itself; times are UTC."""

    id: int
    principal: str
    service: str
    client: str
    address: str
    created_at: datetime
    used_at: datetime | None
