"""Remembered verdicts: no older than policy, no older than a second, never one token's for another."""

from __future__ import annotations

from gateway.access.policy import Allowed, Need
from gateway.access.principals import LOCAL, Caller, Credential, CredentialKind, Origin, Principal, PrincipalKind
from gateway.access.scopes import Access, Action
from gateway.access.verdicts import ENTRIES, SECONDS, Verdicts
from gateway.oci.names import Repository

READER = Principal(PrincipalKind.USER, 7, "reader")
ORIGIN = Origin("192.0.2.7", "192.0.2.7", "", "0" * 32)
PULL = Need(Action.PULL, Repository("gallery/ui"))
YES = Allowed("puller on gallery")


TOKENS: dict[str, Access] = {}


def token(number: str) -> Caller:
    """A request with this token; all tokens here have one id, which is not what they are told apart by."""
    access = TOKENS.setdefault(number, Access())
    return Caller(READER, ORIGIN, Credential(CredentialKind.BEARER, "jti"), access)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_verdict_is_remembered_for_its_token_right_and_version() -> None:
    verdicts = Verdicts(Clock())
    verdicts.keep(token("a"), PULL, 4, YES)

    assert verdicts.find(token("a"), PULL, 4) == YES
    assert verdicts.find(token("b"), PULL, 4) is None
    assert verdicts.find(token("a"), Need(Action.PUSH, Repository("gallery/ui")), 4) is None
    assert verdicts.find(token("a"), Need(Action.PULL, Repository("gallery/api")), 4) is None


def test_a_verdict_of_another_policy_version_is_worth_nothing() -> None:
    verdicts = Verdicts(Clock())
    verdicts.keep(token("a"), PULL, 4, YES)

    assert verdicts.find(token("a"), PULL, 6) is None
    verdicts.keep(token("b"), PULL, 6, YES)
    assert verdicts.find(token("a"), PULL, 6) is None


def test_a_verdict_lasts_no_longer_than_a_second_however_often_it_is_used() -> None:
    clock = Clock()
    verdicts = Verdicts(clock)
    verdicts.keep(token("a"), PULL, 4, YES)
    clock.now += SECONDS / 2
    verdicts.keep(token("b"), PULL, 4, YES)
    assert verdicts.find(token("a"), PULL, 4) == YES

    clock.now += SECONDS / 2

    assert verdicts.find(token("a"), PULL, 4) is None
    assert verdicts.find(token("b"), PULL, 4) is None


def test_only_verdicts_on_tokens_are_remembered() -> None:
    verdicts = Verdicts(Clock())
    operator = Caller(READER, ORIGIN, LOCAL)
    verdicts.keep(operator, PULL, 4, YES)

    assert verdicts.find(operator, PULL, 4) is None


def test_memory_is_bounded() -> None:
    verdicts = Verdicts(Clock())
    for number in range(ENTRIES + 1):
        verdicts.keep(token(str(number)), PULL, 4, YES)

    assert len(verdicts._known) <= ENTRIES
