"""The rows of uploads: spelled ids, and the engine's own state beside the offset."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import RangeInvalid
from gateway.oci.names import Repository
from gateway.records import uploads
from gateway.records.uploads import EMPTY, UploadRow
from tests.house import House
from tests.records.rows import written

UI = Repository("gallery/ui")
ROW = UploadRow("3f1c1d2e-8f6f-4b0e-9c57-0d4d5ef4a3b1", 0, EMPTY, 100, 200)


def found(house: House) -> UploadRow | None:
    return house.database.read_now(lambda connection: uploads.find(connection, UI, "user:1", ROW.id, 150))


@pytest.mark.parametrize("strange", ["", "..", ROW.id.upper(), f"{ROW.id}\n", ROW.id[:-1]])
def test_an_id_is_a_random_uuid_in_lower_case(strange: str) -> None:
    assert uploads.is_id(ROW.id)
    assert not uploads.is_id(strange)


def test_an_upload_carries_its_engines_state_from_chunk_to_chunk(house: House) -> None:
    written(house, lambda connection: uploads.begin(connection, UI, "user:1", ROW))
    assert found(house) == ROW
    new = UploadRow(ROW.id, 5, "", 100, 300, state="/v2/somewhere")
    written(house, lambda connection: uploads.advance(connection, ROW, new))
    assert found(house) == new


def test_an_upload_moves_on_only_from_where_it_stood(house: House) -> None:
    """Otherwise of two that go on from one place the later would hide what the other's client was told is here."""
    one, two = replace(ROW, offset=5, prefix_digest="one"), replace(ROW, offset=7, prefix_digest="two")
    written(house, lambda connection: uploads.begin(connection, UI, "user:1", ROW))
    written(house, lambda connection: uploads.advance(connection, ROW, one))

    with pytest.raises(RangeInvalid) as refused:
        written(house, lambda connection: uploads.advance(connection, ROW, two))
    assert refused.value.offset == 5
    assert found(house) == one


def test_the_states_of_some_uploads_are_told_with_where_they_go(house: House) -> None:
    other = UploadRow("3f1c1d2e-8f6f-4b0e-9c57-0d4d5ef4a3b2", 0, EMPTY, 100, 200, state="/v2/there")
    written(house, lambda connection: uploads.begin(connection, UI, "user:1", ROW))
    written(house, lambda connection: uploads.begin(connection, UI, "user:1", other))
    told = house.database.read_now(lambda connection: uploads.states(connection, [other.id, "gone"]))
    assert told == {other.id: (UI, "/v2/there")}
