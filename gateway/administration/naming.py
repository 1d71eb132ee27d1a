"""Naming: the credential that a text means, an account's own or one token, before anything is looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.access.names import AccountName, is_robot, parse_principal
from gateway.access.principals import CredentialKind
from gateway.oci.names import ProjectName

#: How a token is spelled where any credential may stand; its number begins with no 0, and either database has room.
_KINDS: Final = {
    "offline": CredentialKind.OFFLINE_TOKEN,
    "personal": CredentialKind.PERSONAL_TOKEN,
}
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedCredential:
    """
    The credential that a text names: a token by its *kind* and *number*, else an *account*, in *project* if a robot's.

    *bare* says that the number alone was given, which may be meant for a user's name.
    """

    told: str
    account: str = ""
    project: ProjectName | None = None
    kind: CredentialKind | None = None
    number: int = 0
    bare: bool = False


def named_credential(credential: str) -> NamedCredential:
    """What *credential* names, before anything is looked up; raises `Invalid`."""
    prefix, colon, rest = credential.rpartition(":")
    kind = _KINDS.get(prefix) if colon else CredentialKind.OFFLINE_TOKEN
    if kind is not None and _NUMBER.fullmatch(rest):
        return NamedCredential(f"{kind.value.replace('_', ' ')} {rest}", kind=kind, number=int(rest), bare=not colon)
    name = AccountName.parse(rest).name if colon and prefix == "user" else parse_principal(credential)
    if is_robot(name):
        return NamedCredential(f"robot {name}", name, ProjectName(name.partition("+")[0]))
    return NamedCredential(f"user {name}", name)
