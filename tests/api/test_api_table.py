"""THE TABLE, row by row: nobody, everybody who may not, everybody who may; and nothing of one project for another's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from gateway.api import openapi, routes
from gateway.api.routes import PREFIX, TABLE, Row
from tests.api.desk import Desk
from tests.house import OPERATOR, second_over

PEOPLE = ("root", "auditor", "olga", "oscar", "alice")
#: From who may most to who may least.
RANKS = ("root", "auditor", "olga", "dave", "alice", "bob", "oscar")
#: Who meets a need on project alpha, said apart from the policy.
MEETS = {
    routes.administrator: {"root"},
    routes.auditor: {"root", "auditor"},
    routes.owner: {"root", "olga"},
    routes.reviewer: {"root", "auditor", "olga"},
    routes.puller: {"root", "olga", "dave", "alice", "bob"},
    routes.deleter: {"root", "olga", "dave"},
    routes.pusher: {"root", "olga", "dave", "alice"},
    routes.asker: {"root", "auditor", "olga"},
    routes.anyone: set(PEOPLE),
    routes.oneself: set(PEOPLE),
    routes.of_user: {"root"},
    routes.looker: {"root", "auditor", "olga"},
    routes.searcher: {"root", "auditor", "olga"},
}
#: Who may know that there is a project alpha.
KNOWS = {"root", "auditor", "olga", "alice", "bob", "dave"}
REPOSITORY = "alpha%2Fapp"
DOCUMENT = json.loads(openapi.document())
STATEMENT = {"type": "checkpoint", "seq": 1, "hash": "0", "time": "", "key": "", "signature": ""}
#: Up to now: what is asked about is of just now.
PERIOD = {"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}


@dataclass(frozen=True, slots=True)
class Try:
    """A request that would be well for a row."""

    target: str
    body: Any = None


def tried(row: Row, event: int, project: str = "alpha") -> Try:
    """A request for *row* about *project*, its robot, its repository, its event."""
    values = {
        "user": "victor",
        "principal": "alice",
        "project": project,
        "robot": "ci",
        "reach": f"{project}%2Fx",
        "repository": f"{project}%2Fapp",
        "tag": "v9",
        "kid": "0",
        "id": str(event) if row.path.startswith("/audit") else "1" if row.path.startswith("/reviews") else "999999",
        "finding": "999999",
        "search": "mine",
        "reference": f"sha256:{'0' * 64}",
    }
    path = row.path
    for name, value in values.items():
        path = path.replace("{" + name + "}", value)
    query = {
        routes.EVENTS: f"?project={project}",
        "/audit/export": f"?repository={project}/app",
        routes.GRANTS: f"?project={project}",
        "/can": f"?principal=alice&action=pull&target={project}/app:v1",
        routes.REPOSITORIES: f"?project={project}",
        routes.USER + "/access": f"?project={project}",
        routes.TRASH: f"?project={project}" if row.method == "GET" else "",
        routes.REVIEWS: f"?project={project}" if row.method == "GET" else "",
        "/audit/overview": f"?project={project}",
        "/audit/who-pulled": f"?target={project}/app:v1",
    }.get(row.path, "")
    bodies: dict[tuple[str, str], Any] = {
        ("POST", routes.USERS): {"name": "newcomer"},
        ("PATCH", routes.USER): {"auditor": False},
        ("POST", routes.USER + "/password"): {},
        ("POST", routes.PROJECTS): {"name": "fresh"},
        ("PATCH", routes.PROJECT): {"public": False},
        ("POST", routes.ROBOTS): {"name": "ci", "role": "puller"},
        ("POST", routes.ROBOT + "/rotate"): {},
        ("PUT", routes.GRANT): {"role": "puller"},
        ("PUT", "/read-only"): {"reason": ""},
        ("PUT", routes.RETENTION): {},
        ("POST", routes.TAG + "/restore"): {},
        ("POST", "/audit/verify-against"): {"checkpoints": [STATEMENT]},
        ("POST", "/audit/replay"): {"verb": "revoke", "principal": "alice", "reach": f"{project}/x"},
        ("POST", "/audit/leak"): {"credential": f"{project}+ci", "since": "2026-01-01T00:00:00Z", "plan": True},
        ("PUT", routes.SEARCHES + "/{search}"): {"filters": {"project": project}},
        ("POST", routes.REVIEWS): {**PERIOD, "project": project},
        ("PUT", routes.FINDING): {"mark": "fine"},
        ("POST", routes.REVIEW + "/sign-off"): {},
    }
    return Try(PREFIX + path + query, bodies.get((row.method, row.path)))


@pytest.fixture(scope="module")
def event(desk: Desk) -> int:
    """The number of an event of project alpha, which has an image and a robot."""
    desk.world.push_image(desk.world.widest("alice", "alpha/app"), "alpha/app", "v1")
    desk.run(desk.acts.accounts.add_user(OPERATOR, "victor", password="correct horse battery"))
    desk.grant("alice", "puller", "alpha/x")
    desk.run(desk.acts.robots.add_robot(OPERATOR, "alpha+ci", "puller", expires=timedelta(days=1)))
    desk.run(desk.acts.evidence.public_key(OPERATOR))
    # Her own review an owner may also mark and sign off. It has whole seconds of her project.
    second_over()
    assert desk.ask("olga", "POST", f"{PREFIX}/reviews", {**PERIOD, "project": "alpha"}).status == 201
    return int(str(desk.world.house.records(project="alpha")[-1]["id"]))


def identify(row: Row) -> str:
    return f"{row.method} {row.path}"


def described(row: Row) -> dict[str, Any]:
    """What the document says of the row's answer."""
    found: dict[str, Any] = DOCUMENT["paths"][row.path][row.method.lower()]["responses"][str(row.status)]
    return found


def meeting(row: Row) -> set[str]:
    """Whoever may ask for what `tried` asks for."""
    # The personal token that it names is nobody's of these.
    return {"root"} if row.path == routes.PERSONAL + "/{id}" else MEETS[row.needs]


def names_one(row: Row) -> bool:
    """Whether its path names, by number, something of a project: whoever may not see that is told it is not there."""
    return row.path == routes.EVENTS + "/{id}" or row.path.startswith(routes.REVIEW)


def is_about_a_project(row: Row) -> bool:
    return row.path in {routes.PROJECT, routes.PROJECT + "/contents"} or row.needs in {
        routes.owner,
        routes.reviewer,
        routes.searcher,
        routes.puller,
        routes.pusher,
        routes.deleter,
        routes.asker,
    }


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_whoever_sends_no_token_is_asked_for_one_and_that_is_no_event(desk: Desk, event: int, row: Row) -> None:
    request = tried(row, event)
    answer = desk.ask("", row.method, request.target, request.body)
    assert (answer.status, answer.problem["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == 'Bearer realm="gateway"'
    assert desk.events_of(answer) == []


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_whoever_may_not_is_refused_and_recorded(desk: Desk, event: int, row: Row) -> None:
    request = tried(row, event)
    for name in PEOPLE:
        if name in meeting(row):
            continue
        answer = desk.ask(name, row.method, request.target, request.body)
        hidden = (is_about_a_project(row) and name not in KNOWS) or names_one(row)
        assert answer.status == (404 if hidden else 403), (name, answer.body)
        [told] = desk.events_of(answer)
        assert (told["kind"], told["outcome"], told["principal"]) == (row.kind.value, "denied", name)
        assert told["reason"] == "no_grant"


@pytest.mark.parametrize("row", TABLE, ids=identify)
def test_whoever_may_is_not_refused_and_that_is_recorded_too(desk: Desk, event: int, row: Row) -> None:
    # What would pull the ground from under other rows is done to something that is not there.
    destroys = row.method == "DELETE" and row.path in {routes.USER, routes.PROJECT, routes.REPOSITORY}
    request = tried(row, event)
    target = request.target
    for name, other in (("victor", "nobody"), ("alpha", "none"), ("app", "none")):
        target = target.replace(name, other) if destroys else target
    # The strongest and the weakest of them.
    for name in sorted({max(meeting(row), key=RANKS.index), min(meeting(row), key=RANKS.index)}):
        if destroys and row.needs is routes.deleter and name != "root":
            continue
        answer = desk.ask(name, row.method, target, request.body)
        assert answer.status not in {400, 401, 403, 405, 415, 500}, (name, answer.body)
        told = desk.events_of(answer)
        assert [(each["kind"], each["principal"]) for each in told] == [(row.kind.value, name)]
        assert told[0]["outcome"] == ("allowed" if answer.status < 400 else "failed"), answer.body
        if answer.status < 400:
            assert answer.status == row.status
            assert ("etag" in answer.headers) == ("ETag" in described(row).get("headers", {})), row


@pytest.mark.parametrize("row", [row for row in TABLE if is_about_a_project(row)], ids=identify)
@pytest.mark.parametrize("name", ["oscar", "mallory"])
def test_nothing_of_a_project_can_be_told_from_nothing_at_all(desk: Desk, event: int, row: Row, name: str) -> None:
    """Every object of alpha, asked for by members of beta: the same answer as for a project that never was."""
    before = desk.run(desk.acts.projects.show_project(OPERATOR, "alpha"))
    there, nowhere = tried(row, event), tried(row, 987_654_321, "nowhere")
    answers = [desk.ask(name, row.method, each.target, each.body) for each in (there, nowhere)]
    assert [answer.status for answer in answers] == [404, 404]
    spelled = [
        {**answer.problem, "request_id": "", "detail": answer.problem["detail"].replace(known, "…")}
        for answer, known in zip(answers, (str(event) if "{id}" in row.path else "alpha", "nowhere"), strict=True)
    ]
    spelled[1]["detail"] = spelled[1]["detail"].replace("987654321", "…")
    assert spelled[0] == spelled[1]
    assert desk.run(desk.acts.projects.show_project(OPERATOR, "alpha")) == before


def test_a_robot_is_reached_through_its_own_project_only(desk: Desk, event: int) -> None:
    desk.ask("olga", "POST", f"{PREFIX}/projects/alpha/robots", {"name": "ci", "role": "puller"})
    for method, path in (("POST", "/rotate"), ("DELETE", ""), ("POST", "/end-overlap")):
        body = {} if path == "/rotate" else None
        answer = desk.ask("oscar", method, f"{PREFIX}/projects/beta/robots/ci{path}", body)
        assert answer.status == 404
        for spelled in ("alpha+ci", "alpha%2Fci", "..%2Falpha%2Bci"):
            answer = desk.ask("oscar", method, f"{PREFIX}/projects/beta/robots/{spelled}{path}", body)
            assert answer.status in {400, 404}
    [robot] = desk.ask("olga", "GET", f"{PREFIX}/projects/alpha/robots").json()["items"]
    assert robot["name"] == "alpha+ci"


def test_somebody_elses_token_does_not_exist_for_others(desk: Desk) -> None:
    alices = desk.ask("alice", "GET", f"{PREFIX}/personal-tokens").json()["items"][0]["id"]
    assert desk.ask("bob", "DELETE", f"{PREFIX}/personal-tokens/{alices}").status in {403, 404}
    assert desk.ask("bob", "GET", f"{PREFIX}/personal-tokens?account=alice").status == 403
    assert desk.ask("bob", "GET", f"{PREFIX}/sessions?account=alice").status == 403
    mine = desk.ask("bob", "GET", f"{PREFIX}/personal-tokens").json()["items"]
    assert {token["account"] for token in mine} == {"bob"}
    assert desk.ask("alice", "GET", f"{PREFIX}/personal-tokens").status == 200


def test_a_list_has_what_its_reader_may_see_and_nothing_more(desk: Desk, event: int) -> None:
    def names(user: str, path: str) -> set[str]:
        return {each["name"] for each in desk.ask(user, "GET", PREFIX + path).json()["items"]}

    assert names("carol", "/projects") == {"beta", "pub"}
    assert names("mallory", "/projects") == {"pub"}
    assert {"alpha", "beta", "pub"} <= names("auditor", "/projects")
    assert names("carol", "/repositories") == set()
    assert names("bob", "/repositories") == {"alpha/app"}
    assert names("carol", "/repositories?project=alpha") == names("carol", "/repositories?project=nowhere") == set()


def test_a_token_opens_no_more_than_it_is_bound_to(desk: Desk, event: int) -> None:
    looking = desk.token("olga", actions=("pull",))
    assert desk.ask("", "GET", f"{PREFIX}/repositories/{REPOSITORY}", token=looking).status == 200
    assert desk.ask("", "GET", f"{PREFIX}/projects/alpha", token=looking).status == 403
    elsewhere = desk.token("root", projects=("beta",))
    assert desk.ask("", "GET", f"{PREFIX}/projects/beta", token=elsewhere).status == 200
    assert desk.ask("", "GET", f"{PREFIX}/projects/alpha", token=elsewhere).status == 404
    assert desk.ask("", "GET", f"{PREFIX}/users", token=elsewhere).status == 403
    assert desk.ask("", "GET", f"{PREFIX}/audit/events", token=elsewhere).status == 403
    listed = desk.ask("", "GET", f"{PREFIX}/projects", token=elsewhere).json()["items"]
    assert [each["name"] for each in listed] == ["beta"]
