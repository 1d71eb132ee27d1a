"""The names of things: repository, project, tag, reference; a name that exists is legal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from gateway.errors import Invalid, NameInvalid, TagInvalid
from gateway.oci.digest import Digest

#: distribution-spec, "Pulling manifests": one component of `<name>`.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_PROJECT = re.compile(_COMPONENT, re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)

#: Clients limit host and name together to 255 characters; 200 leave room for any host name in use.
REPOSITORY_CHARACTERS = 200
PROJECT_CHARACTERS = 64


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """A legal repository name, `gallery/ui`; its first component is its project."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """
        The repository *text* names; raises `NameInvalid` for anything else.

        At most 200 characters, its project at most 64; the grammar is the distribution specification's.
        """
        if len(text) > REPOSITORY_CHARACTERS:
            raise NameInvalid(f"A repository name has at most {REPOSITORY_CHARACTERS} characters.")
        if _REPOSITORY.fullmatch(text) is None:
            raise NameInvalid(
                "A repository name has lower-case letters and digits, separated by '.', '_', '__', '-' or '/', "
                "as in gallery/ui."
            )
        if len(text.partition("/")[0]) > PROJECT_CHARACTERS:
            raise NameInvalid(f"The project, the first part of a name, has at most {PROJECT_CHARACTERS} characters.")
        return cls(text)

    @property
    def project(self) -> ProjectName:
        """The project this repository belongs to; a repository `gallery` belongs to project `gallery`."""
        return _project_of(self.name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class ProjectName:
    """A legal project name: one component of a repository name, at most 64 characters."""

    name: str

    @classmethod
    def parse(cls, text: str) -> ProjectName:
        """The project *text* names; raises `Invalid` for anything else."""
        if len(text) > PROJECT_CHARACTERS or _PROJECT.fullmatch(text) is None:
            raise Invalid(
                f"A project name is 1 to {PROJECT_CHARACTERS} lower-case letters and digits, separated by single "
                "'.', '_', '__' or '-', as in gallery."
            )
        return cls(text)

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=8192)
def _project_of(repository: str) -> ProjectName:
    return ProjectName(repository.partition("/")[0])


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A legal tag (distribution-spec, "Pulling manifests")."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Tag:
        """The tag *text* spells; raises `TagInvalid` for anything else."""
        if _TAG.fullmatch(text) is None:
            raise TagInvalid(
                "A tag has 1 to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'."
            )
        return cls(text)

    def __str__(self) -> str:
        return self.name


#: What a manifest is asked for by.
Reference: TypeAlias = Tag | Digest


def parse_reference(text: str) -> Reference:
    """A digest if *text* holds a colon, a tag otherwise; raises `DigestInvalid` or `TagInvalid`."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)
