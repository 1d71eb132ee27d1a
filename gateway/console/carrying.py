"""Carrying: a form that met an expired session travels, sealed, through signing in, and nothing typed is lost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from gateway.access.sealing import Sealer

#: How long somebody may take to sign in again.
SECONDS: Final = 3600
#: Fields that hold secrets, or are bound to the session that ended: they do not travel.
_LEFT_BEHIND: Final = ("csrf", "password", "code", "secret", "carried", "ticket")


@dataclass(frozen=True, slots=True)
class Carried:
    """The fields of a form that was sent to *path*; *incomplete* says that secrets among them were left behind."""

    path: str
    fields: tuple[tuple[str, str], ...]
    incomplete: bool


def seal(sealer: Sealer, path: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """The form as text that only we can read, good for an hour."""
    kept = [(name, value) for name, value in pairs if not any(word in name for word in _LEFT_BEHIND)]
    secret = any(word in name for name, value in pairs for word in _LEFT_BEHIND[1:] if value)
    content = json.dumps({"path": path, "fields": kept, "incomplete": secret}, separators=(",", ":"))
    return sealer.seal(content.encode("utf-8", "replace"), SECONDS)


def unseal(sealer: Sealer, text: str) -> Carried | None:
    """What `seal` made *text* of; None for anything else, and after an hour."""
    content = sealer.unseal(text)
    if content is None:
        return None
    found = json.loads(content)
    fields = tuple((str(name), str(value)) for name, value in found["fields"])
    return Carried(str(found["path"]), fields, bool(found["incomplete"]))
