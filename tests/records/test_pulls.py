"""When something was pulled last is told by events of its own repository alone, and "never" only of what is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.access.principals import Principal, PrincipalKind
from gateway.audit.event import Event, Kind
from gateway.gate import Act
from gateway.oci.names import Repository
from gateway.records import pulls
from gateway.records.pulls import LastPull
from gateway.records.trail import project_tail
from tests.house import GATEWAY, House

MINE, OTHERS = Repository("gallery/ui"), Repository("attic/ui")
DIGEST, UNPULLED = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ALWAYS = datetime(2020, 1, 1, tzinfo=UTC)
JANE = replace(GATEWAY, principal=Principal(PrincipalKind.USER, 1, "jane"))


def an_event(kind: Kind, repository: Repository, digest: str = DIGEST) -> Event:
    return Event(kind, JANE, project=repository.project.name, repository=repository.name, digest=digest)


def happened(house: House, event: Event, count: int = 1) -> None:
    house.run(house.ledger.commit(Act(event, also=(event,) * (count - 1))))


def project(house: House) -> None:
    with house.database.lock(), house.database.engine.connect() as connection:
        while project_tail(house.database, connection):
            pass


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The projection does not follow by itself."""
    monkeypatch.setattr("gateway.records.ledger.project_tail", lambda *_: 0)


def of_mine(house: House, *digests: str, born: datetime = ALWAYS) -> list[LastPull]:
    found = house.database.read_now(lambda connection: pulls.of_digests(connection, MINE, digests, born))
    return [found[digest] for digest in digests]


def of_repository(house: House, *others: str, born: datetime = ALWAYS) -> LastPull:
    names = [MINE.name, *others]
    return house.database.read_now(lambda connection: pulls.of_repositories(connection, names, born))[MINE.name]


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.usefixtures("behind")
def test_pulls_elsewhere_hide_no_pull_of_a_digest(house: House, *, projected: bool) -> None:
    happened(house, an_event(Kind.MANIFEST_PULL, MINE))
    happened(house, an_event(Kind.MANIFEST_PULL, OTHERS), 5000)
    if projected:
        project(house)
    (found,) = of_mine(house, DIGEST)
    assert (found.at is not None, found.by) == (True, "jane")


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.usefixtures("behind")
def test_whether_others_pull_the_same_digest_is_told_to_nobody(house: House, *, projected: bool) -> None:
    happened(house, an_event(Kind.MANIFEST_PUSH, MINE))
    happened(house, an_event(Kind.MANIFEST_PULL, OTHERS), 5000)
    if projected:
        project(house)
    assert of_mine(house, DIGEST) == [LastPull()]


def test_each_digest_of_a_repository_has_its_newest_pull(house: House) -> None:
    for digest in (DIGEST, UNPULLED):
        happened(house, an_event(Kind.MANIFEST_PULL, MINE, digest))
    project(house)
    first = of_mine(house, DIGEST, UNPULLED)
    happened(house, an_event(Kind.MANIFEST_PULL, MINE))
    project(house)
    then = of_mine(house, DIGEST, UNPULLED)
    assert then[1] == first[1]
    assert (first[0].at or 0) < (then[0].at or 0)  # type: ignore[operator]


def test_a_digest_that_the_newest_events_of_its_repository_do_not_tell_of_is_not_said_never_to_be_pulled(
    house: House,
) -> None:
    happened(house, an_event(Kind.MANIFEST_PULL, MINE))
    happened(house, an_event(Kind.BLOB_PULL, MINE, ""), pulls.DEPTH - 2)
    project(house)
    (found, never) = of_mine(house, DIGEST, UNPULLED)
    assert (found.at is not None, never) == (True, LastPull())

    happened(house, an_event(Kind.BLOB_PULL, MINE, ""), 2)
    project(house)
    assert of_mine(house, DIGEST, UNPULLED) == [LastPull(all_seen=False)] * 2


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.usefixtures("behind")
def test_a_pull_from_before_the_project_is_no_pull_from_it(house: House, *, projected: bool) -> None:
    happened(house, an_event(Kind.MANIFEST_PULL, MINE), pulls.WINDOW)
    born = datetime.now(UTC)
    if projected:
        project(house)
    assert (of_mine(house, DIGEST, born=born), of_repository(house, born=born)) == ([LastPull()], LastPull())

    happened(house, an_event(Kind.MANIFEST_PULL, MINE))
    if projected:
        project(house)
    (found,) = of_mine(house, DIGEST, UNPULLED, born=born)[:1]
    assert (found.by, found.at is not None and found.at >= born) == ("jane", True)
    assert of_repository(house, born=born) == found


@pytest.mark.usefixtures("behind")
def test_a_pull_a_moment_ago_is_found_however_much_else_waits_for_the_projection(house: House) -> None:
    happened(house, an_event(Kind.MANIFEST_PULL, MINE))
    happened(house, an_event(Kind.BLOB_PULL, MINE), 1000)
    happened(house, an_event(Kind.MANIFEST_PULL, OTHERS), 5000)
    (found, never) = of_mine(house, DIGEST, UNPULLED)
    assert (found.by, never) == ("jane", LastPull())
    assert of_repository(house) == of_repository(house, "gallery/uk") == found


@pytest.mark.usefixtures("behind")
def test_with_more_pulls_waiting_than_are_looked_through_none_is_said_never_to_be(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened(house, an_event(Kind.MANIFEST_PULL, OTHERS), 10)
    monkeypatch.setattr(pulls, "_TAIL", 11)
    assert of_repository(house, OTHERS.name) == LastPull()
    monkeypatch.setattr(pulls, "_TAIL", 10)
    assert of_repository(house, OTHERS.name) == LastPull(all_seen=False)
    assert of_repository(house) == LastPull()

    happened(house, an_event(Kind.MANIFEST_PULL, MINE), 10)
    found, other = of_mine(house, DIGEST, UNPULLED)
    assert (found.by, other) == ("jane", LastPull(all_seen=False))
