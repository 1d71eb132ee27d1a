"""The section `[upkeep]`: what the gateway does by itself to keep what it holds whole."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Rate: TypeAlias = Annotated[int, Meta(ge=0, le=10**12, description="a number of bytes for each second, or 0")]


class Upkeep(Struct, frozen=True, kw_only=True):
    """What is done in the background, and how fast."""

    scrub_bytes_per_second: Rate = 8 * 1024 * 1024
    """How fast stored bytes are compared with their digests, round after round; 0 for not at all."""
