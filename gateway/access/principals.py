"""Who asks: the principal, what it holds, and where the request came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.access.personal import Bound
from gateway.access.scopes import Access


class PrincipalKind(StrEnum):
    USER = "user"
    ROBOT = "robot"
    OPERATOR = "operator"
    """Whoever runs the command line on the data directory's own host."""
    SYSTEM = "system"
    """The gateway itself: start, stop, certificate and key changes it makes unasked."""
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """
    Who acts. *id* is never reused: the account's for users and robots, the real uid for operators, 0 otherwise.

    *name* is what people read: `writer`, `gallery+ci`, `operator:root`, `gateway`, `anonymous`.
    """

    kind: PrincipalKind
    id: int
    name: str


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS, 0, "anonymous")
SYSTEM = Principal(PrincipalKind.SYSTEM, 0, "gateway")


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a request came from.

    *address* is the client's (behind a configured proxy, the one that proxy vouches for); *peer_address* the socket's.
    """

    address: str
    peer_address: str
    agent: str
    request_id: str


class CredentialKind(StrEnum):
    NONE = "none"
    PASSWORD = "password"  # noqa: S105 - the kind of a credential, not one
    ROBOT_SECRET = "robot_secret"  # noqa: S105 - as above
    OFFLINE_TOKEN = "offline_token"  # noqa: S105 - as above
    PERSONAL_TOKEN = "personal_token"  # noqa: S105 - as above
    SESSION = "session"
    """A browser that somebody signed in with."""
    BEARER = "bearer"
    LOCAL = "local"
    """The operating system's word for who runs the command line, or for the gateway process itself."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What the request proved itself with: its kind and id (a token's `jti`, another one's number), no secret."""

    kind: CredentialKind
    id: str = ""


NO_CREDENTIAL = Credential(CredentialKind.NONE)
LOCAL = Credential(CredentialKind.LOCAL)


@dataclass(frozen=True, slots=True)
class Caller:
    """
    A principal, what its credential bounds it to, and the origin of this request.

    *access* is what its token carries; None for callers no token bounds (the operator, the gateway itself, a sign-in).
    *generation* and *projects* are the account's generation and the ids of the projects named, as of the token's
    issue: a changed password or a recreated project has another, and the token is worth nothing there.
    *bound* is what a personal token may be used for at most, None where nothing bounds; *personal_token* is the number
    of the one that the caller came with, or got its bearer with, *offline_token* that of an offline one: 0 for none.
    When that is revoked, so is this.
    """

    principal: Principal
    origin: Origin
    credential: Credential = NO_CREDENTIAL
    access: Access | None = None
    generation: int = 0
    projects: Mapping[str, int] = field(default_factory=dict)
    bound: Bound | None = None
    personal_token: int = 0
    offline_token: int = 0
