"""A digest: an algorithm this registry keeps content under, and the hexadecimal hash of the content."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.errors import DigestInvalid

if TYPE_CHECKING:
    from hashlib import _Hash


class Algorithm(StrEnum):
    """The registered algorithms (image-spec descriptor.md, "Registered algorithms") this registry keeps."""

    SHA256 = "sha256"
    SHA512 = "sha512"

    def hasher(self) -> _Hash:
        """A fresh hash object of this algorithm."""
        return hashlib.new(self.value)


_FORM = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """
    A digest that exists is well formed: build one with `parse` or `of`.

    Its text (``str``) is what clients send and receive, byte for byte.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest *text* spells; raises `DigestInvalid` for anything else, upper case included."""
        if _FORM.fullmatch(text) is None:
            raise DigestInvalid("The digest must be sha256:<64 hex digits> or sha512:<128 hex digits>, in lower case.")
        return cls(text)

    @classmethod
    def of(cls, content: bytes, algorithm: Algorithm = Algorithm.SHA256) -> Digest:
        """The digest of *content*."""
        hasher = algorithm.hasher()
        hasher.update(content)
        return cls(f"{algorithm.value}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm(self.text[:6])

    @property
    def hex(self) -> str:
        return self.text[7:]

    def __str__(self) -> str:
        return self.text
