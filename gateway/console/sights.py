"""What of a review was shown to whoever fills in a form: carried by the form, from page to page, to its sign-off."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.access.principals import Principal
from gateway.administration.reviews import Finding

_DIGEST_BYTES: Final = 16
#: What a digest is long as text: of thousands, which a form carries along, each letter counts.
_LETTERS: Final = 22
#: No review has findings of longer numbers.
_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Sight:
    """
    The findings of one *review* that pages have shown to one *principal*, each as it was then.

    What was shown to somebody else, who was signed in before in the same browser, is worth nothing.
    """

    review: int
    principal: Principal
    digests: Mapping[int, str]

    @classmethod
    def read(cls, review: int, principal: Principal, text: str) -> Sight:
        """What `text` gave; what is none of ours shows nothing."""
        found: dict[int, str] = {}
        for stretch in text.split("."):
            first, _, digests = stretch.partition(":")
            if first.isdecimal() and len(first) <= _DIGITS:
                for place in range(0, len(digests) - _LETTERS + 1, _LETTERS):
                    found[int(first) + place // _LETTERS] = digests[place : place + _LETTERS]
        return cls(review, principal, found)

    def saw(self, finding: Finding) -> bool:
        """Whether the finding was shown just as it is."""
        digest = self.digests.get(finding.number)
        return digest is not None and digest == self._digest(finding)

    def and_of(self, findings: Iterable[Finding]) -> Sight:
        """With these shown as well. What has no mark yet is to be shown again once it has one, and is left out."""
        shown = {each.number: self._digest(each) for each in findings if each.mark}
        return Sight(self.review, self.principal, {**self.digests, **shown})

    @property
    def text(self) -> str:
        """For a hidden field: digests of findings numbered in a row stand together behind the first number."""
        stretches: list[str] = []
        last = None
        for number, digest in sorted(self.digests.items()):
            if last is None or number != last + 1:
                stretches.append(f"{number}:")
            stretches[-1] += digest
            last = number
        return ".".join(stretches)

    def _digest(self, finding: Finding) -> str:
        told = repr((self.review, self.principal.kind.value, self.principal.id, finding))
        digest = hashlib.sha256(told.encode("utf-8", "replace")).digest()[:_DIGEST_BYTES]
        return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
