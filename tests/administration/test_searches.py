"""Overviews, saved searches and places in the chain: who may, what they see, and that it is recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from gateway.access.personal import parse_bound
from gateway.audit.trail import Search
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.records import searches
from tests.administration.rooms import Rooms
from tests.administration.test_audit_acts import triggers
from tests.house import OPERATOR


def test_an_overview_is_an_event_and_an_owners_for_its_own_project(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    found = rooms.run(rooms.acts.audit.overview(owner, Search(project="gallery")))
    assert found.facets.counted == 2
    assert rooms.last("audit.overview")["detail"] == {"project": "gallery"}
    with pytest.raises(Denied):
        rooms.run(rooms.acts.audit.overview(owner, Search()))


def test_a_saved_search_is_its_savers_alone_and_goes_with_the_account(rooms: Rooms) -> None:
    auditor, other = rooms.user("auditor", auditor=True), rooms.user("other", auditor=True)
    audit = rooms.acts.audit
    saved = rooms.run(audit.save_search(auditor, "denied pushes", {"outcome": "denied", "kind": "", "since": "24h"}))
    assert dict(saved.filters) == {"outcome": "denied", "since": "24h"}
    assert [each.name for each in rooms.run(audit.list_searches(auditor))] == ["denied pushes"]
    assert rooms.run(audit.list_searches(other)) == ()
    with pytest.raises(Unknown):
        rooms.run(audit.remove_search(other, "denied pushes"))
    rooms.run(audit.save_search(auditor, "denied pushes", {"outcome": "failed"}))
    (replaced,) = rooms.run(audit.list_searches(auditor))
    assert dict(replaced.filters) == {"outcome": "failed"}
    assert rooms.last("search.save")["before"]["filters"] == {"outcome": "denied", "since": "24h"}

    rooms.run(rooms.acts.accounts.remove_user(OPERATOR, "auditor"))
    again = rooms.user("auditor", auditor=True)
    assert rooms.run(audit.list_searches(again)) == ()
    count = "SELECT COUNT(*) FROM saved_searches"
    assert rooms.house.database.read_now(lambda connection: connection.execute(text(count)).scalar()) == 0


def test_a_saved_search_is_removed_by_name(rooms: Rooms) -> None:
    rooms.run(rooms.acts.audit.save_search(OPERATOR, "mine", {"outcome": "denied"}))
    rooms.run(rooms.acts.audit.remove_search(OPERATOR, "mine"))
    assert rooms.run(rooms.acts.audit.list_searches(OPERATOR)) == ()


def test_a_token_reaches_no_saved_search_that_it_may_not_run(rooms: Rooms) -> None:
    jane, audit = rooms.owner("jane", "gallery"), rooms.acts.audit
    rooms.run(rooms.acts.projects.add_project(OPERATOR, "attic"))
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "jane", "owner", "attic"))
    kept = {"ours": {"project": "gallery"}, "theirs": {"project": " attic "}, "deep": {"repository": "attic/ui"}}
    for name, filters in kept.items():
        rooms.run(audit.save_search(jane, name, filters))
    reviews = replace(jane, bound=parse_bound(["review"], ["gallery"]))

    for bound in (parse_bound(["pull", "push", "delete"], ["gallery"]), parse_bound(["pull"], None)):
        narrow = replace(jane, bound=bound)
        assert rooms.run(audit.list_searches(narrow)) == ()
        for name in kept:
            with pytest.raises(Unknown):
                rooms.run(audit.remove_search(narrow, name))
            assert rooms.last("search.remove")["outcome"] == "failed"
    assert [each.name for each in rooms.run(audit.list_searches(reviews))] == ["ours"]
    for name in ("theirs", "deep"):
        with pytest.raises(Unknown):
            rooms.run(audit.remove_search(reviews, name))
        with pytest.raises(Conflict, match="another name"):
            rooms.run(audit.save_search(reviews, name, {"project": "gallery"}))
    assert {each.name for each in rooms.run(audit.list_searches(jane))} == set(kept)

    rooms.run(audit.save_search(reviews, "ours", {"project": "gallery", "outcome": "denied"}))
    rooms.run(audit.remove_search(reviews, "ours"))
    anywhere = replace(jane, bound=parse_bound(["review"], None))
    assert [each.name for each in rooms.run(audit.list_searches(anywhere))] == ["deep", "theirs"]


def test_a_search_that_cannot_be_saved_says_which_field(rooms: Rooms) -> None:
    cases: list[tuple[str, dict[str, str], str]] = [
        ("", {}, "name"),
        ("x" * 65, {}, "name"),
        ("mine", {"since": "soon"}, "since"),
        ("mine", {"colour": "red"}, "colour"),
    ]
    for name, filters, field in cases:
        with pytest.raises(Invalid) as refused:
            rooms.run(rooms.acts.audit.save_search(OPERATOR, name, filters))
        assert refused.value.detail == {"field": field}


def test_nobody_saves_a_search_it_may_not_run_nor_without_end(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.run(rooms.acts.audit.save_search(owner, "mine", {"project": "gallery"}))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.audit.save_search(owner, "all", {}))
    monkeypatch.setattr(searches, "MOST", 1)
    with pytest.raises(Conflict):
        rooms.run(rooms.acts.audit.save_search(owner, "more", {"project": "gallery"}))


def test_an_event_has_its_place_in_the_chain(rooms: Rooms) -> None:
    for name in ("ann", "ben"):
        rooms.user(name)
    first = rooms.run(rooms.acts.audit.locate_event(OPERATOR, 1))
    assert (first.previous, first.following, first.fault) == (None, 2, "")
    second = rooms.run(rooms.acts.audit.locate_event(OPERATOR, 2))
    assert (second.previous, second.following) == (1, 3)
    assert second.event["previous_hash"] == first.event["hash"]
    assert first.following_hash == second.event["hash"]


def test_an_event_whose_neighbour_was_edited_says_so(rooms: Rooms) -> None:
    for name in ("ann", "ben", "cat"):
        rooms.user(name)
    with rooms.house.database.writer() as connection:
        drop = "DROP TRIGGER {name}" if rooms.house.database.sqlite else "DROP TRIGGER {name} ON events"
        for name in triggers(rooms):
            connection.execute(text(drop.format(name=name)))
        connection.execute(text("UPDATE events SET body = replace(body, 'ben', 'bob') WHERE seq = 2"))
    assert rooms.run(rooms.acts.audit.locate_event(OPERATOR, 2)).fault.startswith("event 2 was edited")
    assert rooms.run(rooms.acts.audit.locate_event(OPERATOR, 1)).fault.startswith("event 2 was edited")
