"""What operators type: durations, moments, and the options that several commands share."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, TypeAlias

import typer

from gateway.administration.evidence import months_before
from gateway.audit.moments import duration, moment
from gateway.errors import Invalid

__all__ = ["LARGEST", "Expires", "Json", "PasswordStdin", "before", "duration", "moment", "size_bytes"]

_MONTHS = re.compile(r"([1-9][0-9]{0,3})(mo|y)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,3}))?\s?(?:([kmgtp])(i?))?b?", re.ASCII | re.IGNORECASE)

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON value, for programs.")]
PasswordStdin: TypeAlias = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
#: No number that the gateway gives is larger: programs that read JSON could not tell it from its neighbours.
LARGEST = 2**53 - 1
Expires: TypeAlias = Annotated[
    str | None, typer.Option("--expires", metavar="DURATION", help="How long it lasts: 12h, 90d, 2w.")
]


def size_bytes(text: str) -> int | None:
    """The bytes that `10GiB`, `500 MB` or `1048576` spells, None for `none`; raises `Invalid`."""
    if text.lower() == "none":
        return None
    matched = _SIZE.fullmatch(text.strip())
    if matched is None:
        raise Invalid(f"{text!r} is no size; write a number and B, KiB, MiB, GiB or TiB, as in 10GiB, or none.")
    unit = (1024 if matched[4] else 1000) ** (1 + "kmgtp".index(matched[3].lower())) if matched[3] else 1
    thousandths = int((matched[2] or "").ljust(3, "0"))
    return (int(matched[1]) * 1000 + thousandths) * unit // 1000


def before(text: str, now: datetime) -> datetime:
    """
    The moment before which everything is older than `13mo`, `7y` or `30d` spells, for an act on old months.

    With months and years it is the beginning of a month, in UTC. Raises `Invalid`.
    """
    matched = _MONTHS.fullmatch(text)
    if matched is None:
        return now - duration(text, also="; or mo or y for whole months")
    return months_before(now, int(matched[1]) * (12 if matched[2] == "y" else 1))
