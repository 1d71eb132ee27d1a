"""Personal tokens at `/token`: what is got with one stays inside it, and ends with it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from sqlalchemy import Connection, update

from gateway.access.second_factors import new_recovery_codes, recovery_hash
from gateway.administration import NewSecret
from gateway.audit.event import Kind
from gateway.change import Change, Notes, together
from gateway.records import accounts, second_factors
from gateway.records.schema import personal_tokens
from tests.house import GATEWAY, OPERATOR
from tests.protocol.harness import PASSWORD, SERVICE, Answer, World, basic, challenge_of

SCOPES = "repository:alpha/app:pull,push,delete repository:pub/x:pull,push registry:catalog:*"


def a_token(
    world: World, name: str, actions: Iterable[str], projects: Iterable[str] | None = None, *, days: int = 1
) -> tuple[str, int]:
    """A personal token of *name*, and its number."""
    label = f"token {next(world.numbers)}"
    acts = world.acts.personal_tokens
    made: NewSecret = world.house.run(acts.issue(OPERATOR, label, actions, projects, days, account=name))
    assert made.secret is not None
    return made.secret, made.number


def revoke(world: World, number: int) -> None:
    world.house.run(world.acts.personal_tokens.revoke(OPERATOR, number))


def signed_in(world: World, name: str, secret: str, scope: str = SCOPES, **parameters: str) -> Answer:
    return world.sign_in(name, scope, password=secret, service=SERVICE, **parameters)


def carried(world: World, answer: Answer) -> tuple[dict[str, set[str]], bool]:
    """What the bearer in *answer* carries: actions by repository, and the catalog."""
    bearer = world.registry.parts.tokens.verify(answer.json()["token"], datetime.now(UTC))
    access = bearer.access
    named = {name: {action.value for action in actions} for name, actions in access.repositories.items()}
    return named, access.catalog


def post(world: World, **fields: str) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return world.ask("POST", "/token", body=urlencode(fields).encode(), headers=headers)


def test_a_token_is_the_password_of_docker_login(world: World) -> None:
    secret, number = a_token(world, "dave", ["pull"], ["alpha"])
    with world.watching() as events:
        answer = signed_in(world, "dave", secret, "", account="dave", client_id="docker", offline_token="true")
    assert answer.status == 200
    assert world.ask("GET", "/v2/", token=answer.json()["token"]).status == 200
    assert [(event["kind"], event["credential"], event["credential_id"]) for event in events] == [
        ("account.sign_in", "personal_token", str(number)),
        ("token.issue", "personal_token", str(number)),
    ]
    assert secret not in str(events)


@pytest.mark.parametrize(
    ("actions", "projects", "named", "catalog"),
    [
        (["pull"], ["alpha"], {"alpha/app": {"pull"}}, False),
        (["pull", "push"], ["beta"], {}, False),
        (["push"], None, {"alpha/app": {"push"}}, False),
        (["pull", "delete"], None, {"alpha/app": {"pull", "delete"}, "pub/x": {"pull"}}, True),
        (["manage", "review"], None, {}, False),
    ],
)
def test_a_bearer_carries_what_the_token_bounds_and_its_user_may_do(
    world: World, actions: list[str], projects: list[str] | None, named: dict[str, set[str]], catalog: bool
) -> None:
    secret, _ = a_token(world, "dave", actions, projects)
    assert carried(world, signed_in(world, "dave", secret)) == (named, catalog)


def test_an_administrators_narrow_token_administers_nothing_and_reads_one_project(world: World) -> None:
    secret, _ = a_token(world, "root", ["pull"], ["beta"])
    named, catalog = carried(world, signed_in(world, "root", secret, "repository:alpha/app:* repository:beta/app:*"))
    assert (named, catalog) == ({"beta/app": {"pull"}}, False)


def test_no_offline_token_comes_of_a_personal_one(world: World) -> None:
    secret, _ = a_token(world, "alice", ["pull"])
    assert "refresh_token" not in signed_in(world, "alice", secret, offline_token="true").json()
    form = {"grant_type": "password", "username": "alice", "password": secret, "access_type": "offline"}
    answer = post(world, **form)
    assert answer.status == 200
    assert "refresh_token" not in answer.json()
    assert "refresh_token" in signed_in(world, "alice", PASSWORD, offline_token="true").json()


@pytest.mark.parametrize("way", ["nobody's password", "refresh"])
def test_clients_that_take_it_for_an_offline_token_are_served_within_its_bound(world: World, way: str) -> None:
    secret, number = a_token(world, "dave", ["pull"], ["alpha"])
    headers = {"Authorization": basic("", secret)}
    query = urlencode({"scope": SCOPES, "service": SERVICE})

    def ask() -> Answer:
        if way == "refresh":
            return post(world, grant_type="refresh_token", refresh_token=secret, service=SERVICE, scope=SCOPES)
        return world.ask("GET", f"/token?{query}", headers=headers)

    assert carried(world, ask()) == ({"alpha/app": {"pull"}}, False)
    revoke(world, number)
    assert ask().status == 401


def test_revoking_it_ends_it_and_every_bearer_at_once(world: World) -> None:
    repository = world.name()
    world.push_image(world.widest("alice", repository), repository, "v1")
    secret, number = a_token(world, "alice", ["pull", "push"])
    scope = f"repository:{repository}:pull,push"
    bearer = signed_in(world, "alice", secret, scope).json()["token"]
    by_password = world.widest("alice", repository)
    other, _ = a_token(world, "alice", ["pull"])
    by_other = signed_in(world, "alice", other, scope).json()["token"]
    path = f"/v2/{repository}/manifests/v1"
    assert world.ask("GET", path, token=bearer).status == 200
    upload = world.begin(bearer, repository)

    revoke(world, number)

    assert signed_in(world, "alice", secret, scope).status == 401
    with world.watching() as events:
        answer = world.ask("GET", path, token=bearer)
        # The ping asks for no right, and refuses all the same.
        assert world.ask("GET", "/v2/", token=bearer).status == 401
        assert world.ask("PATCH", upload, token=bearer, body=b"more").status == 401
    assert answer.status == 401
    assert challenge_of(answer)["error"] == "invalid_token"
    assert [event["reason"] for event in events] == ["credential_revoked"] * 3
    assert world.ask("GET", path, token=by_password).status == 200
    assert world.ask("GET", path, token=by_other).status == 200


def test_a_pull_is_allowed_only_while_the_token_lives(world: World) -> None:
    repository = world.name()
    world.push_image(world.widest("alice", repository), repository, "v1")
    secret, number = a_token(world, "alice", ["pull"], days=1)
    bearer = signed_in(world, "alice", secret, f"repository:{repository}:pull").json()["token"]
    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=bearer).status == 200

    def over(connection: Connection) -> Notes:
        connection.execute(update(personal_tokens).where(personal_tokens.c.id == number).values(expires_at=1))
        return Notes()

    commit(world, Change(over, policy=True))
    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=bearer).status == 401
    assert signed_in(world, "alice", secret).status == 401


def test_nobody_elses_name_goes_with_it(world: World) -> None:
    secret, _ = a_token(world, "alice", ["pull"])
    wrong = world.sign_in("alice", SCOPES, password="not the password", service=SERVICE)
    for name in ("bob", "root", "alpha+ci", "nobody"):
        with world.watching() as events:
            answer = signed_in(world, name, secret)
        assert (answer.status, answer.json()) == (401, wrong.json())
        assert events[-1]["reason"] == "account_mismatch"
        assert secret not in str(events)


def test_a_bearer_mounts_nothing_from_outside_the_bound(world: World) -> None:
    there, here = world.name(), world.name("pub")
    blob = world.push_blob(world.widest("alice", there), there, b"a secret layer")
    secret, _ = a_token(world, "alice", ["pull", "push"], ["pub"])
    bearer = signed_in(world, "alice", secret, f"repository:{here}:pull,push repository:{there}:pull").json()["token"]
    answer = world.ask("POST", f"/v2/{here}/blobs/uploads/?mount={blob}&from={there}", token=bearer)
    assert answer.status == 202
    assert world.ask("HEAD", f"/v2/{here}/blobs/{blob}", token=bearer).status == 404


def test_a_bearer_with_the_catalog_is_got_by_no_token_that_names_projects(world: World) -> None:
    secret, _ = a_token(world, "root", ["pull"], ["alpha"])
    bearer = signed_in(world, "root", secret, "registry:catalog:*").json()["token"]
    assert world.ask("GET", "/v2/_catalog", token=bearer).status == 401


def test_neither_a_personal_token_nor_a_session_is_a_bearer(world: World) -> None:
    secret, _ = a_token(world, "root", ["pull"])
    assert world.ask("GET", "/v2/", token=secret).status == 401
    assert world.ask("GET", "/v2/", headers={"Authorization": basic("root", secret)}).status == 401
    assert world.ask("GET", "/v2/", headers={"Cookie": f"__Host-gateway={secret}"}).status == 401


def test_the_password_alone_is_not_enough_where_there_is_a_second_factor(world: World) -> None:
    world.house.run(world.acts.accounts.add_user(OPERATOR, "erin", password=PASSWORD))
    world.house.run(world.acts.grants.add_grant(OPERATOR, "erin", "puller", "alpha"))
    refresh = signed_in(world, "erin", PASSWORD, offline_token="true").json()["refresh_token"]
    _enrol(world, "erin")

    with world.watching() as events:
        answer = signed_in(world, "erin", PASSWORD)
        form = post(world, grant_type="password", username="erin", password=PASSWORD, service=SERVICE)
    for each in (answer, form):
        assert each.status == 401
        assert "personal access token" in each.json()["errors"][0]["message"]
    assert {event["reason"] for event in events} == {"second_factor_required"}
    wrong = signed_in(world, "erin", "not the password")
    assert "second factor" not in wrong.body.decode()
    assert post(world, grant_type="refresh_token", refresh_token=refresh, service=SERVICE).status == 401
    secret, _ = a_token(world, "erin", ["pull"])
    assert carried(world, signed_in(world, "erin", secret))[0]["alpha/app"] == {"pull"}


def test_a_robots_secret_is_used_to_the_minute(world: World) -> None:
    made = world.house.run(world.acts.robots.add_robot(OPERATOR, "alpha/ci", "puller"))
    assert made.secret is not None
    assert signed_in(world, "alpha+ci", made.secret).status == 200
    robots = world.house.run(world.acts.robots.list_robots(OPERATOR, "alpha"))
    [used] = [robot.used_at for robot in robots if robot.name == "alpha+ci"]
    assert used is not None
    assert abs((datetime.now(UTC) - used).total_seconds()) < 60


def commit(world: World, change: Change) -> None:
    async def committed() -> None:
        async with world.house.gate.passage(GATEWAY, Kind.KEY_ADD) as passage:
            await passage.commit(change)

    world.house.run(committed())


def _enrol(world: World, name: str) -> None:
    number = world.house.database.read_now(lambda connection: accounts.get(connection, name)).id
    codes = [recovery_hash(code, number, b"s" * 32) for code in new_recovery_codes()]
    begun = second_factors.begin(number, b"sealed", 1)
    commit(world, together(begun, second_factors.confirm(number, b"sealed", 1, codes, 1)))
