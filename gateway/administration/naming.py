"""Naming: the credential or the content that a text means, before anything is looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.access.names import AccountName, is_robot, parse_principal
from gateway.access.policy import parse_target
from gateway.access.principals import CredentialKind
from gateway.errors import ContentRefusal, Invalid
from gateway.oci.digest import Digest
from gateway.oci.names import ProjectName, Repository, Tag

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


def named_content(text: str) -> tuple[Repository | None, Tag | Digest]:
    """What `sha256:…`, `REPOSITORY@sha256:…` or `REPOSITORY:TAG` names; raises `Invalid`."""
    name, separator, reference = text.partition("@" if "@" in text else ":")
    try:
        if "@" in text:
            return parse_target(name), Digest.parse(reference)
        if name in {"sha256", "sha512"}:
            return None, Digest.parse(text)
        if separator:
            return parse_target(name), Tag.parse(reference)
    except ContentRefusal as refusal:
        raise Invalid(refusal.message, detail={"field": "target"}) from refusal
    raise Invalid("Name sha256:…, REPOSITORY@sha256:… or REPOSITORY:TAG.", detail={"field": "target"})
