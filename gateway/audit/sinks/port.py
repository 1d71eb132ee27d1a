"""What a sink can do: take a shipment, whole and in order, or say why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class SinkFailed(Exception):
    """
    The shipment was not taken, or nobody knows whether it was: the same is sent again.

    The message says why in a few words and holds no secret. *retry_after_seconds* is how long the sink asked to be left
    alone, 0 if it did not.
    """

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Shipment:
    """
    Some *lines* of the trail in their order, each one JSON object: events, checkpoints, gaps.

    *first* and *last* are the numbers of its first and last event, *statements* those of its first and last checkpoint;
    all 0 where there is none in it.
    """

    lines: Sequence[str]
    first: int = 0
    last: int = 0
    statements: tuple[int, int] = (0, 0)


class Sink(Protocol):
    """One place that events are sent to. Used by one thread at a time; every verb blocks, for seconds at most."""

    def deliver(self, shipment: Shipment) -> None:
        """Returns when the sink has the shipment; raises `SinkFailed`."""
        ...

    def abort(self) -> None:
        """Makes a `deliver` that is under way in another thread end soon."""
        ...

    def close(self) -> None:
        """Lets go of whatever is open; the next `deliver` opens it again."""
        ...


def why(error: OSError) -> str:
    """What the system says of it, in a few words."""
    return (error.strerror or str(error) or "unknown reason").lower()[:200]
