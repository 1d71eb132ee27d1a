"""Personal tokens, second factors and two secrets of a robot, as credentials: believed where they are meant to be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.access.credentials import Believed, Disbelieved
from gateway.access.directory import StoredPersonalToken
from gateway.access.passwords import hash_password
from gateway.access.personal import Bound
from gateway.access.principals import CredentialKind, PrincipalKind
from gateway.access.scopes import Action
from gateway.access.secrets import keyed_hash, new_personal_token, new_robot_secret
from tests.access.keeping import NOW, KeptAccounts, origin
from tests.access.test_credentials import COST, PASSWORD, ROBOT, SECRETS, CountingPool, Door, answers, refused

BOUND = Bound(frozenset({Action.PULL}), frozenset({"gallery"}))


@pytest.fixture
def door() -> Iterator[Door]:
    pool = CountingPool(COST, workers=1)
    kept = KeptAccounts()
    for name in ("writer", "reader"):
        kept.add(name, hash_password(PASSWORD, COST))
    yield Door(kept, pool)
    pool.close()


def a_token(door: Door, name: str = "writer", **facts: object) -> str:
    token = new_personal_token()
    kept = {"expires_at": NOW + timedelta(days=1), **facts}
    number = len(door.kept.personal) + 1
    stored = StoredPersonalToken(number, door.kept.by_name[name], BOUND, **kept)  # type: ignore[arg-type]
    door.kept.personal[keyed_hash(SECRETS.personal_tokens, token)] = stored
    return token


def test_a_personal_token_is_a_password_with_a_bound_and_costs_no_hashing(door: Door) -> None:
    belief = door.knock("writer", a_token(door))

    assert isinstance(belief, Believed)
    assert belief.principal == door.kept.by_name["writer"].principal
    assert (belief.credential.kind, belief.personal_token, belief.bound) == (CredentialKind.PERSONAL_TOKEN, 1, BOUND)
    assert door.pool.verified == 0


def test_a_personal_token_names_its_user_where_nobody_is_named(door: Door) -> None:
    token = a_token(door)
    belief = door.settled(door.credentials.believe_personal(token, origin()))
    assert isinstance(belief, Believed)
    assert belief.principal.name == "writer"


def test_its_use_is_noted_once_a_minute(door: Door) -> None:
    token = a_token(door)
    touched = []
    for _ in range(3):
        belief = door.knock("writer", token)
        assert isinstance(belief, Believed)
        touched.append(belief.change is not None)
        door.clock.move(seconds=40)
    assert touched == [True, False, True]
    # On a clock that was put back as well.
    door.clock.move(days=-1)
    belief = door.knock("writer", token)
    assert isinstance(belief, Believed)
    assert belief.change is not None


def test_wrong_tokens_are_one_answer_with_a_reason_for_the_trail(door: Door) -> None:
    token = a_token(door)
    over = a_token(door, expires_at=NOW)
    beliefs = [
        door.knock("reader", token),
        door.knock("gallery+ci", token),
        door.knock("writer", over),
        door.knock("writer", new_personal_token()),
        door.knock("writer", token[:-1]),
    ]
    assert len(answers(*beliefs)) == 1
    reasons = [refused(belief).reason for belief in beliefs]
    assert reasons == ["account_mismatch", "account_mismatch", "token_expired", "unknown_token", "wrong_secret"]


def test_a_token_of_a_disabled_account_is_not_believed(door: Door) -> None:
    door.kept.alter("writer", enabled=False)
    assert refused(door.knock("writer", a_token(door))).reason == "account_disabled"


def test_no_number_of_wrong_tokens_stops_a_right_one(door: Door) -> None:
    token = a_token(door)
    beliefs = [door.knock("writer", new_personal_token()) for _ in range(55)]
    assert refused(beliefs[-1]).reason == "throttled"
    assert isinstance(door.knock("writer", token), Believed)


def test_a_password_is_not_enough_where_there_is_a_second_factor(door: Door) -> None:
    door.kept.alter("writer", second_factor=True)

    belief = refused(door.knock("writer", PASSWORD))

    assert belief.reason == "second_factor_required"
    assert "personal access token" in belief.refusal.message
    assert isinstance(door.knock("writer", a_token(door)), Believed)


def test_that_there_is_a_second_factor_is_told_to_who_knows_the_password_alone(door: Door) -> None:
    door.kept.alter("writer", second_factor=True)
    assert len(answers(door.knock("writer", "a wrong one"), door.knock("reader", "a wrong one"))) == 1


def test_the_console_hears_that_a_second_factor_is_due(door: Door) -> None:
    door.kept.alter("writer", second_factor=True)
    belief = door.settled(door.credentials.believe_password("writer", PASSWORD, origin()))
    assert isinstance(belief, Believed)
    assert belief.second_factor


def test_a_robot_has_no_password_to_sign_in_to_the_console_with(door: Door) -> None:
    secret = new_robot_secret()
    door.kept.add(ROBOT, keyed_hash(SECRETS.robots, secret), kind=PrincipalKind.ROBOT)
    assert isinstance(door.settled(door.credentials.believe_password(ROBOT, secret, origin())), Disbelieved)


def test_both_secrets_of_a_robot_are_good_until_the_overlap_ends(door: Door) -> None:
    old, new = new_robot_secret(), new_robot_secret()
    door.kept.add(ROBOT, keyed_hash(SECRETS.robots, new), kind=PrincipalKind.ROBOT)
    former = keyed_hash(SECRETS.robots, old)
    door.kept.alter(ROBOT, former_secret=former, former_until=NOW + timedelta(hours=24))

    assert isinstance(door.knock(ROBOT, old), Believed)
    assert isinstance(door.knock(ROBOT, new), Believed)
    account = door.kept.by_name[ROBOT]
    assert (account.used_at, account.former_used_at) == (NOW, NOW)
    door.clock.move(hours=24)
    assert refused(door.knock(ROBOT, old)).reason == "wrong_secret"
    assert isinstance(door.knock(ROBOT, new), Believed)
