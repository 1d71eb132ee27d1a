"""Reads done again from memory: while nothing moved, for the same address, and as long as the token lasts."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.access.keys import LEEWAY_SECONDS
from gateway.access.policy import Allowed, Need
from gateway.access.scopes import Action
from gateway.audit.event import Event, Kind
from gateway.oci.names import Repository
from gateway.registry.repeats import Repeat, answer, remember
from gateway.registry.replies import Reply
from tests.house import GATEWAY

UI = Repository("gallery/ui")
ADDRESS = GATEWAY.origin.address
EXPIRES = 1_000_000.0


def repeat() -> Repeat:
    event = Event(Kind.MANIFEST_PULL, GATEWAY, repository=UI.name)
    return Repeat(Need(Action.PULL, UI), UI, 4, EXPIRES, event, event.record(), b"", b"{}")


def engine(version: int | None) -> Any:
    return SimpleNamespace(version=None if version is None else lambda repository: version)


def test_a_read_is_done_again_for_the_same_caller_where_nothing_moved() -> None:
    assert repeat().holds(engine(4), ADDRESS, EXPIRES - 10)


@pytest.mark.parametrize(
    ("version", "address", "now"),
    [
        (6, ADDRESS, EXPIRES - 10),
        (5, ADDRESS, EXPIRES - 10),
        (None, ADDRESS, EXPIRES - 10),
        (4, "192.0.2.99", EXPIRES - 10),
        (4, ADDRESS, EXPIRES + LEEWAY_SECONDS),
        (4, ADDRESS, EXPIRES - 2000),
    ],
    ids=["moved", "moving", "unknown", "another address", "token over", "clock put back"],
)
def test_a_read_is_not_done_again_where_anything_is_otherwise(version: int | None, address: str, now: float) -> None:
    assert not repeat().holds(engine(version), address, now)


@dataclass
class Kept:
    """What is remembered of a head."""

    memory: Any = None

    def keep(self, memory: Any, size_bytes: int) -> None:
        self.memory = memory

    def forget(self) -> None:
        self.memory = None


def remembered(version: int, reference: str, *, unseen: bool) -> Repeat | None:
    head = Kept()
    request: Any = SimpleNamespace(
        engine=SimpleNamespace(tags_move_unseen=unseen), repository=UI, expires=EXPIRES, reference=reference
    )
    event = Event(Kind.MANIFEST_PULL, GATEWAY, repository=UI.name, reference=reference)
    remember(head, request, Need(Action.PULL, UI), version, event, Reply(200, (), b"{}"))
    found: Repeat | None = head.memory
    return found


def test_what_is_read_while_its_repository_moves_is_not_remembered() -> None:
    assert remembered(4, "v1", unseen=False) is not None
    assert remembered(5, "v1", unseen=False) is None


def test_what_a_tag_names_is_not_remembered_where_tags_move_unseen() -> None:
    assert remembered(4, "v1", unseen=True) is None
    assert remembered(4, f"sha256:{'a' * 64}", unseen=True) is not None


@pytest.mark.parametrize(("kind", "told"), [(Kind.MANIFEST_PULL, ["repeat", "cut"]), (Kind.MANIFEST_HEAD, [])])
def test_a_repeated_read_that_does_not_reach_its_client_is_recorded_as_cut(kind: Kind, told: list[str]) -> None:
    done: list[str] = []

    async def record(*_: object) -> None:
        done.append("repeat")

    async def cut(*_: object) -> None:
        done.append("cut")

    async def gone(message: MutableMapping[str, Any]) -> None:
        raise ConnectionResetError

    gate: Any = SimpleNamespace(recall=lambda *_: Allowed("puller on gallery"), repeat=record, cut=cut)
    again = replace(repeat(), event=Event(kind, GATEWAY, repository=UI.name))

    assert asyncio.run(answer(again, gate, engine(4), "f" * 32, gone))
    assert done == told
