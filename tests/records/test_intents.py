"""Intents: kept until their outcome is, and ended once."""

from __future__ import annotations

from typing import Any

from gateway.audit.event import Event, Kind
from gateway.change import Change, Notes
from gateway.gate import Act
from gateway.oci.names import Repository
from gateway.records import intents
from tests.house import GATEWAY, House

UI = Repository("gallery/ui")
ACT = {"digest": "sha256:" + "a" * 64, "tags": ["v1"], "owner": "user:7"}
EVENT = {"kind": "manifest.push", "principal": "writer ünd"}


def commit(house: House, apply: Any) -> Any:
    def run(connection: Any) -> Notes:
        return Notes(result=apply(connection))

    return house.run(house.ledger.commit(Act(Event(Kind.MANIFEST_PUSH, GATEWAY), Change(run)))).result


def open_ids(house: House, begun_before: float) -> list[str]:
    found = house.database.read_now(lambda connection: intents.open_intents(connection, begun_before))
    return [intent.id for intent in found]


def test_an_intent_is_given_back_as_it_was_kept(house: House) -> None:
    commit(house, lambda connection: intents.begin(connection, "1", "manifest.push", UI, ACT, EVENT, now=1000.5))

    [intent] = house.database.read_now(lambda connection: intents.open_intents(connection, 2000))

    assert intent == intents.Intent("1", "manifest.push", UI, ACT, EVENT, 1000)


def test_what_is_known_of_an_act_later_is_kept_until_it_ends(house: House) -> None:
    more = {**ACT, "tags": ["v1", "v2"]}
    commit(house, lambda connection: intents.begin(connection, "1", "manifest.push", UI, ACT, EVENT, now=1000))

    assert commit(house, lambda connection: intents.amend(connection, "1", more)) is True
    [intent] = house.database.read_now(lambda connection: intents.open_intents(connection, 2000))
    assert intent == intents.Intent("1", "manifest.push", UI, more, EVENT, 1000)

    commit(house, lambda connection: intents.end(connection, "1"))
    assert commit(house, lambda connection: intents.amend(connection, "1", more)) is False
    assert open_ids(house, 1e12) == []


def test_intents_are_given_oldest_first_and_young_ones_are_left_alone(house: House) -> None:
    for name, now in (("young", 1060), ("old", 1000), ("older", 940)):
        commit(house, lambda connection, name=name, now=now: intents.begin(connection, name, "x", UI, {}, {}, now=now))

    assert open_ids(house, 1060) == ["older", "old"]


def test_an_intent_is_ended_once(house: House) -> None:
    commit(house, lambda connection: intents.begin(connection, "1", "x", UI, {}, {}))

    assert commit(house, lambda connection: intents.end(connection, "1")) is True
    assert commit(house, lambda connection: intents.end(connection, "1")) is False
    assert open_ids(house, 1e12) == []
