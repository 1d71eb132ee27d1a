"""The names of accounts: what a user or robot may be called, and how people may spell a robot."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import Invalid
from gateway.oci.names import ProjectName

ACCOUNT_CHARACTERS = 64
_ACCOUNT = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", re.ASCII)
#: Names that the trail or a client's protocol gives a meaning of their own.
RESERVED = frozenset({"anonymous", "gateway", "operator", "token"})


def _legal(text: str) -> bool:
    return 2 <= len(text) <= ACCOUNT_CHARACTERS and _ACCOUNT.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class AccountName:
    """A legal user name: 2 to 64 lower-case letters and digits, with single '.', '_' or '-' between them."""

    name: str

    @classmethod
    def parse(cls, text: str) -> AccountName:
        """The user name *text* spells; raises `Invalid` for anything else, reserved names included."""
        if not _legal(text):
            raise Invalid(
                f"A user name is 2 to {ACCOUNT_CHARACTERS} lower-case letters and digits, separated by single '.', "
                "'_' or '-', as in jane.doe."
            )
        if text in RESERVED:
            raise Invalid(f"The name {text} is reserved; choose another one.")
        return cls(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class RobotName:
    """A robot of *project*; it signs in as `project+name`."""

    project: ProjectName
    name: str

    @classmethod
    def parse(cls, text: str) -> RobotName:
        """The robot that `PROJECT+NAME` or `PROJECT/NAME` spells; raises `Invalid` for anything else."""
        project, separator, name = text.partition("+" if "+" in text else "/")
        if not separator or not _legal(name):
            raise Invalid(
                f"A robot is spelled PROJECT+NAME, as in gallery+ci; its name is 2 to {ACCOUNT_CHARACTERS} lower-case "
                "letters and digits, separated by single '.', '_' or '-'."
            )
        return cls(ProjectName.parse(project), name)

    def __str__(self) -> str:
        return f"{self.project}+{self.name}"


def is_robot(text: str) -> bool:
    """Whether *text* spells a robot and not a user."""
    return "+" in text or "/" in text


def parse_principal(text: str) -> str:
    """The canonical name of the user or robot *text* spells, a robot's with '+'; raises `Invalid`."""
    return str(RobotName.parse(text)) if is_robot(text) else str(AccountName.parse(text))
