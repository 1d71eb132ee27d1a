"""The record of the chain's head, whatever who owns the database makes of its table: acts go on, and it is told."""

from __future__ import annotations

import pytest

from gateway.records import checkpoints, cursors, stock
from gateway.records.appending import trial
from gateway.records.matching import projected_until
from tests.house import House
from tests.records.test_condition import fill, read, tamper
from tests.records.test_trail_end import fault, project

ANOTHER = "INSERT INTO trail_head (id, seq, hash, seal) SELECT {id}, seq, hash, seal FROM trail_head"


def breaks(house: House) -> int:
    return len(house.records(kind="audit.break"))


@pytest.mark.parametrize("number", [-1, 0, 2])
def test_another_record_of_the_head_stops_no_act_and_is_told(house: House, number: int) -> None:
    fill(house, 3)
    tamper(house, ANOTHER.format(id=number))
    for _ in range(2):
        assert fault(house) == "there is another record of the chain's head"
        assert read(house).fault == "there is another record of the chain's head"
        fill(house, 2)
        project(house)
    assert house.database.read_now(projected_until) == 7
    assert breaks(house) == 0
    tamper(house, f"DELETE FROM trail_head WHERE id = {number}")
    assert fault(house) == read(house).fault == ""


@pytest.mark.parametrize("edit", ["DELETE FROM trail_head", "UPDATE trail_head SET id = 2"])
def test_a_record_of_the_head_that_is_gone_is_told_of_once_and_made_again(house: House, edit: str) -> None:
    fill(house, 3)
    tamper(house, edit)
    assert fault(house) == read(house).fault == "the record of the chain's head is missing"
    with house.database.lock(), house.database.engine.connect() as connection:
        trial(house.database, connection)
    for _ in range(3):
        fill(house, 1)
    project(house)
    assert [record["id"] for record in house.records()] == [1, 2, 3, 4, 5, 6, 7]
    assert [record["id"] for record in house.records(kind="audit.break")] == [4]
    if "id = 2" in edit:
        assert fault(house) == read(house).fault == "there is another record of the chain's head"
        tamper(house, "DELETE FROM trail_head WHERE id = 2")
    assert "edited before it" in fault(house)
    assert "edited before it" in read(house).fault


@pytest.mark.parametrize("value", ["-1", "-9223372036854775808", "9223372036854775807"])
def test_a_record_of_the_head_with_a_number_that_no_event_has_is_one_that_was_edited(house: House, value: str) -> None:
    assert_edited_by(house, value)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("value", ["'x'", "1.5", "X'00'"])
def test_a_record_of_the_head_with_no_whole_number_is_one_that_was_edited(house: House, value: str) -> None:
    assert_edited_by(house, value)


def assert_edited_by(house: House, value: str) -> None:
    """Everything that reads the record takes it for one that was edited, and acts go on."""
    fill(house, 3)
    tamper(house, f"UPDATE trail_head SET seq = {value}")
    assert "head was edited" in fault(house)
    assert "head was edited" in read(house).fault
    project(house)
    read_now = house.database.read_now
    assert read_now(stock.counted).events in {0, (1 << 63) - 1}
    assert read_now(lambda connection: cursors.lags(connection, 0)) == []
    read_now(lambda connection: checkpoints.due(connection, 0))
    fill(house, 2)
    assert [record["id"] for record in house.records(kind="audit.break")] == [4]
    assert "edited before it" in fault(house)
