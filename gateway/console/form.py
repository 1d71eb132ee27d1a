"""Forms: what a browser filled in, and what is wrong with it, beside the field it is wrong in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import parse_qsl

from gateway.errors import (
    AdministrationRefusal,
    AgainstRule,
    ContentRefusal,
    Invalid,
    Refusal,
    Stale,
    TooManyRequests,
    Unsupported,
)

T = TypeVar("T")

#: Fields of one form; honest ones have a dozen or two.
FIELDS = 200
#: What a page may tell beside a field; everything else has a page of its own.
TELLABLE = (AdministrationRefusal, AgainstRule, ContentRefusal, TooManyRequests, Unsupported)


class Form:
    """
    The fields of one form, with the errors found so far by field; "" is the form as a whole.

    A template shows `form.value(name)` in the field and `form.errors[name]` beside it, so what was typed is kept.
    """

    __slots__ = ("errors", "pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)
        self.errors: dict[str, str] = {}

    @classmethod
    def read(cls, text: str) -> Form:
        """The form or query that *text* encodes (`application/x-www-form-urlencoded`); raises `Invalid` for a flood."""
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS)
        except ValueError:
            raise Invalid(f"Send at most {FIELDS} fields.") from None
        # No name of anything holds a NUL, and not every database can be asked for one.
        return cls((name, value.replace("\0", "\ufffd")) for name, value in pairs)

    def value(self, name: str, otherwise: str = "") -> str:
        """The field as it was filled in, the first if it came twice; *otherwise* if it did not come."""
        return next((value for key, value in self.pairs if key == name), otherwise)

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a field that may be chosen several times."""
        return tuple(value for key, value in self.pairs if key == name)

    def text(self, name: str) -> str:
        """The field without blanks around it."""
        return self.value(name).strip()

    def checked(self, name: str) -> bool:
        return bool(self.values(name))

    def parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        """What *parse* makes of the field; None, and an error beside the field, when it refuses."""
        with self.blaming(name):
            return parse(self.text(name))
        return None

    @contextmanager
    def blaming(self, name: str, *also: type[Refusal]) -> Iterator[None]:
        """
        Whatever is refused inside is told beside the field *name*, unless that has an error already.

        `Denied` is not, unless it is among *also*: it has a page of its own. `Stale` has one that shows what is new.
        """
        try:
            yield
        except Stale:
            raise
        except Refusal as refusal:
            if not isinstance(refusal, (*TELLABLE, *also)):
                raise
            self.errors.setdefault(name, refusal.message)

    def blame(self, name: str, message: str) -> None:
        self.errors.setdefault(name, message)

    @property
    def sound(self) -> bool:
        """Whether nothing was found wrong so far."""
        return not self.errors
