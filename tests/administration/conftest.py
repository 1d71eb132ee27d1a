"""The acts of administration on an empty database of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.administration.rooms import Rooms, rooms_of
from tests.house import House


@pytest.fixture
def rooms(house: House) -> Iterator[Rooms]:
    rooms = rooms_of(house)
    yield rooms
    rooms.acts.hashing.close()
