"""Offline tokens at `/token`: what is got with one ends with it, at once and alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.access.throttle import Budget
from tests.house import OPERATOR
from tests.protocol.harness import SERVICE, World, limited
from tests.protocol.test_personal_token_endpoint import post


def an_offline_token(world: World, name: str) -> str:
    return str(world.sign_in(name, "", service=SERVICE, offline_token="true").json()["refresh_token"])


def bearer_of(world: World, token: str, scope: str) -> str:
    answer = post(world, grant_type="refresh_token", refresh_token=token, service=SERVICE, scope=scope)
    assert answer.status == 200
    return str(answer.json()["access_token"])


def numbers(world: World, name: str) -> list[int]:
    return [row.id for row in world.house.run(world.acts.offline_tokens.list_tokens(OPERATOR, name))]


def by_number(world: World, name: str) -> Any:
    return world.acts.offline_tokens.revoke_token(OPERATOR, numbers(world, name)[-1])


def by_name(world: World, name: str) -> Any:
    return world.acts.offline_tokens.revoke_tokens(OPERATOR, name)


def by_the_leak_switch(world: World, name: str) -> Any:
    since = datetime.now(UTC) - timedelta(days=1)
    return world.acts.tracing.leak(OPERATOR, f"offline:{numbers(world, name)[-1]}", since)


@pytest.mark.parametrize("revoke", [by_number, by_name, by_the_leak_switch])
def test_a_bearer_ends_at_once_with_the_offline_token_it_was_got_with(
    world: World, revoke: Callable[[World, str], Any]
) -> None:
    repository = world.name()
    scope = f"repository:{repository}:pull,push"
    world.push_image(world.widest("root", repository), repository, "v1")
    kept, leaked = an_offline_token(world, "alice"), an_offline_token(world, "alice")
    bearer, other = bearer_of(world, leaked, scope), bearer_of(world, kept, scope)
    by_password = str(world.sign_in("alice", scope, service=SERVICE).json()["token"])
    for token in (bearer, other, by_password):
        assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=token).status == 200

    world.house.run(revoke(world, "alice"))

    with world.watching() as events:
        assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=bearer).status == 401
        assert world.ask("POST", f"/v2/{repository}/blobs/uploads/", token=bearer).status == 401
    assert {event["reason"] for event in events} == {"credential_revoked"}
    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=by_password).status == 200
    alone = revoke is not by_name
    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=other).status == (200 if alone else 401)


def test_a_fresh_offline_token_moves_no_policy_and_is_good_at_once_where_its_user_is_known(world: World) -> None:
    repository = world.name()
    world.push_image(world.widest("root", repository), repository, "v1")
    before = world.sign_in("alice", f"repository:{repository}:pull", service=SERVICE).json()["token"]
    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=before).status == 200
    version = world.house.gate.directory.version()

    token = an_offline_token(world, "alice")
    bearer = bearer_of(world, token, f"repository:{repository}:pull registry:catalog:*")

    assert world.house.gate.directory.version() == version
    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=bearer).status == 200
    assert repository in world.ask("GET", "/v2/_catalog?n=1000", token=bearer).json()["repositories"]


def test_whoever_has_offline_tokens_made_all_the_time_is_told_to_wait(world: World) -> None:
    slower = limited(world, lasting=Budget(per_second=0.1, burst=2))
    asked = [slower.sign_in("alice", service=SERVICE, offline_token="true") for _ in range(2)]
    with world.watching() as events:
        asked.append(slower.sign_in("alice", service=SERVICE, offline_token="true"))
    assert [answer.status for answer in asked] == [200, 200, 429]
    # The password was right, which the trail has to tell.
    assert [(event["kind"], event["outcome"], event["principal"]) for event in events] == [
        ("token.issue", "denied", "alice")
    ]
    assert 1 <= int(asked[-1].header("Retry-After")) <= 10
    assert slower.sign_in("alice", service=SERVICE).status == 200
    assert slower.sign_in("bob", service=SERVICE, offline_token="true").status == 200


def test_a_bearer_from_before_offline_tokens_were_named_in_it_goes_on(world: World) -> None:
    repository = world.name()
    world.push_image(world.widest("root", repository), repository, "v1")
    offline = an_offline_token(world, "alice")
    bearer = bearer_of(world, offline, f"repository:{repository}:pull")
    tokens, now = world.registry.parts.tokens, datetime.now(UTC)
    read = tokens.verify(bearer, now)
    assert read.offline_token == numbers(world, "alice")[-1]
    facts = {"generation": read.generation, "projects": read.projects, "now": now}
    former = tokens.issue(read.principal, read.access, **facts).text  # type: ignore[arg-type]
    assert tokens.verify(former, now).offline_token == 0

    world.house.run(world.acts.offline_tokens.revoke_tokens(OPERATOR, "alice"))

    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=former).status == 200
    assert world.ask("GET", f"/v2/{repository}/manifests/v1", token=bearer).status == 401
