"""Which acts in the registry behind meet, and so are done one after the other."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.oci.names import Repository
from gateway.records import intents
from gateway.records.precedence import claim, meeting
from tests.house import House
from tests.records.rows import written

UI, API = Repository("gallery/ui"), Repository("gallery/api")
A, B, LONG = (f"sha256:{'a' * 64}", f"sha256:{'b' * 64}", f"sha512:{'c' * 128}")


def push(digest: str, *tags: str, pushed: str = "") -> tuple[str, dict[str, Any]]:
    return "manifest.push", {"digest": digest, "pushed": pushed or digest, "tags": list(tags)}


def delete(digest: str, *tags: str, **more: str) -> tuple[str, dict[str, Any]]:
    return "manifest.delete", {"digest": digest, "tags": list(tags), **more}


UNTAG = "tag.delete", {"tags": ["v1"]}
PAIRS = {
    "pushes of one tag": (push(A, "v1"), push(B, "v2", "v1"), True),
    "pushes of one manifest and tag": (push(A, "v1"), push(A, "v1"), True),
    "pushes of two tags": (push(A, "v1"), push(B, "v2"), False),
    "pushes of one manifest under two tags": (push(A, "v1"), push(A, "v2"), False),
    "a push and a deletion": (push(A), delete(A), True),
    "a push by another digest and a deletion of its twin": (push(A, pushed=LONG), delete(A), True),
    "a push and a deletion by another digest": (push(A), delete(LONG, twin=A), True),
    "a push of a tag and a deletion of what it names": (push(B, "v1"), delete(A, "v1"), True),
    "a push and a deletion of another": (push(A, "v1"), delete(B, "v2"), False),
    "a push and a removal of its tag": (push(A, "v1"), UNTAG, True),
    "a push and a removal of another tag": (push(A, "v2"), UNTAG, False),
    "removals of one tag": (UNTAG, UNTAG, True),
    "pushes of one blob": (("blob.push", {"digest": A}), ("blob.mount", {"digest": A}), False),
    "a push and a deletion of a blob": (("blob.push", {"digest": A}), ("blob.delete", {"digest": A}), True),
    "a push of a blob and a deletion that takes it along": (
        ("blob.push", {"digest": A}),
        ("blob.delete", {"digest": LONG, "twins": [A]}),
        True,
    ),
    "a push of a blob by another digest and a deletion": (
        ("blob.push", {"digest": LONG, "twin": A}),
        ("blob.delete", {"digest": A}),
        True,
    ),
    "an act without tags of an older version": (("manifest.delete", {"digest": A}), push(A, "v1"), True),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_acts_meet_where_it_matters_which_comes_first(pair: str) -> None:
    one, other, expected = PAIRS[pair]
    assert claim(*one).meets(claim(*other)) is expected
    assert claim(*other).meets(claim(*one)) is expected


def test_only_open_acts_of_the_same_repository_are_ahead_and_the_oldest_is_first(house: House) -> None:
    def begin(connection: Any) -> None:
        for name, repository, now in (("new", UI, 3), ("old", UI, 1), ("ended", UI, 2), ("elsewhere", API, 1)):
            kind, act = push(A, "v1")
            intents.begin(connection, name, kind, repository, act, {}, now=now)
        intents.begin(connection, "other", "manifest.push", UI, push(B, "v2")[1], {}, now=1)
        intents.end(connection, "ended")

    written(house, begin)

    def ahead(intent_id: str) -> tuple[str, ...]:
        return house.database.read_now(lambda connection: meeting(connection, UI, *push(B, "v1"), intent_id))

    assert ahead("mine") == ("old", "new")
    assert ahead("old") == ("new",)
