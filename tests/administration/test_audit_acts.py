"""Reading the trail is an act: who may, what they see, and that it is recorded itself."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from gateway.access.principals import Caller
from gateway.administration import FIELDS
from gateway.audit.trail import Search
from gateway.errors import Denied, Invalid, NameInvalid, Unknown
from gateway.records.trail import project_tail
from tests.administration.rooms import Rooms
from tests.house import OPERATOR

EVERYTHING = Search()


def test_a_listed_event_has_every_field_there_is_a_column_for(rooms: Rooms) -> None:
    rooms.user("writer")

    (event,) = rooms.run(rooms.acts.audit.list_events(OPERATOR, EVERYTHING))

    assert set(FIELDS) <= set(event)
    assert list(event)[: len(FIELDS)] == list(FIELDS)
    assert (event["kind"], event["principal"], event["repository"]) == ("account.add", "operator:root", "")


def test_a_listing_does_not_hold_itself_and_the_next_one_does(rooms: Rooms) -> None:
    search = Search(kind="audit.*", since=datetime(2020, 1, 1, tzinfo=UTC))

    assert rooms.run(rooms.acts.audit.list_events(OPERATOR, search)) == []
    (event,) = rooms.run(rooms.acts.audit.list_events(OPERATOR, search))

    assert event["kind"] == "audit.list"
    assert event["detail"] == {"kind": "audit.*", "since": "2020-01-01T00:00:00+00:00"}


def test_an_auditor_reads_everything(rooms: Rooms) -> None:
    auditor = rooms.user("auditor", auditor=True)

    assert len(rooms.run(rooms.acts.audit.list_events(auditor, EVERYTHING))) == 1
    assert rooms.run(rooms.acts.audit.show_event(auditor, 1))["kind"] == "account.add"
    assert rooms.run(rooms.acts.audit.verify(auditor)).fault == ""
    assert len(list(rooms.run(rooms.acts.audit.export_events(auditor, EVERYTHING)))) == 5


def test_an_owner_reads_its_own_project_and_no_more(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    audit = rooms.acts.audit

    seen = rooms.run(audit.list_events(owner, Search(project="gallery")))
    assert [event["kind"] for event in seen] == ["grant.add", "project.add"]
    assert rooms.run(audit.list_events(owner, Search(repository="gallery/ui"))) == []
    number = seen[0]["id"]
    assert isinstance(number, int)
    assert rooms.run(audit.show_event(owner, number))["project"] == "gallery"

    for act in (
        audit.list_events(owner, EVERYTHING),
        audit.list_events(owner, Search(principal="jane")),
        audit.list_events(owner, Search(project="attic")),
        audit.list_events(owner, Search(repository="attic/ui")),
        audit.export_events(owner, EVERYTHING),
        audit.verify(owner),
    ):
        with pytest.raises(Denied):
            rooms.run(act)
    assert rooms.last("audit.verify")["outcome"] == "denied"
    of_another = rooms.run(audit.list_events(OPERATOR, Search(project="attic")))[0]["id"]
    assert isinstance(of_another, int)
    for number in (1, of_another, 10**9):
        with pytest.raises(Unknown, match=f"^There is no event {number} that you may see; search for those you may.$"):
            rooms.run(audit.show_event(owner, number))
        assert rooms.last("audit.show")["outcome"] == "denied"


def test_what_happened_in_a_project_that_is_gone_is_the_auditors_to_read(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    auditor = rooms.user("auditor", auditor=True)
    rooms.run(rooms.acts.projects.remove_project(OPERATOR, "gallery"))
    search = Search(project="gallery")

    seen = rooms.run(rooms.acts.audit.list_events(auditor, search))

    assert [event["kind"] for event in seen] == ["project.remove", "grant.add", "project.add"]
    number = seen[0]["id"]
    assert isinstance(number, int)
    assert rooms.run(rooms.acts.audit.show_event(auditor, number))["kind"] == "project.remove"
    with pytest.raises(Denied):
        rooms.run(rooms.acts.audit.list_events(owner, search))
    with pytest.raises(Unknown, match="that you may see"):
        rooms.run(rooms.acts.audit.show_event(owner, number))


def counted(rooms: Rooms, caller: Caller, search: Search) -> int:
    overview = rooms.run(rooms.acts.audit.overview(caller, search))
    return sum(bucket.allowed for bucket in overview.timeline.buckets)


def test_an_owner_sees_nothing_of_a_project_that_had_the_name_before(rooms: Rooms) -> None:
    audit, projects = rooms.acts.audit, rooms.acts.projects
    rooms.owner("jane", "gallery")
    (former, *_) = rooms.run(audit.list_events(OPERATOR, Search(project="gallery")))
    rooms.run(projects.remove_project(OPERATOR, "gallery"))
    auditor, owner = rooms.user("auditor", auditor=True), rooms.owner("joe", "gallery")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)

    for since in (None, long_ago):
        search = Search(project="gallery", since=since)
        seen = rooms.run(audit.list_events(owner, search))
        kinds = [str(event["kind"]) for event in seen]
        assert [kind for kind in kinds if not kind.startswith("audit.")] == ["grant.add", "project.add"]
        exported = list(rooms.run(audit.export_events(owner, search)))
        assert exported[0].record()["kind"] == "project.add"
        lines = list(rooms.run(audit.export_lines(owner, search)))
        assert lines[0] == exported[0].line()
        assert counted(rooms, owner, search) < counted(rooms, auditor, search)
        whole = rooms.run(audit.list_events(auditor, search))
        assert "project.remove" in [event["kind"] for event in whole]
    number = former["id"]
    assert isinstance(number, int)
    with pytest.raises(Unknown, match=f"^There is no event {number} that you may see"):
        rooms.run(audit.show_event(owner, number))
    assert rooms.run(audit.show_event(auditor, number))["kind"] == "grant.add"


def test_the_overview_of_a_new_project_counts_nothing_of_the_former_one(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, projects = rooms.acts.audit, rooms.acts.projects
    monkeypatch.setattr("gateway.records.overview._LOOKED", 3)
    rooms.owner("jane", "gallery")
    for _ in range(5):
        rooms.run(audit.list_events(OPERATOR, Search(project="gallery")))
    rooms.run(projects.remove_project(OPERATOR, "gallery"))
    owner = rooms.owner("joe", "gallery")
    for _ in range(5):
        rooms.run(audit.list_events(owner, Search(project="gallery")))
    born = datetime.fromisoformat(rooms.last("project.add")["time"])
    with rooms.house.database.lock(), rooms.house.database.engine.connect() as connection:
        while project_tail(rooms.house.database, connection):
            pass

    for since in (None, datetime(2020, 1, 1, tzinfo=UTC)):
        search = Search(project="gallery", since=since)
        found = rooms.run(audit.overview(owner, search))
        of_it = rooms.house.records(project="gallery", since=found.timeline.since, until=found.timeline.until)
        assert found.timeline.since >= born
        assert found.facets.since >= born
        assert not found.timeline.whole
        assert sum(bucket.total for bucket in found.timeline.buckets) == len(of_it)


def test_a_search_cannot_borrow_another_projects_right(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")

    with pytest.raises(Invalid, match="not a repository of gallery"):
        rooms.run(rooms.acts.audit.list_events(owner, Search(project="gallery", repository="attic/ui")))
    with pytest.raises(NameInvalid):
        rooms.run(rooms.acts.audit.list_events(owner, Search(repository="gallery/../attic")))


def test_pages_follow_one_another(rooms: Rooms) -> None:
    for name in ("ann", "ben", "cat"):
        rooms.user(name)
    search = Search(kind="account.add")

    first = rooms.run(rooms.acts.audit.list_events(OPERATOR, search, limit=2))
    before = first[-1]["id"]
    assert isinstance(before, int)
    second = rooms.run(rooms.acts.audit.list_events(OPERATOR, search, before=before, limit=2))

    assert [event["id"] for event in (*first, *second)] == [3, 2, 1]


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_of_no_sensible_length_is_refused(rooms: Rooms, limit: int) -> None:
    with pytest.raises(Invalid):
        rooms.run(rooms.acts.audit.list_events(OPERATOR, EVERYTHING, limit=limit))


def test_an_unknown_event_is_said_to_be_unknown(rooms: Rooms) -> None:
    with pytest.raises(Unknown, match="There is no event 7"):
        rooms.run(rooms.acts.audit.show_event(OPERATOR, 7))


def test_an_export_is_recorded_before_its_first_event(rooms: Rooms) -> None:
    rooms.user("writer")

    exported = rooms.run(rooms.acts.audit.export_events(OPERATOR, Search(principal="operator:root")))

    assert rooms.last("audit.export")["detail"] == {"principal": "operator:root"}
    assert [event.record()["kind"] for event in exported] == ["account.add", "audit.export"]


def test_a_damaged_trail_is_said_to_be_damaged_and_that_is_recorded(rooms: Rooms) -> None:
    rooms.user("writer")
    with rooms.house.database.writer() as connection:
        drop = "DROP TRIGGER {name}" if rooms.house.database.sqlite else "DROP TRIGGER {name} ON events"
        for name in triggers(rooms):
            connection.execute(text(drop.format(name=name)))
        connection.execute(text("UPDATE events SET body = replace(body, 'writer', 'wraith') WHERE seq = 1"))

    found = rooms.run(rooms.acts.audit.verify(OPERATOR))

    assert (found.seq, found.fault) == (1, "event 1 was edited, or does not follow event 0")
    event = rooms.last("audit.verify")
    assert (event["reason"], event["detail"]["event"]) == ("trail_damaged", 1)


def triggers(rooms: Rooms) -> list[str]:
    """The triggers that guard the chain."""
    names = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
    if not rooms.house.database.sqlite:
        names = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'events'::regclass AND NOT tgisinternal"
    return list(rooms.house.database.read_now(lambda connection: connection.execute(text(names)).scalars().all()))
