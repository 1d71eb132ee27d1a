"""The auditor's job, by programs: the overview, who pulled, what a right would change, a leak, a review signed off."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from gateway.api.routes import PREFIX
from tests.api.desk import Desk, desk_on
from tests.house import second_over


def lately() -> dict[str, str]:
    now = datetime.now(UTC)
    return {"since": (now - timedelta(hours=1)).isoformat(), "until": (now + timedelta(minutes=1)).isoformat()}


def test_a_review_of_the_first_days_that_there_are_finds_nothing_and_does_not_fail(desk: Desk) -> None:
    period = {"since": "0001-01-01T00:00:00Z", "until": "0001-01-03T00:00:00Z"}
    begun = desk.ask("auditor", "POST", f"{PREFIX}/reviews", period)
    assert begun.status == 201
    assert begun.json()["review"]["since"] == "0001-01-01T00:00:00Z"


def test_a_period_is_reviewed_signed_off_and_handed_over(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    desk.grant("alice", "puller", name)
    for _ in range(25):
        desk.ask("alice", "PATCH", f"{PREFIX}/projects/{name}", {"public": True})
    second_over()
    begun = desk.ask("auditor", "POST", f"{PREFIX}/reviews", {**lately(), "project": name})
    assert begun.status == 201
    path, findings = begun.headers["location"], begun.json()["findings"]
    assert {finding["rule"] for finding in findings} >= {"denied_burst"} or findings
    assert desk.ask("auditor", "POST", f"{path}/sign-off", {}).status == 409, "a finding has no mark yet"
    first, *others = [f"{path}/findings/{finding['number']}" for finding in findings]
    unsaid = desk.ask("auditor", "PUT", first, {"mark": "follow_up"})
    assert (unsaid.status, unsaid.problem["field"]) == (400, "note")
    assert desk.ask("auditor", "PUT", first, {"mark": "follow_up", "note": "ask alice"}).json()["note"] == "ask alice"
    for other in others:
        assert desk.ask("auditor", "PUT", other, {"mark": "fine"}).status == 200
    assert desk.ask("auditor", "GET", f"{path}/pack").status == 409, "it is open"
    assert desk.ask("auditor", "POST", f"{path}/sign-off", {"shown": begun.json()["shown"]}).status == 409, (
        "marked since"
    )
    assert desk.ask("auditor", "POST", f"{path}/sign-off", {"shown": "x"}).status == 400
    shown = desk.ask("auditor", "GET", path).json()["shown"]
    signed = desk.ask("auditor", "POST", f"{path}/sign-off", {"note": "seen", "shown": shown}).json()
    assert (signed["signed_by"], len(signed["content"])) == ("auditor", 64)
    pack = desk.ask("auditor", "GET", f"{path}/pack")
    assert pack.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(pack.body)) as archive:
        assert {"README.txt", "review.html", "review.json", "events.jsonl", "verify.py"} <= set(archive.namelist())
        assert hashlib.sha256(archive.read("review.json")).hexdigest() == signed["content"]
    listed = desk.ask("auditor", "GET", f"{PREFIX}/reviews?project={name}").json()["items"]
    assert [review["number"] for review in listed] == [signed["number"]]
    assert desk.ask("oscar", "GET", path).status == 404


def test_the_reviews_are_paged_to_the_oldest_and_filtered(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    second_over()
    for project in ("", name, name, name):
        begun = desk.ask(
            "auditor", "POST", f"{PREFIX}/reviews", {**lately(), **({"project": project} if project else {})}
        )
        assert begun.status == 201
    last = begun.json()["review"]["number"]
    seen, cursor = [], ""
    while cursor is not None:
        page = desk.ask(
            "auditor", "GET", f"{PREFIX}/reviews?open=true&limit=2" + (f"&cursor={cursor}" if cursor else "")
        )
        seen += [each["number"] for each in page.json()["items"]]
        cursor = page.json()["next"]
    assert seen[:4] == [last, last - 1, last - 2, last - 3]
    every = desk.ask("auditor", "GET", f"{PREFIX}/reviews?every_project=true").json()["items"]
    assert {each["project"] for each in every} == {""}
    assert every[0]["number"] == last - 3
    both = desk.ask("auditor", "GET", f"{PREFIX}/reviews?every_project=true&project={name}")
    assert (both.status, both.problem["field"]) == (400, "project")


def test_who_pulled_is_told_by_tag_and_by_digest(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    desk.image(f"{name}/app", "v1")
    desk.grant("bob", "puller", name)
    token = desk.world.widest("bob", f"{name}/app")
    assert desk.world.ask("GET", f"/v2/{name}/app/manifests/v1", token=token).status == 200
    told = desk.ask("auditor", "GET", f"{PREFIX}/audit/who-pulled?target={name}/app:v1").json()
    assert {pull["principal"] for pull in told["pulls"]} == {"bob"}
    by_digest = desk.ask("auditor", "GET", f"{PREFIX}/audit/who-pulled?target={told['digest']}").json()
    assert "bob" in {pull["principal"] for pull in by_digest["pulls"]}
    assert desk.ask("auditor", "GET", f"{PREFIX}/audit/who-pulled?target=nonsense").problem["field"] == "target"
    assert desk.ask("bob", "GET", f"{PREFIX}/audit/who-pulled?target={told['digest']}").status == 403


def test_a_right_is_tried_on_the_requests_that_were_made(each_desk: Desk) -> None:
    desk, name, user = each_desk, each_desk.project(), each_desk.user()
    desk.grant(user, "puller", name)
    desk.ask(user, "PATCH", f"{PREFIX}/projects/{name}", {"public": True})
    body = {"verb": "grant", "principal": user, "reach": name, "role": "owner"}
    [difference] = desk.ask("root", "POST", f"{PREFIX}/audit/replay", body).json()["differences"]
    assert (difference["action"], difference["allowed"], difference["outcome"]) == ("manage", True, "denied")
    assert desk.ask(user, "PATCH", f"{PREFIX}/projects/{name}", {"public": True}).status == 403, "nothing changed"


def test_a_leaked_robot_is_ended_and_what_it_touched_is_told(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    desk.image(f"{name}/app", "v1")
    made = desk.ask("root", "POST", f"{PREFIX}/projects/{name}/robots", {"name": "ci", "role": "puller"}).json()
    answer = desk.world.sign_in(
        f"{name}+ci", f"repository:{name}/app:pull", password=made["secret"], service="registry.test"
    )
    token = str(answer.json()["token"])
    assert desk.world.ask("GET", f"/v2/{name}/app/manifests/v1", token=token).status == 200
    body = {"credential": f"{name}+ci", "since": lately()["since"]}
    planned = desk.ask("auditor", "POST", f"{PREFIX}/audit/leak", {**body, "plan": True}).json()
    assert planned["revoked"] is False
    assert desk.ask("auditor", "POST", f"{PREFIX}/audit/leak", body).status == 403, "an auditor changes nothing"
    told = desk.ask("root", "POST", f"{PREFIX}/audit/leak", body).json()
    assert told["revoked"] is True
    assert [(touched["verb"], touched["repository"]) for touched in told["touched"]] == [("pull", f"{name}/app")]
    assert desk.world.ask("GET", f"/v2/{name}/app/manifests/v1", token=token).status == 401


def test_the_last_administrator_is_ended_by_force_alone(tmp_path: Path) -> None:
    with desk_on(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as desk:
        body = {"credential": "root", "since": lately()["since"]}
        refused = desk.ask("root", "POST", f"{PREFIX}/audit/leak", body)
        assert (refused.status, "another user one first" in refused.body.decode()) == (409, True)
        assert desk.ask("root", "GET", f"{PREFIX}/users").status == 200
        assert desk.ask("root", "POST", f"{PREFIX}/audit/leak", {**body, "force": True}).status == 200
        assert desk.ask("root", "GET", f"{PREFIX}/users").status == 401


def test_a_search_is_looked_at_as_a_whole_and_saved(each_desk: Desk) -> None:
    desk, name = each_desk, each_desk.project()
    seen = desk.ask("auditor", "GET", f"{PREFIX}/audit/overview?project={name}").json()
    assert sum(bucket["allowed"] for bucket in seen["timeline"]["buckets"]) == 1
    path = f"{PREFIX}/audit/searches/{quote('my denials')}"
    saved = desk.ask("auditor", "PUT", path, {"filters": {"outcome": "denied", "since": "24h"}}).json()
    assert saved["filters"] == {"outcome": "denied", "since": "24h"}
    assert [each["name"] for each in desk.ask("auditor", "GET", f"{PREFIX}/audit/searches").json()["items"]] == [
        "my denials"
    ]
    assert desk.ask("root", "GET", f"{PREFIX}/audit/searches").json()["items"] == [], "nobody sees what others have"
    refused = desk.ask("auditor", "PUT", path, {"filters": {"colour": "red"}})
    assert (refused.status, refused.problem["field"]) == (400, "colour")
    assert desk.ask("auditor", "DELETE", path).status == 204
    assert desk.ask("auditor", "DELETE", path).status == 404


def test_an_auditor_reads_accounts_and_access_lists_and_changes_none(desk: Desk) -> None:
    name, user = desk.project(), desk.user()
    desk.grant(user, "puller", f"{name}/ui-*")
    reads = {
        "/users?limit=1000": "account.list",
        f"/users/{user}": "account.show",
        f"/grants?project={name}": "grant.list",
        f"/grants/{user}/{name}%2Fui-*": "grant.list",
        f"/projects/{name}/robots": "robot.list",
        f"/can?principal={user}&action=pull&target={name}/ui-web": "access.ask",
    }
    for path, kind in reads.items():
        answer = desk.ask("auditor", "GET", PREFIX + path)
        assert answer.status == 200, (path, answer.body)
        [told] = desk.events_of(answer)
        assert (told["kind"], told["outcome"], told["principal"]) == (kind, "allowed", "auditor")
        assert (told["action"], told["grant"]) == ("review", "auditor")
        assert desk.ask(user, "GET", PREFIX + path).status in {403, 404}, path
    assert desk.ask("auditor", "GET", f"{PREFIX}/grants?project=nowhere").status == 404
    for method, path, body in (
        ("PATCH", f"/users/{user}", {"auditor": True}),
        ("PUT", f"/grants/{user}/{name}", {"role": "owner"}),
        ("DELETE", f"/grants/{user}/{name}%2Fui-*", None),
        ("POST", f"/projects/{name}/robots", {"name": "ci", "role": "puller"}),
    ):
        assert desk.ask("auditor", method, PREFIX + path, body).status == 403, path


def test_a_token_that_may_manage_reads_what_it_manages(desk: Desk) -> None:
    managing, reviewing = (desk.token("root", actions=(action,)) for action in ("manage", "review"))
    for token, action in ((managing, "manage"), (reviewing, "review")):
        answer = desk.ask("", "GET", f"{PREFIX}/users", token=token)
        assert (answer.status, desk.events_of(answer)[0]["action"]) == (200, action)
    assert desk.ask("", "GET", f"{PREFIX}/users", token=desk.token("root", actions=("pull",))).status == 403
