"""The section `[upkeep]`: what the gateway does by itself to keep what it holds whole."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Rate: TypeAlias = Annotated[int, Meta(ge=0, le=10**12, description="a number of bytes for each second, or 0")]
Hours: TypeAlias = Annotated[int, Meta(ge=1, le=8760, description="a number of hours, 1 to 8760")]
HoursOrNone: TypeAlias = Annotated[int, Meta(ge=0, le=8760, description="a number of hours, 0 to 8760")]
DaysOrNone: TypeAlias = Annotated[int, Meta(ge=0, le=3650, description="a number of days, 0 to 3650")]
Seconds: TypeAlias = Annotated[int, Meta(ge=0, le=86400, description="a number of seconds, 0 to 86400")]


class Upkeep(Struct, frozen=True, kw_only=True):
    """What is done in the background, how fast, and how often."""

    scrub_bytes_per_second: Rate = 8 * 1024 * 1024
    """How fast stored bytes are compared with their digests, round after round; 0 for not at all."""
    sweep_hours: HoursOrNone = 24
    """How often what nothing references is removed; 0: only when `gateway sweep` is run."""
    grace_hours: Hours = 24
    """How long what nothing references is kept."""
    trash_days: DaysOrNone = 7
    """How long deleted tags and manifests can be brought back; 0: not at all."""
    leak_probe_seconds: Seconds = 300
    """How often every process asks itself for what nobody may have; 0 for not at all."""
