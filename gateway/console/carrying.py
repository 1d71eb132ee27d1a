"""Carrying: a form that met an expired session, or has to be confirmed, travels sealed, and nothing typed is lost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from gateway.access.sealing import Sealer

#: How long somebody may take to sign in again, or to confirm.
SECONDS: Final = 3600
#: The field in which a form travels inside another one.
FIELD: Final = "carried"
#: Fields that hold secrets, or are bound to the session that ended: they do not travel to whoever signs in next.
_LEFT_BEHIND: Final = ("csrf", "password", "code", "secret", FIELD, "ticket")


@dataclass(frozen=True, slots=True)
class Carried:
    """
    The fields of a form that was sent to *path*; *incomplete* says that secrets among them were left behind.

    One that has to be confirmed is whole, and the *account* of that number alone may send it; 0 for others.
    """

    path: str
    fields: tuple[tuple[str, str], ...]
    incomplete: bool
    account: int = 0

    @classmethod
    def of(cls, path: str, pairs: tuple[tuple[str, str], ...], account: int = 0) -> Carried:
        """What of the form travels on."""
        left = _LEFT_BEHIND if not account else _LEFT_BEHIND[:1]
        kept = tuple((name, value) for name, value in pairs if not any(word in name for word in left))
        secret = any(word in name for name, value in pairs for word in left[1:] if value)
        return cls(path, kept, secret, account)


def seal(sealer: Sealer, path: str, pairs: tuple[tuple[str, str], ...], *, account: int = 0) -> str:
    """The form as text that only we can read, good for an hour; whole for the *account* of that number alone."""
    told = asdict(Carried.of(path, pairs, account))
    return sealer.seal(json.dumps(told, separators=(",", ":")).encode("utf-8", "replace"), SECONDS)


def unseal(sealer: Sealer, text: str) -> Carried | None:
    """What `seal` made *text* of; None for anything else, and after an hour."""
    content = sealer.unseal(text)
    found = json.loads(content) if content is not None else None
    # What else is sealed for forms is no object.
    if not isinstance(found, dict):
        return None
    fields = tuple((str(name), str(value)) for name, value in found["fields"])
    return Carried(str(found["path"]), fields, bool(found["incomplete"]), int(found["account"]))
