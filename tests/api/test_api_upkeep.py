"""What projects keep and have back, who may do what and why, and evidence, through the API and on each database."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, insert

from gateway.api.routes import PREFIX
from gateway.records.evidence_tables import checkpoints as stored
from tests.api.desk import Desk
from tests.records.rows import written


def test_what_is_deleted_is_listed_restored_and_dropped(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    path = f"{PREFIX}/repositories/{desk.image(f'{name}/app', 'v1', 'v2')}"
    digest = desk.ask("root", "GET", f"{path}/tags").json()["items"][0]["digest"]
    assert desk.ask("root", "DELETE", f"{path}/tags/v1").status == 204
    history = desk.ask("root", "GET", f"{path}/tags/v1/history?limit=1").json()
    [removed] = history["items"]
    assert (removed["kind"], removed["before"], removed["restorable"]) == ("tag.delete", digest, True)
    assert history["next"]
    assert desk.ask("root", "POST", f"{path}/tags/v1/restore", {}).json()["digest"] == digest
    foreseen = desk.ask("root", "GET", f"{path}/manifests/{digest}/removal").json()
    assert set(foreseen["tags"]) == {"v1", "v2"}
    assert desk.ask("root", "DELETE", f"{path}/manifests/v1").status == 400, "a tag is not removed as a manifest"
    assert desk.ask("root", "DELETE", f"{path}/manifests/{digest}").status == 204
    listed = desk.ask("root", "GET", f"{path}/trash").json()["items"]
    assert {row["tag"] for row in listed} == {"v1", "v2", ""}
    assert desk.ask("root", "GET", f"{PREFIX}/trash?project={name}").json()["items"] == listed
    assert set(desk.ask("root", "POST", f"{path}/manifests/{digest}/restore").json()["tags"]) == {"v1", "v2"}
    desk.ask("root", "DELETE", f"{path}/manifests/{digest}")
    assert desk.ask("root", "DELETE", f"{path}/trash").json()["count"] == 3
    assert desk.ask("root", "POST", f"{path}/manifests/{digest}/restore").status == 404
    assert desk.ask("root", "GET", f"{path}/trash").json()["items"] == []
    for method in ("GET", "DELETE"):
        said = desk.ask("root", method, f"{PREFIX}/repositories/{name}%2Fmisspelled/trash")
        assert (said.status, f"no repository {name}/misspelled" in said.problem["detail"]) == (404, True)


def test_retention_is_edited_on_what_was_seen_planned_and_applied(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    repository = desk.image(f"{name}/app", "v1", "v2", "w1")
    path = f"{PREFIX}/projects/{name}/retention"
    seen = desk.ask("root", "GET", path)
    assert seen.json() == {"last": None, "matching": [], "within_days": None}
    kept = desk.ask("root", "PUT", path, {"matching": ["v*"]}, headers={"If-Match": seen.headers["etag"]})
    assert kept.status == 200
    stale = desk.ask("root", "PUT", path, {"last": 1}, headers={"If-Match": seen.headers["etag"]})
    assert (stale.status, stale.problem["present"]["matching"]) == (412, ["v*"])
    plan = desk.ask("root", "GET", f"{path}/plan").json()["items"]
    assert [(row["tag"], row["stays"]) for row in plan] == [("v1", True), ("v2", True), ("w1", False)]
    [gone] = desk.ask("root", "POST", f"{path}/apply").json()["items"]
    assert (gone["repository"], gone["tags"]) == (f"{name}/app", ["w1"])
    tags = desk.ask("root", "GET", f"{PREFIX}/repositories/{repository}/tags").json()["items"]
    assert [tag["name"] for tag in tags] == ["v1", "v2"]
    assert desk.ask("root", "PUT", path, {"last": 0}).problem["field"] == "last"


def test_contents_are_told_with_sizes_and_what_is_in_a_manifest(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    path = f"{PREFIX}/repositories/{desk.image(f'{name}/app', 'v1', 'v2')}"
    [entry] = desk.ask("root", "GET", f"{PREFIX}/projects/{name}/contents").json()["items"]
    assert (entry["name"], entry["tags"], entry["size_bytes"] > 0) == (f"{name}/app", 2, True)
    page = desk.ask("root", "GET", f"{path}/contents?limit=1").json()
    assert ([tag["name"] for tag in page["items"]], "platforms" in page["items"][0]) == (["v1"], True)
    following = desk.ask("root", "GET", f"{path}/contents?limit=1&cursor={page['next']}").json()
    assert ([tag["name"] for tag in following["items"]], following["next"]) == (["v2"], None)
    view = desk.ask("root", "GET", f"{path}/manifests/v1").json()
    assert (view["digest"], set(view["tags"])) == (page["items"][0]["digest"], {"v1", "v2"})
    assert view["layers"]


def test_access_is_explained_from_both_ends_and_of_oneself(each_desk: Desk) -> None:
    desk, name, user = each_desk, each_desk.project(), each_desk.user()
    desk.grant(user, "pusher", f"{name}/ui-*")
    rights = desk.ask(user, "GET", f"{PREFIX}/users/{user}/access").json()["rights"]
    assert [right["why"] for right in rights] == [f"pusher on {name}/ui-*", "public project"]
    who = desk.ask("auditor", "GET", f"{PREFIX}/repositories/{name}%2Fui-web/access").json()
    [holder] = who["items"]
    assert {power["action"] for power in holder["actions"] if power["may"]} == {"pull", "push"}
    assert "root" in who["administrators"]
    other = desk.ask("auditor", "GET", f"{PREFIX}/repositories/{name}%2Fweb/access/{user}").json()
    assert not any(power["may"] for power in other["actions"])
    assert other["idle"][0]["grant"] == f"pusher on {name}/ui-*"


def test_of_oneself_no_project_is_told_that_one_may_not_know_of(each_desk: Desk) -> None:
    asked = [f"{PREFIX}/users/mallory/access?project={name}" for name in ("alpha", "nowhere")]
    there, nowhere = (each_desk.ask("mallory", "GET", target) for target in asked)
    assert (there.status, nowhere.status) == (404, 404)
    assert there.problem["detail"].replace("alpha", "nowhere") == nowhere.problem["detail"]
    narrow = each_desk.token("alice", actions=("pull",), projects=("alpha",))
    assert each_desk.ask("", "GET", f"{PREFIX}/users/alice/access", token=narrow).status == 403


def test_a_checkpoint_is_made_listed_and_held_against_the_trail(each_desk: Desk) -> None:
    desk = each_desk
    refused = desk.ask("alice", "POST", f"{PREFIX}/audit/checkpoints")
    assert [(event["kind"], event["outcome"]) for event in desk.events_of(refused)] == [("audit.checkpoint", "denied")]
    key = desk.ask("auditor", "GET", f"{PREFIX}/audit/key").json()
    made = desk.ask("auditor", "POST", f"{PREFIX}/audit/checkpoints").json()
    later = desk.ask("auditor", "POST", f"{PREFIX}/audit/checkpoints").json()
    page = desk.ask("auditor", "GET", f"{PREFIX}/audit/checkpoints?limit=1").json()
    assert page["items"] == [later]
    older = desk.ask("auditor", "GET", f"{PREFIX}/audit/checkpoints?limit=1&cursor={page['next']}").json()
    assert older["items"] == [made]
    body = {"checkpoints": [made["statement"]], "key": key["pem"]}
    path = f"{PREFIX}/audit/verify-against"
    assert desk.ask("auditor", "POST", path, body).json()["whole"] is True
    forged = {"checkpoints": [{**made["statement"], "hash": "0" * 64}], "key": key["pem"]}
    assert "signature" in desk.ask("auditor", "POST", path, forged).json()["fault"]
    assert desk.ask("auditor", "POST", path, {**body, "key": "none"}).problem["field"] == "key"
    assert desk.ask("auditor", "POST", path, {"checkpoints": [{}]}).problem["field"] == "checkpoints[0]"
    assert desk.ask("auditor", "GET", f"{PREFIX}/audit/sinks").json() == {"items": [], "next": None}


FORGED = ["{}", "", "null", '{"type":"checkpoint"', "[" * 5000]


@pytest.mark.parametrize("line", FORGED)
def test_a_row_that_is_no_checkpoint_is_listed_as_one_that_says_nothing(each_desk: Desk, line: str) -> None:
    desk = each_desk
    made = desk.ask("auditor", "POST", f"{PREFIX}/audit/checkpoints").json()
    forged = {"number": 2**40, "seq": 10**12, "made_at": 2**62, "line": line}
    written(desk.world.house, lambda connection: connection.execute(insert(stored).values(forged)))

    page = desk.ask("auditor", "GET", f"{PREFIX}/audit/checkpoints?limit=1").json()
    [item] = page["items"]
    assert (item["number"], item["seq"], item["line"], item["statement"]) == (2**40, 10**12, line, {})
    older = desk.ask("auditor", "GET", f"{PREFIX}/audit/checkpoints?limit=1&cursor={page['next']}").json()
    assert older["items"] == [made]
    body = {"checkpoints": [item["statement"]]}
    assert desk.ask("auditor", "POST", f"{PREFIX}/audit/verify-against", body).problem["field"] == "checkpoints[0]"
    written(desk.world.house, lambda connection: connection.execute(delete(stored).where(stored.c.number == 2**40)))


def test_a_leaked_personal_token_alone_is_ended(each_desk: Desk) -> None:
    desk, user = each_desk, each_desk.user()
    leaked = desk.token(user, actions=("pull",))
    number = desk.ask(user, "GET", f"{PREFIX}/personal-tokens").json()["items"][-1]["id"]
    body = {"credential": f"personal:{number}", "since": "2026-01-01T00:00:00Z"}
    told = desk.ask("root", "POST", f"{PREFIX}/audit/leak", body).json()
    assert (told["revoked"], told["principal"]) == (True, user)
    assert desk.ask("", "GET", f"{PREFIX}/projects", token=leaked).status == 401
    assert desk.ask(user, "GET", f"{PREFIX}/projects").status == 200, "the other one is as it was"
    assert desk.ask("root", "POST", f"{PREFIX}/audit/leak", {**body, "credential": "personal:999999"}).status == 404
