"""`/v2/`: where clients learn how to sign in, and whether they are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.house import OPERATOR
from tests.protocol.harness import PASSWORD, REALM, SERVICE, World, basic, challenge_of


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_ping_without_credentials_is_challenged_without_scope_or_error_and_is_no_event(
    world: World, method: str
) -> None:
    with world.watching() as seen:
        answer = world.ask(method, "/v2/")
    assert answer.status == 401
    assert challenge_of(answer) == {"realm": REALM, "service": SERVICE}
    assert seen == []


def test_a_ping_with_any_valid_token_is_answered_with_an_empty_object(world: World) -> None:
    answer = world.ask("GET", "/v2/", token=world.token("mallory"))
    assert (answer.status, answer.body, answer.header("content-type")) == (200, b"{}", "application/json")
    assert world.ask("GET", "/v2/", token=world.token("")).status == 200


def test_a_ping_that_succeeds_is_no_event(world: World) -> None:
    token = world.token("mallory")
    with world.watching() as seen:
        assert world.ask("GET", "/v2/", token=token).status == 200
    assert seen == []


def test_basic_on_the_registry_is_worth_what_no_credentials_are(world: World) -> None:
    with world.watching() as seen:
        answer = world.ask("GET", "/v2/", headers={"Authorization": basic("alice", PASSWORD)})
    assert answer.told == world.ask("GET", "/v2/").told
    assert seen == []


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "null", "é"])
def test_a_token_that_is_none_is_told_and_recorded(world: World, text: str) -> None:
    with world.watching() as seen:
        answer = world.ask("GET", "/v2/", headers={"Authorization": f"Bearer {text}"})
    assert answer.status == 401
    assert challenge_of(answer)["error"] == "invalid_token"
    [event] = seen
    assert (event["outcome"], event["reason"], event["principal"]) == ("denied", "invalid_token", "anonymous")


def test_the_scheme_is_compared_in_any_case(world: World) -> None:
    headers = {"Authorization": f"bEARER {world.token('bob')}"}
    assert world.ask("GET", "/v2/", headers=headers).status == 200


def test_two_authorizations_are_none(world: World) -> None:
    token = f"Bearer {world.token('bob')}"
    answer = world.ask("GET", "/v2/", headers=[("Authorization", token), ("Authorization", token)])
    assert answer.status == 401
    assert "error" not in challenge_of(answer)


def test_an_expired_token_is_invalid(world: World) -> None:
    token = world.token("bob")
    world.clock.ahead = timedelta(seconds=331)
    try:
        answer = world.ask("GET", "/v2/", token=token)
    finally:
        world.clock.ahead = timedelta()
    assert challenge_of(answer)["error"] == "invalid_token"


def test_a_disabled_account_is_signed_out_at_once_and_the_trail_says_why(world: World) -> None:
    token = world.token("mallory")
    world.house.run(world.acts.accounts.disable(OPERATOR, "mallory"))
    try:
        with world.watching() as seen:
            answer = world.ask("GET", "/v2/", token=token)
        assert challenge_of(answer)["error"] == "invalid_token"
        assert [(event["principal"], event["reason"]) for event in seen] == [("mallory", "account_disabled")]
    finally:
        world.house.run(world.acts.accounts.enable(OPERATOR, "mallory"))


def test_the_address_without_a_slash_leads_to_the_one_with_it(world: World) -> None:
    answer = world.ask("GET", "/v2")
    assert (answer.status, answer.header("location")) == (301, "/v2/")


def test_the_public_keys_are_there_for_anybody(world: World) -> None:
    answer = world.ask("GET", "/.well-known/jwks.json")
    assert answer.status == 200
    assert all("d" not in key and key["alg"] == "ES256" for key in answer.json()["keys"])


@pytest.mark.parametrize("host", ["evil.example", "registry.test:5000", "registry.test"])
def test_the_realm_is_the_configured_one_whatever_headers_say(world: World, host: str) -> None:
    answer = world.ask("GET", "/v2/", headers={"Host": host, "X-Forwarded-Host": "evil.example"})
    assert challenge_of(answer)["realm"] == REALM
    assert "evil" not in str(answer)


def test_a_revoked_key_ends_its_tokens_at_once_and_a_rotated_one_does_not(world: World) -> None:
    token = world.token("bob")
    world.house.run(world.acts.keys.rotate_key(OPERATOR))
    assert world.ask("GET", "/v2/", token=token).status == 200
    kid = world.registry.parts.tokens.verify(token, world.clock()).kid
    world.house.run(world.acts.keys.revoke_key(OPERATOR, kid))
    assert challenge_of(world.ask("GET", "/v2/", token=token))["error"] == "invalid_token"
    shown = world.ask("GET", "/.well-known/jwks.json").json()["keys"]
    assert kid not in [key["kid"] for key in shown]
    assert world.ask("GET", "/v2/", token=world.token("bob")).status == 200


def test_a_project_made_again_owes_nothing_to_tokens_of_the_old_one(world: World) -> None:
    def make() -> None:
        world.house.run(world.acts.projects.add_project(OPERATOR, "gone"))
        world.house.run(world.acts.grants.add_grant(OPERATOR, "bob", "puller", "gone"))

    make()
    token = world.widest("bob", "gone/x")
    assert world.ask("GET", "/v2/gone/x/manifests/v1", token=token).status == 404
    world.house.run(world.acts.projects.remove_project(OPERATOR, "gone"))
    make()
    answer = world.ask("GET", "/v2/gone/x/manifests/v1", token=token)
    assert (answer.status, challenge_of(answer)["error"]) == (401, "invalid_token")
    assert world.ask("GET", "/v2/gone/x/manifests/v1", token=world.widest("bob", "gone/x")).status == 404
