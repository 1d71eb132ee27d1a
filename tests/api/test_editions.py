"""Two people who edit one thing: the second is told of the first, and nothing of theirs is lost unseen."""

from __future__ import annotations

import asyncio

import pytest

from gateway.api.routes import PREFIX
from tests.api.desk import Desk
from tests.house import second_over


def test_the_second_editor_of_a_grant_sees_the_change_of_the_first(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    path = f"{PREFIX}/grants/alice/{name}"
    seen = desk.ask("root", "PUT", path, {"role": "puller"}, headers={"If-None-Match": "*"}).headers["etag"]
    first = desk.ask("root", "PUT", path, {"role": "pusher"}, headers={"If-Match": seen})
    second = desk.ask("root", "PUT", path, {"role": "owner"}, headers={"If-Match": seen})
    assert (first.status, second.status) == (200, 412)
    assert second.problem["present"]["role"] == "pusher"
    assert second.headers["etag"] == first.headers["etag"] != seen
    [told] = desk.events_of(second)
    assert (told["kind"], told["outcome"], told["reason"]) == ("grant.add", "failed", "stale")
    third = desk.ask("root", "PUT", path, {"role": "owner"}, headers={"If-Match": second.headers["etag"]})
    assert third.json()["role"] == "owner"


def test_what_exists_is_not_made_anew_nor_what_is_gone_edited(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    path = f"{PREFIX}/grants/alice/{name}"
    gone = desk.ask("root", "PUT", path, {"role": "puller"}, headers={"If-Match": "*"})
    assert (gone.status, gone.problem["present"]) == (412, None)
    seen = desk.ask("root", "PUT", path, {"role": "puller"}).headers["etag"]
    there = desk.ask("root", "PUT", path, {"role": "owner"}, headers={"If-None-Match": "*"})
    assert (there.status, there.problem["present"]["role"]) == (412, "puller")
    desk.ask("root", "DELETE", path)
    assert desk.ask("root", "DELETE", path, headers={"If-Match": seen}).status == 412


def test_a_project_and_a_user_are_edited_on_what_was_seen(each_desk: Desk) -> None:
    desk, name, user = each_desk, each_desk.project(), each_desk.user()
    for path, change in ((f"projects/{name}", {"public": True}), (f"users/{user}", {"auditor": True})):
        seen = desk.ask("root", "GET", f"{PREFIX}/{path}").headers["etag"]
        edited = desk.ask("root", "PATCH", f"{PREFIX}/{path}", change, headers={"If-Match": f'"0", {seen}'})
        assert edited.status == 200
        assert edited.headers["etag"] == desk.ask("root", "GET", f"{PREFIX}/{path}").headers["etag"] != seen
        for method, more in (("PATCH", ""), ("DELETE", "")):
            body = change if method == "PATCH" else None
            stale = desk.ask("root", method, f"{PREFIX}/{path}{more}", body, headers={"If-Match": seen})
            assert (stale.status, stale.problem["present"]["name"]) == (412, path.rpartition("/")[2])
    assert desk.ask("root", "POST", f"{PREFIX}/users/{user}/disable", headers={"If-Match": seen}).status == 412


def test_a_robots_secret_is_changed_on_what_was_seen(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    robots = f"{PREFIX}/projects/{name}/robots"
    desk.ask("root", "POST", robots, {"name": "ci", "role": "pusher"})
    seen = desk.ask("root", "GET", f"{robots}/ci").headers["etag"]
    rotated = desk.ask("root", "POST", f"{robots}/ci/rotate", {"overlap_seconds": 600}, headers={"If-Match": seen})
    assert rotated.status == 200
    assert rotated.headers["etag"] == desk.ask("root", "GET", f"{robots}/ci").headers["etag"] != seen
    anew = desk.ask("root", "POST", f"{robots}/ci/rotate", {}, headers={"If-Match": rotated.headers["etag"]})
    assert anew.headers["etag"] == desk.ask("root", "GET", f"{robots}/ci").headers["etag"]
    seen_last = {"If-Match": anew.headers["etag"]}
    assert desk.ask("root", "POST", f"{robots}/ci/rotate", {"overlap_seconds": 600}, headers=seen_last).status == 200
    for method, more, body in (("POST", "/rotate", {}), ("POST", "/end-overlap", None), ("DELETE", "", None)):
        stale = desk.ask("root", method, f"{robots}/ci{more}", body, headers={"If-Match": seen})
        assert (stale.status, stale.problem["present"]["name"]) == (412, f"{name}+ci")
        assert stale.problem["present"]["former_until"] is not None
    now = desk.ask("root", "GET", f"{robots}/ci").headers["etag"]
    ended = desk.ask("root", "POST", f"{robots}/ci/end-overlap", headers={"If-Match": now})
    assert (ended.status, ended.json()["former_until"]) == (200, None)
    assert desk.ask("root", "DELETE", f"{robots}/ci", headers={"If-Match": ended.headers["etag"]}).status == 204
    assert desk.ask("root", "GET", f"{robots}/ci").status == 404


def test_a_finding_is_marked_on_what_was_seen(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    desk.grant("alice", "puller", name)
    second_over()
    period = {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
    begun = desk.ask("auditor", "POST", f"{PREFIX}/reviews", {**period, "project": name})
    number = begun.json()["findings"][0]["number"]
    path = f"{begun.headers['location']}/findings/{number}"
    seen = desk.ask("auditor", "GET", path).headers["etag"]
    follow = {"mark": "follow_up", "note": "ticket 17"}
    first = desk.ask("root", "PUT", path, follow, headers={"If-Match": seen})
    second = desk.ask("auditor", "PUT", path, {"mark": "fine"}, headers={"If-Match": seen})
    assert (first.status, second.status) == (200, 412)
    told = second.problem["present"]
    assert (told["mark"], told["note"], told["marked_by"]) == ("follow_up", "ticket 17", "root")
    assert second.headers["etag"] == first.headers["etag"] == desk.ask("root", "GET", path).headers["etag"] != seen
    assert desk.ask("auditor", "PUT", path, {"mark": "fine"}, headers={"If-Match": first.headers["etag"]}).status == 200
    assert desk.ask("auditor", "GET", f"{begun.headers['location']}/findings/999").status == 404


@pytest.mark.parametrize("value", ['W/"abc"', "abc", '"abc', '"a" "b"', ",", ""])
def test_what_is_no_entity_tag_is_refused_and_nothing_changes(desk: Desk, value: str) -> None:
    refused = desk.ask("root", "PATCH", f"{PREFIX}/projects/alpha", {"public": True}, headers={"If-Match": value})
    assert (refused.status, refused.problem["field"]) == (400, "If-Match")


def test_whoever_may_not_edit_is_not_told_what_there_is(desk: Desk) -> None:
    refused = desk.ask("alice", "PATCH", f"{PREFIX}/projects/alpha", {"public": True}, headers={"If-Match": '"0"'})
    assert refused.status == 403
    assert "present" not in refused.problem


def test_of_many_who_edit_at_once_on_the_same_sight_one_succeeds(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    path = f"{PREFIX}/projects/{name}"
    seen = desk.ask("root", "GET", path).headers["etag"]

    async def race() -> list[int]:
        edits = [
            desk.asking("root", "PATCH", path, {"read_only": f"reason {number}"}, headers={"If-Match": seen})
            for number in range(10)
        ]
        return [answer.status for answer in await asyncio.gather(*edits)]

    statuses = asyncio.run(race())
    assert sorted(statuses) == [200] + [412] * 9
