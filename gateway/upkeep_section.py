"""The section [upkeep] of the settings: how the storage of the embedded engine is kept in order, and how often."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Hours: TypeAlias = Annotated[int, Meta(ge=1, le=8760, description="a number of hours, 1 to 8760")]
HoursOrNone: TypeAlias = Annotated[int, Meta(ge=0, le=8760, description="a number of hours, 0 to 8760")]


class Upkeep(Struct, frozen=True, kw_only=True):
    """How the storage of the embedded engine is kept in order; times in hours."""

    sweep_hours: HoursOrNone = 24
    """How often what nothing references is removed; 0: only when `gateway sweep` is run."""
    grace_hours: Hours = 24
    """How long what nothing references is kept."""
