"""Moments and durations as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from gateway.errors import Invalid

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"([0-9]{1,7})([smhdw])", re.ASCII)


def duration(text: str, *, also: str = "") -> timedelta:
    """The time that `90d`, `12h`, `2w`, `30m` or `45s` spells; raises `Invalid`."""
    matched = _DURATION.fullmatch(text)
    if matched is None:
        raise Invalid(f"{text!r} is no duration; write a number and s, m, h, d or w, as in 90d{also}.")
    return timedelta(**{_UNITS[matched[2]]: int(matched[1])})


def moment(text: str, now: datetime) -> datetime:
    """
    The moment, in UTC, that an ISO 8601 date or time spells, or a duration before *now*; raises `Invalid`.

    What names no offset is UTC, as the times in the trail are.
    """
    try:
        if _DURATION.fullmatch(text):
            return now - duration(text)
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00Z, or 24h for a day ago.") from None
