"""`/token`: who signs in how, what is granted, and what clients need the answer to look like."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import func, select

from gateway.records.schema import attempts
from tests.house import OPERATOR
from tests.protocol.harness import PASSWORD, SERVICE, Answer, World, basic

FORM = "application/x-www-form-urlencoded"


def post(world: World, *fields: tuple[str, str], media_type: str = FORM, address: str = "192.0.2.10") -> Answer:
    body = urlencode(fields).encode()
    return world.ask("POST", "/token", body=body, headers={"Content-Type": media_type}, address=address)


def password_grant(name: str, password: str = PASSWORD, **more: str) -> list[tuple[str, str]]:
    fields = {"grant_type": "password", "username": name, "password": password, "service": SERVICE, **more}
    return list(fields.items())


def granted(world: World, answer: Answer) -> dict[str, set[str]]:
    """What the token in *answer* carries, by repository."""
    bearer = world.registry.parts.tokens.verify(answer.json()["token"], datetime.now(UTC))
    return {name: {action.value for action in actions} for name, actions in bearer.access.repositories.items()}


def test_an_answer_is_exactly_what_every_client_reads(world: World) -> None:
    answer = world.sign_in("alice", "repository:alpha/app:pull", service=SERVICE)
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    told = answer.json()
    assert told["token"] == told["access_token"]
    assert told["expires_in"] == 300
    issued = datetime.strptime(told["issued_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - issued) < timedelta(seconds=10)
    assert "refresh_token" not in told
    assert len(answer.body) < 8192


def test_scopes_may_be_repeated_and_joined_by_spaces_and_overlap(world: World) -> None:
    answer = world.sign_in(
        "alice", "repository:alpha/a:pull repository:alpha/b:push,pull", "repository:alpha/a:push", service=SERVICE
    )
    assert granted(world, answer) == {"alpha/a": {"pull", "push"}, "alpha/b": {"pull", "push"}}


@pytest.mark.parametrize(
    ("client", "actions", "seconds"),
    [("containerd-client", "pull,push", 900), ("containerd-client", "pull", 300), ("docker", "pull,push", 300)],
)
def test_containerd_which_keeps_one_token_for_a_whole_push_gets_one_that_lasts(
    world: World, client: str, actions: str, seconds: int
) -> None:
    told = post(world, *password_grant("alice", scope=f"repository:alpha/app:{actions}", client_id=client)).json()
    assert told["expires_in"] == seconds
    parts = world.registry.parts
    until = parts.tokens.verify(told["access_token"], datetime.now(UTC)).expires_at
    assert abs((until - datetime.now(UTC)).total_seconds() - seconds) < 10


def test_containerd_gets_no_longer_token_for_a_push_it_may_not_make(world: World) -> None:
    form = password_grant("bob", scope="repository:alpha/app:pull,push", client_id="containerd-client")
    assert post(world, *form).json()["expires_in"] == 300


def test_a_puller_who_asks_for_everything_is_given_pull(world: World) -> None:
    answer = world.sign_in("bob", "repository:alpha/app:pull,push,delete,*", service=SERVICE)
    assert granted(world, answer) == {"alpha/app": {"pull"}}


def test_a_star_asks_for_what_one_may_and_is_never_copied(world: World) -> None:
    answer = world.sign_in("dave", "repository:alpha/app:*", service=SERVICE)
    assert granted(world, answer) == {"alpha/app": {"pull", "push", "delete"}}


@pytest.mark.parametrize(
    "scope",
    ["", "nonsense", "repository:ALPHA/app:pull", "repository:alpha/*:pull", "registry:other:*", "a:b:c:d", "::", "é"],
)
def test_scopes_that_mean_nothing_are_ignored(world: World, scope: str) -> None:
    answer = world.sign_in("alice", scope, "repository:alpha/app:pull", service=SERVICE)
    assert answer.status == 200
    assert granted(world, answer) == {"alpha/app": {"pull"}}


def test_a_class_of_repository_is_a_repository(world: World) -> None:
    answer = world.sign_in("alice", "repository(plugin):alpha/app:pull", service=SERVICE)
    assert granted(world, answer) == {"alpha/app": {"pull"}}


def test_at_most_ten_scopes_are_honoured(world: World) -> None:
    answer = world.sign_in("alice", *(f"repository:alpha/r{n}:pull" for n in range(30)), service=SERVICE)
    assert len(granted(world, answer)) == 10


def test_nothing_granted_is_an_empty_token_and_no_error(world: World) -> None:
    answer = world.sign_in("mallory", "repository:alpha/app:pull,push", service=SERVICE)
    assert answer.status == 200
    assert granted(world, answer) == {}


def test_nobody_may_pull_what_is_public_and_nothing_else(world: World) -> None:
    answer = world.sign_in("", "repository:pub/x:pull,push", "repository:alpha/app:pull", service=SERVICE)
    assert granted(world, answer) == {"pub/x": {"pull"}}


def test_basic_with_nothing_in_it_is_not_taken_for_nobodys(world: World) -> None:
    answer = world.ask("GET", "/token?scope=repository:pub/x:pull", headers={"Authorization": basic("", "")})
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


def test_project_names_are_compared_whole(world: World) -> None:
    answer = world.sign_in(
        "bob", "repository:alpha2/x:pull", "repository:alpha-x/y:pull", "repository:alpha/sub/z:pull", service=SERVICE
    )
    assert granted(world, answer) == {"alpha/sub/z": {"pull"}}


def test_a_missing_or_empty_service_means_ours_and_a_wrong_one_is_refused(world: World) -> None:
    assert world.sign_in("alice").status == 200
    assert world.sign_in("alice", service="").status == 200
    assert world.sign_in("alice", service="elsewhere").status == 400
    assert post(world, *password_grant("alice", service="elsewhere")).status == 400


def test_parameters_that_are_not_known_are_ignored(world: World) -> None:
    assert world.sign_in("alice", service=SERVICE, ns="docker.io", origin="x", client_id="docker").status == 200


def test_the_account_must_be_who_signs_in(world: World) -> None:
    assert world.sign_in("alice", account="alice", service=SERVICE).status == 200
    with world.watching() as seen:
        answer = world.sign_in("alice", account="root", service=SERVICE)
    assert answer.status == 401
    assert [(event["kind"], event["reason"], event["principal"]) for event in seen] == [
        ("account.sign_in", "account_mismatch", "alice")
    ]


def test_a_robot_signs_in_under_either_spelling_of_its_name(world: World) -> None:
    secret = world.house.run(world.acts.robots.add_robot(OPERATOR, "alpha+ci", "pusher")).secret
    for name in ("alpha+ci", "alpha/ci"):
        answer = world.sign_in(name, "repository:alpha/app:pull,push", password=secret, account="alpha+ci")
        assert granted(world, answer) == {"alpha/app": {"pull", "push"}}
    assert "refresh_token" not in world.sign_in("alpha+ci", password=secret, offline_token="true").json()


def test_wrong_unknown_and_disabled_are_one_answer(world: World) -> None:
    world.house.run(world.acts.accounts.disable(OPERATOR, "carol"))
    try:
        answers = [
            world.sign_in("bob", password="wrong horse battery"),
            world.sign_in("nobody", password="any"),
            world.sign_in("carol"),
            world.sign_in("bob", password=""),
            world.sign_in("bob", password="x" * 300),
            world.sign_in("bob", password="nul\0nul"),
        ]
    finally:
        world.house.run(world.acts.accounts.enable(OPERATOR, "carol"))
    assert {answer.status for answer in answers} == {401}
    assert len({(answer.body, str(answer.told)) for answer in answers}) == 1
    assert answers[0].code == "UNAUTHORIZED"
    assert answers[0].header("www-authenticate") == ""


@pytest.mark.parametrize(
    "value",
    [
        "Basic !!!",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Basic",
        "Bearer x.y.z",
        "Basic " + "A" * 8000,
        "é",
    ],
)
def test_a_credential_that_cannot_be_read_is_refused_and_never_taken_for_none(world: World, value: str) -> None:
    with world.watching() as seen:
        answer = world.ask("GET", "/token", headers={"Authorization": value}, address="192.0.2.99")
    assert answer.status == 401
    assert [event["outcome"] for event in seen] == ["denied"]


def test_two_credentials_or_a_damaged_one_are_refused_even_if_right(world: World) -> None:
    right = basic("alice", PASSWORD)
    both = world.ask("GET", "/token", headers=[("Authorization", right), ("Authorization", right)])
    damaged = world.ask("GET", "/token", headers={"Authorization": right[:12] + "!" + right[12:]})
    assert (both.status, damaged.status) == (401, 401)


def test_a_failed_sign_in_is_counted_where_every_process_sees_it(world: World) -> None:
    def failures() -> int:
        return int(
            world.house.database.read_now(
                lambda connection: connection.execute(select(func.coalesce(func.sum(attempts.c.failures), 0))).scalar()
            )
        )

    before = failures()
    headers = {"Authorization": basic("dave", "wrong horse battery")}
    assert world.ask("GET", "/token", headers=headers, address="203.0.113.77").status == 401
    assert failures() > before


def test_signing_in_and_the_token_are_recorded_in_that_order_with_wanted_and_granted(world: World) -> None:
    with world.watching() as seen:
        world.sign_in("bob", "repository:alpha/app:pull,push", service=SERVICE)
    assert [(event["kind"], event["outcome"], event["principal"]) for event in seen] == [
        ("account.sign_in", "allowed", "bob"),
        ("token.issue", "allowed", "bob"),
    ]
    detail: dict[str, Any] = seen[1]["detail"]
    assert detail["wanted"] == ["repository:alpha/app:pull,push"]
    assert detail["granted"] == ["repository:alpha/app:pull"]


def test_a_token_for_nobody_is_recorded_and_is_no_sign_in(world: World) -> None:
    with world.watching() as seen:
        world.sign_in("", "repository:pub/x:pull")
    assert [(event["kind"], event["principal"]) for event in seen] == [("token.issue", "anonymous")]


def test_a_refused_sign_in_is_recorded_under_the_name_that_was_claimed(world: World) -> None:
    with world.watching() as seen:
        world.sign_in("dave", password="wrong horse battery", address_hint="1")
    [event] = seen
    assert (event["kind"], event["outcome"], event["principal"]) == ("account.sign_in", "denied", "dave")
    assert (event["principal_kind"], event["principal_id"]) == ("anonymous", 0)
    assert "wrong horse" not in str(event)


def test_many_wrong_passwords_are_throttled_for_right_ones_too_but_not_from_elsewhere(world: World) -> None:
    def try_it(password: str, address: str) -> Answer:
        headers = {"Authorization": basic("bob", password)}
        return world.ask("GET", "/token", headers=headers, address=address)

    answers = [try_it(f"guess {n}", "198.51.100.1") for n in range(8)]
    assert [answer.status for answer in answers[:5]] == [401] * 5
    assert answers[-1].status == 429
    assert answers[-1].header("retry-after").isdigit()
    assert answers[-1].code == "TOOMANYREQUESTS"
    with world.watching() as seen:
        right = try_it(PASSWORD, "198.51.100.1")
        wrong = try_it("guess", "198.51.100.1")
    assert (right.status, right.body) == (wrong.status, wrong.body)
    assert seen == [], "a flood is counted, not written down one by one"
    assert any(event.get("reason") == "throttled" for event in world.records(kind="account.sign_in"))
    assert try_it(PASSWORD, "198.51.100.2").status == 200


# offline tokens


def test_an_offline_token_is_given_when_asked_for_and_signs_in_every_way(world: World) -> None:
    answer = world.sign_in("alice", service=SERVICE, account="alice", client_id="docker", offline_token="true")
    offline = answer.json()["refresh_token"]
    scope = "repository:alpha/app:pull,push"
    refreshed = post(
        world,
        ("grant_type", "refresh_token"),
        ("refresh_token", offline),
        ("service", SERVICE),
        ("client_id", "docker"),
        ("scope", scope),
    )
    assert refreshed.status == 200
    assert granted(world, refreshed) == {"alpha/app": {"pull", "push"}}
    assert refreshed.json().get("refresh_token", offline) == offline
    nameless = world.ask("GET", f"/token?scope={scope}", headers={"Authorization": basic("", offline)})
    assert granted(world, nameless) == {"alpha/app": {"pull", "push"}}
    [row] = world.house.run(world.acts.offline_tokens.list_tokens(OPERATOR, "alice"))
    assert (row.client, row.address) == ("docker", "192.0.2.10")
    assert row.used_at is not None
    world.house.run(world.acts.offline_tokens.revoke_token(OPERATOR, row.id))
    revoked = post(world, ("grant_type", "refresh_token"), ("refresh_token", offline), ("service", SERVICE))
    assert revoked.status == 401
    assert world.ask("GET", "/token", headers={"Authorization": basic("", offline)}).status == 401


def test_nobody_is_given_an_offline_token(world: World) -> None:
    assert "refresh_token" not in world.sign_in("", service=SERVICE, offline_token="true").json()


def test_sign_in_and_offline_token_are_recorded_together_and_never_its_text(world: World) -> None:
    with world.watching() as seen:
        answer = post(world, *password_grant("dave", access_type="offline", client_id="helm\0\x1b"))
    offline = answer.json()["refresh_token"]
    assert [event["kind"] for event in seen if event["kind"] in {"account.sign_in", "token.issue"}] == [
        "account.sign_in",
        "token.issue",
    ]
    [number] = [row.id for row in world.house.run(world.acts.offline_tokens.list_tokens(OPERATOR, "dave"))]
    assert seen[-1]["detail"] | {"id": ""} == {
        "id": "",
        "wanted": [],
        "granted": [],
        "offline_token": number,
        "client": "helm",
    }
    assert offline not in str(seen)
    assert answer.json()["token"] not in str(seen)
    [row] = world.house.run(world.acts.offline_tokens.list_tokens(OPERATOR, "dave"))
    assert row.client == "helm"


def test_a_changed_password_ends_offline_tokens(world: World) -> None:
    world.house.run(world.acts.accounts.add_user(OPERATOR, "erin", password=PASSWORD))
    offline = world.sign_in("erin", offline_token="true").json()["refresh_token"]
    world.house.run(world.acts.accounts.set_password(OPERATOR, "erin", "another horse battery"))
    assert post(world, ("grant_type", "refresh_token"), ("refresh_token", offline)).status == 401
    assert world.sign_in("erin").status == 401
    fresh = world.sign_in("erin", password="another horse battery").json()["token"]
    assert world.ask("GET", "/v2/", token=fresh).status == 200


# OAuth 2


def test_a_password_grant_is_answered_with_its_scope(world: World) -> None:
    answer = post(
        world,
        *password_grant("alice"),
        ("scope", "repository:alpha/a:pull"),
        ("scope", "repository:alpha/b:pull repository:beta/c:pull"),
        media_type=f"{FORM}; charset=utf-8",
    )
    told = answer.json()
    assert answer.status == 200
    assert told["scope"] == "repository:alpha/a:pull repository:alpha/b:pull"
    assert told["access_token"] == told["token"]
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ([("grant_type", "client_credentials")], 400, "unsupported_grant_type"),
        ([], 400, "invalid_request"),
        ([("grant_type", "password"), ("username", "alice")], 400, "invalid_request"),
        ([("grant_type", "refresh_token")], 400, "invalid_request"),
        ([("grant_type", "refresh_token"), ("refresh_token", "gwo_wrong")], 401, "invalid_grant"),
        (password_grant("alice", "wrong horse battery"), 401, "invalid_grant"),
        ([("a", "b")] * 200, 400, "invalid_request"),
    ],
)
def test_a_grant_that_is_refused_says_so_in_both_languages(
    world: World, fields: list[tuple[str, str]], status: int, error: str
) -> None:
    answer = post(world, *fields, address="192.0.2.200")
    told = answer.json()
    assert (answer.status, told["error"]) == (status, error)
    assert told["errors"][0]["message"]
    assert answer.header("cache-control") == "no-store"


def test_a_refused_grant_is_recorded(world: World) -> None:
    with world.watching() as seen:
        post(world, *password_grant("nobody", "x"), address="192.0.2.201")
    assert [(event["kind"], event["outcome"]) for event in seen] == [("account.sign_in", "denied")]


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x", ""])
def test_only_forms_are_read(world: World, media_type: str) -> None:
    assert post(world, *password_grant("alice"), media_type=media_type).status == 415


def test_a_form_over_64_kib_is_not_read(world: World) -> None:
    assert post(world, ("grant_type", "password"), ("username", "x" * 70_000)).status == 413
    pieces = [b"a=" + b"x" * 40_000, b"x" * 40_000]
    assert world.ask("POST", "/token", body=pieces, headers={"Content-Type": FORM}).status == 413


def test_too_many_parameters_are_refused(world: World) -> None:
    assert world.ask("GET", "/token?" + "&".join(["scope=x"] * 500)).status == 400


def test_other_methods_are_not_allowed(world: World) -> None:
    answer = world.ask("PUT", "/token")
    assert (answer.status, answer.code, answer.header("allow")) == (405, "UNSUPPORTED", "GET, POST")


def test_a_flood_of_anonymous_tokens_is_told_to_wait(world: World) -> None:
    for _ in range(400):
        answer = world.ask("GET", "/token?service=registry.test", address="203.0.113.99")
        if answer.status == 429:
            break

    assert answer.status == 429
    assert int(answer.header("Retry-After")) >= 1
    assert world.ask("GET", "/token?service=registry.test", address="203.0.113.98").status == 200


def test_a_token_is_worth_nothing_in_another_project_of_the_same_name(world: World) -> None:
    project = f"again{next(world.numbers)}"
    name, projects = f"{project}/ui", world.acts.projects
    world.house.run(projects.add_project(OPERATOR, project))
    token = world.widest("root", name)
    world.push_blob(token, name, b"of the first one")

    world.house.run(projects.remove_project(OPERATOR, project, force=True))
    world.house.run(projects.add_project(OPERATOR, project))

    with world.watching() as seen:
        assert world.ask("POST", f"/v2/{name}/blobs/uploads/", token=token).status == 401
    assert [(event["kind"], event["outcome"], event["reason"]) for event in seen] == [
        ("upload.begin", "denied", "project_recreated")
    ]
    world.push_blob(world.widest("root", name), name, b"of the second one")
