"""What can be done with each thing through the API, on each database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.api.routes import PREFIX
from gateway.records.listings import tag_summaries
from tests.api.desk import Desk
from tests.house import OPERATOR

USERS, PROJECTS, GRANTS = f"{PREFIX}/users", f"{PREFIX}/projects", f"{PREFIX}/grants"


def test_a_user_is_added_shown_changed_suspended_and_removed(each_desk: Desk) -> None:
    desk = each_desk
    made = desk.ask("root", "POST", USERS, {"name": "jane.doe", "auditor": True})
    assert (made.status, made.headers["location"]) == (201, f"{USERS}/jane.doe")
    assert made.json()["name"] == "jane.doe"
    assert len(made.json()["secret"]) > 20
    shown = desk.ask("root", "GET", f"{USERS}/jane.doe")
    assert (shown.json()["user"]["auditor"], shown.json()["grants"]) == (True, [])
    changed = desk.ask("root", "PATCH", f"{USERS}/jane.doe", {"auditor": False})
    assert (changed.json()["auditor"], changed.json()["administrator"]) == (False, False)
    assert desk.ask("root", "POST", f"{USERS}/jane.doe/disable").json()["enabled"] is False
    assert desk.ask("root", "POST", f"{USERS}/jane.doe/enable").json()["enabled"] is True
    chosen = desk.ask("root", "POST", f"{USERS}/jane.doe/password", {"password": "correct horse battery"})
    assert chosen.json()["secret"] is None
    assert desk.ask("root", "DELETE", f"{USERS}/jane.doe").status == 204
    assert desk.ask("root", "GET", f"{USERS}/jane.doe").problem["code"] == "UNKNOWN"


def test_a_name_that_is_taken_or_is_none_is_refused_with_what_to_do(each_desk: Desk) -> None:
    assert each_desk.ask("root", "POST", USERS, {"name": "alice"}).problem["code"] == "CONFLICT"
    refused = each_desk.ask("root", "POST", USERS, {"name": "Not A Name"})
    assert (refused.status, "lower-case letters" in refused.problem["detail"]) == (400, True)
    assert each_desk.ask("root", "POST", USERS, {"name": "operator"}).status == 400


def test_a_project_has_rules_that_are_set_and_taken_away_one_by_one(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    desk.grant("olga", "owner", name)
    path = f"{PROJECTS}/{name}"
    rules = {"quota_bytes": 10_000, "immutable": ["v*", "release-*"], "read_only": "moving"}
    assert desk.ask("root", "PATCH", path, rules).json().items() >= rules.items()
    kept = desk.ask("olga", "PATCH", path, {"public": True}).json()
    assert (kept["public"], kept["quota_bytes"], kept["read_only"]) == (True, 10_000, "moving")
    assert desk.ask("olga", "PATCH", path, {"quota_bytes": 5}).status == 403, "the quota is an administrator's"
    cleared = desk.ask("root", "PATCH", path, {"quota_bytes": None, "immutable": [], "read_only": ""}).json()
    assert (cleared["quota_bytes"], cleared["immutable"], cleared["read_only"]) == (None, [], "")
    assert desk.ask("root", "PATCH", path, {}).status == 400
    shown = desk.ask("olga", "GET", path).json()
    assert [grant["principal"] for grant in shown["grants"]] == ["olga"]


def test_a_project_that_holds_content_goes_by_force_only(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    desk.image(f"{name}/app", "v1")
    assert desk.ask("root", "DELETE", f"{PROJECTS}/{name}").problem["code"] == "CONFLICT"
    assert desk.ask("root", "DELETE", f"{PROJECTS}/{name}?force=perhaps").problem["field"] == "force"
    assert desk.ask("root", "DELETE", f"{PROJECTS}/{name}?force=true").status == 204
    assert desk.ask("root", "GET", f"{PROJECTS}/{name}").status == 404


def test_a_robot_is_added_rotated_with_two_live_secrets_and_removed(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    path = f"{PROJECTS}/{name}/robots"
    made = desk.ask("root", "POST", path, {"name": "ci", "role": "pusher", "expires_in_seconds": 3600})
    assert (made.status, made.json()["name"]) == (201, f"{name}+ci")
    ends = datetime.fromisoformat(made.json()["expires"])
    assert timedelta(minutes=50) < ends - datetime.now(UTC) < timedelta(minutes=61)
    rotated = desk.ask("root", "POST", f"{path}/ci/rotate", {"overlap_seconds": 600}).json()
    assert rotated["secret"] != made.json()["secret"]
    [listed] = desk.ask("root", "GET", path).json()["items"]
    assert listed["former_until"] is not None
    assert desk.ask("root", "POST", f"{path}/ci/end-overlap").json()["former_until"] is None
    assert desk.ask("root", "DELETE", f"{path}/ci").status == 204
    assert desk.ask("root", "GET", path).json() == {"items": [], "next": None}
    assert desk.ask("root", "POST", path, {"name": "ci", "role": "king"}).problem["field"] == "role"


def test_a_grant_is_given_listed_asked_about_and_taken(each_desk: Desk) -> None:
    desk, name, user = each_desk, each_desk.project(), each_desk.user()
    path = f"{GRANTS}/{user}/{name}%2Fui-*"
    given = desk.ask("root", "PUT", path, {"role": "pusher", "expires_in_seconds": 3600})
    assert (given.status, given.json()["reach"]) == (200, f"{name}/ui-*")
    assert desk.ask("root", "GET", path).json() == given.json()
    assert desk.ask("root", "GET", f"{GRANTS}?project={name}").json()["items"] == [given.json()]
    assert desk.ask("root", "GET", f"{GRANTS}?principal={user}").json()["items"] == [given.json()]
    question = f"{PREFIX}/can?principal={user}&action=push&target={name}"
    assert desk.ask("root", "GET", f"{question}/ui-web:v1").json() == {
        "allowed": True,
        "why": f"pusher on {name}/ui-*",
    }
    assert desk.ask("root", "GET", f"{question}/other").json()["allowed"] is False
    assert desk.ask("root", "DELETE", path).status == 204
    assert desk.ask("root", "DELETE", path).status == 404
    assert desk.ask("root", "GET", f"{question}/ui-web").json()["allowed"] is False


def test_repositories_and_tags_are_listed_and_removed(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    app = desk.image(f"{name}/app/web", "v1", "v2")
    path = f"{PREFIX}/repositories/{app}"
    shown = desk.ask("root", "GET", path).json()
    assert (shown["name"], shown["tags"], shown["project"]) == (f"{name}/app/web", 2, name)
    tags = desk.ask("root", "GET", f"{path}/tags").json()["items"]
    assert [(tag["name"], tag["moved_by"]) for tag in tags] == [("v1", "root"), ("v2", "root")]
    assert desk.ask("root", "DELETE", f"{path}/tags/v1").status == 204
    assert desk.ask("root", "DELETE", f"{path}/tags/v1").problem["code"] == "MANIFEST_UNKNOWN"
    assert [tag["name"] for tag in desk.ask("root", "GET", f"{path}/tags").json()["items"]] == ["v2"]
    desk.ask("root", "PATCH", f"{PROJECTS}/{name}", {"immutable": ["v*"]})
    kept = desk.ask("root", "DELETE", f"{path}/tags/v2")
    assert (kept.status, kept.problem["more"]["pattern"]) == (409, "v*")
    desk.ask("root", "PATCH", f"{PROJECTS}/{name}", {"immutable": []})
    assert desk.ask("root", "DELETE", path).status == 204
    assert desk.ask("root", "GET", path).status == 404


def test_the_trail_is_searched_shown_exported_and_verified(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    desk.ask("root", "PATCH", f"{PROJECTS}/{name}", {"public": True})
    desk.ask("mallory", "DELETE", f"{PROJECTS}/{name}")
    denied = desk.ask("auditor", "GET", f"{PREFIX}/audit/events?project={name}&outcome=denied").json()["items"]
    assert [(event["kind"], event["principal"]) for event in denied] == [("project.remove", "mallory")]
    one = desk.ask("auditor", "GET", f"{PREFIX}/audit/events/{denied[0]['id']}").json()
    assert one == denied[0]
    exported = desk.ask("auditor", "GET", f"{PREFIX}/audit/export?project={name}&kind=project.*")
    assert exported.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in exported.body.splitlines()]
    assert [line["kind"] for line in lines] == ["project.add", "project.set", "project.remove"]
    assert lines[-1] == one
    whole = desk.ask("auditor", "POST", f"{PREFIX}/audit/verify").json()
    assert (whole["whole"], whole["fault"]) == (True, None)
    assert whole["count"] > 10


def test_a_filter_that_cannot_be_is_named(each_desk: Desk) -> None:
    for query, field in (
        ("kind=nothing.such", "kind"),
        ("since=yesterday", "since"),
        ("since=2026-01-01", "since"),
        ("outcome=maybe", "outcome"),
        ("colour=red", "colour"),
        ("limit=0", "limit"),
        ("limit=ten", "limit"),
        ("limit=5000", "limit"),
    ):
        refused = each_desk.ask("root", "GET", f"{PREFIX}/audit/events?{query}")
        assert (refused.status, refused.problem["field"]) == (400, field), refused.body


def test_events_are_found_by_their_time(each_desk: Desk) -> None:
    desk = each_desk
    future = "2999-01-01T00:00:00%2B02:00"
    assert desk.ask("root", "GET", f"{PREFIX}/audit/events?since={future}").json()["items"] == []
    assert desk.ask("root", "GET", f"{PREFIX}/audit/events?until={future}&limit=3").json()["next"]


def test_personal_tokens_are_seen_and_revoked_and_none_is_made(each_desk: Desk) -> None:
    desk, user = each_desk, each_desk.user()
    secret = desk.token(user, actions=("pull",), projects=("alpha",))
    mine = desk.ask(user, "GET", f"{PREFIX}/personal-tokens").json()["items"]
    bound = mine[-1]
    assert (bound["actions"], bound["projects"]) == (["pull"], ["alpha"])
    assert secret.encode() not in desk.ask(user, "GET", f"{PREFIX}/personal-tokens").body
    assert desk.ask("", "GET", f"{PREFIX}/projects", token=secret).status == 200
    assert desk.ask("root", "GET", f"{PREFIX}/personal-tokens?account={user}").json()["items"][-1] == bound | {
        "used": desk.ask("root", "GET", f"{PREFIX}/personal-tokens?account={user}").json()["items"][-1]["used"]
    }
    assert desk.ask(user, "DELETE", f"{PREFIX}/personal-tokens/{bound['id']}").status == 204
    over = desk.ask("", "GET", f"{PREFIX}/projects", token=secret)
    assert (over.status, over.headers["www-authenticate"]) == (401, 'Bearer realm="gateway", error="invalid_token"')
    assert desk.ask(user, "POST", f"{PREFIX}/personal-tokens", {"name": "x"}).status == 405
    assert desk.ask("root", "DELETE", f"{USERS}/{user}/personal-tokens").json()["count"] == 1
    assert desk.ask(user, "GET", f"{PREFIX}/projects").status == 401


def test_the_gateway_is_made_read_only_and_writable_again(each_desk: Desk) -> None:
    desk = each_desk
    path = f"{PREFIX}/read-only"
    assert desk.ask("root", "PUT", path, {"reason": "a new disk"}).status == 204
    told = desk.ask("auditor", "GET", path).json()
    assert (told["read_only"], told["reason"]) == (True, "a new disk")
    assert desk.ask("root", "PUT", path, {"reason": ""}).status == 204
    assert desk.ask("auditor", "GET", path).json()["since"] is None


def test_signing_keys_are_listed_rotated_and_revoked(each_desk: Desk) -> None:
    desk = each_desk
    rotated = desk.ask("root", "POST", f"{PREFIX}/keys/rotate").json()
    assert rotated["state"] == "current"
    keys = {key["kid"]: key["state"] for key in desk.ask("root", "GET", f"{PREFIX}/keys").json()["items"]}
    previous = next(kid for kid, state in keys.items() if state == "previous")
    assert desk.ask("root", "POST", f"{PREFIX}/keys/{previous}/revoke").status == 204
    assert desk.ask("root", "POST", f"{PREFIX}/keys/{previous}/revoke").status == 409
    assert desk.ask("root", "POST", f"{PREFIX}/keys/nothing/revoke").status == 404


def test_offline_tokens_are_listed_and_revoked(each_desk: Desk) -> None:
    desk = each_desk
    desk.world.sign_in("bob", service="registry.test", offline_token="true", client_id="docker")
    [kept] = desk.ask("root", "GET", f"{PREFIX}/offline-tokens?principal=bob").json()["items"]
    assert (kept["principal"], kept["client"]) == ("bob", "docker")
    assert desk.ask("root", "DELETE", f"{PREFIX}/offline-tokens/{kept['id']}").status == 204
    assert desk.ask("root", "DELETE", f"{USERS}/bob/offline-tokens").json() == {"count": 0}


def test_repositories_come_in_pages_of_what_may_be_pulled(each_desk: Desk) -> None:
    desk, name, user = each_desk, each_desk.project(), each_desk.user()
    for number in range(5):
        desk.image(f"{name}/ui-{number}", "v1")
        desk.image(f"{name}/web-{number}", "v1")
    desk.grant(user, "puller", f"{name}/ui-*")

    def pages(who: str, limit: int, project: str = "") -> list[list[str]]:
        found: list[list[str]] = []
        cursor: str | None = ""
        while cursor is not None:
            query = f"limit={limit}{project}" + (f"&cursor={cursor}" if cursor else "")
            page = desk.ask(who, "GET", f"{PREFIX}/repositories?{query}").json()
            found.append([each["name"] for each in page["items"]])
            cursor = page["next"]
        return found

    mine = [f"{name}/ui-{number}" for number in range(5)]
    assert pages(user, 2) == [mine[:2], mine[2:4], mine[4:]]
    assert pages(user, 5) == [mine]
    every = [each for page in pages("root", 3, f"&project={name}") for each in page]
    assert every == [*mine, *(f"{name}/web-{number}" for number in range(5))]
    listed = desk.run(desk.acts.repositories.list_repositories(OPERATOR))
    assert sorted(each for page in pages("root", 7) for each in page) == sorted(row.name for row in listed)
    bound = desk.token("root", projects=(name,))
    answer = desk.ask("", "GET", f"{PREFIX}/repositories", token=bound)
    assert [each["name"] for each in answer.json()["items"]] == every


def test_tags_come_in_pages_and_only_those_of_a_page_are_read(each_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, name = each_desk, each_desk.project()
    wanted = sorted(["v1", "v2", "v10", "V1", "_", "latest", "1.0"])
    for tag in wanted:
        desk.image(f"{name}/ui", tag)
    read: list[int] = []

    def counted(*arguments: Any) -> list[Any]:
        found = tag_summaries(*arguments)
        read.append(len(found))
        return found

    monkeypatch.setattr("gateway.administration.repositories.tag_summaries", counted)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = "limit=3" + (f"&cursor={cursor}" if cursor else "")
        page = desk.ask("root", "GET", f"{PREFIX}/repositories/{name}%2Fui/tags?{query}").json()
        found += [each["name"] for each in page["items"]]
        cursor = page["next"]
    assert found == wanted
    assert read == [4, 4, 1]
    assert desk.ask("root", "GET", f"{PREFIX}/repositories/{name}%2Fnone/tags").status == 404
