"""The rules of a review: each picks what its sentence says, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import review
from gateway.audit.review import Found, Happening, HeldAccess, Material, Policy, RobotSecret, Rule

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
ENDED = BEGUN + timedelta(days=30)


def an_event(seq: int, kind: str = "manifest.pull", seconds: float = 0, **fields: Any) -> Happening:
    plain: dict[str, Any] = {"outcome": "allowed", "principal": "jane", "address": "192.0.2.7"}
    return Happening(seq, BEGUN + timedelta(seconds=seconds), kind, **{**plain, **fields})


def material(**what: Any) -> Material:
    return Material(BEGUN, ENDED, **what)


def picked(rule: str, **what: Any) -> list[Found]:
    found, _ = review.run(material(**what))
    return [each for by, each in found if by.name == rule]


def refusals(count: int, apart: float, **fields: Any) -> list[Happening]:
    plain = {"kind": "manifest.push", "outcome": "denied", **fields}
    return [an_event(seq, seconds=seq * apart, **plain) for seq in range(1, count + 1)]


def test_many_refusals_in_ten_minutes_are_one_burst_and_fewer_are_none() -> None:
    (burst,) = picked("denied_bursts", denied=refusals(20, 30))
    assert (burst.subject, burst.count, burst.events) == ("jane", 20, tuple(range(1, 21)))
    assert (burst.first, burst.last) == (BEGUN + timedelta(seconds=30), BEGUN + timedelta(seconds=600))
    assert picked("denied_bursts", denied=refusals(19, 1)) == []
    assert picked("denied_bursts", denied=refusals(100, 60)) == []


def test_bursts_of_one_caller_that_lie_apart_are_two() -> None:
    later = [replace(each, seq=each.seq + 50, time=each.time + timedelta(days=1)) for each in refusals(25, 1)]
    found = picked("denied_bursts", denied=[*refusals(30, 1), *later])
    assert [each.count for each in found] == [30, 25]


def test_one_address_that_tries_many_names_is_told_of_though_no_name_is_refused_often() -> None:
    denied = [replace(each, principal=f"name{each.seq % 7}") for each in refusals(30, 1)]
    (found,) = picked("denied_bursts", denied=denied)
    assert found.subject == "192.0.2.7"
    assert "under 7 names" in found.summary


@given(st.lists(st.integers(0, 5000), max_size=60), st.integers(1, 6), st.integers(1, 300))
def test_a_burst_holds_exactly_what_lies_in_some_window_of_enough(times: list[int], least: int, seconds: int) -> None:
    events = [an_event(seq, seconds=time) for seq, time in enumerate(sorted(times))]
    window = timedelta(seconds=seconds)
    expected = {
        each.seq
        for first in range(len(events) - least + 1)
        if events[first + least - 1].time - events[first].time <= window
        for each in events[first : first + least]
    }
    runs = list(review.bursts(events, least, window))
    assert {each.seq for run in runs for each in run} == expected
    assert sum(len(run) for run in runs) == len(expected)


def sign_ins(failures: int, seconds: float, **success: Any) -> list[Happening]:
    failed = [an_event(seq, "account.sign_in", seq, outcome="denied") for seq in range(1, failures + 1)]
    return [*failed, an_event(99, "account.sign_in", seconds, **success)]


def test_a_sign_in_after_many_failures_is_picked_and_says_from_where() -> None:
    (found,) = picked("late_sign_ins", sign_ins=sign_ins(5, 60))
    assert (found.subject, found.events[-1], found.count) == ("jane", 99, 6)
    assert "there as well" in found.summary
    (elsewhere,) = picked("late_sign_ins", sign_ins=sign_ins(5, 60, address="203.0.113.9"))
    assert "elsewhere" in elsewhere.summary


@pytest.mark.parametrize(("failures", "seconds"), [(4, 60), (9, 3 * 3600)])
def test_few_failures_or_failures_long_ago_are_nothing(failures: int, seconds: float) -> None:
    assert picked("late_sign_ins", sign_ins=sign_ins(failures, seconds)) == []


def test_a_network_is_new_to_who_had_another_and_not_to_who_comes_the_first_time() -> None:
    push = an_event(7, "manifest.push", principal="gallery+ci", repository="gallery/ui")
    (found,) = picked("new_networks", arrivals=[push, an_event(8)], networks={7: ("198.51.100.0/24",), 8: ()})
    assert found.subject == "gallery+ci"
    assert "First push from the network of 192.0.2.7 (gallery/ui); 1 other network before." in found.summary


def test_changes_of_rights_are_grouped_by_who_did_what_where() -> None:
    changes = [
        an_event(1, "grant.add", project="gallery", after={"account": "joe", "role": "owner", "reach": "gallery"}),
        an_event(2, "grant.add", project="gallery", after={"account": "ann", "role": "puller", "reach": "gallery"}),
        an_event(3, "account.add", principal="root", after={"account": "eve", "administrator": True}),
        an_event(4, "grant.add", project="gallery", outcome="denied", detail={"account": "eve", "role": "owner"}),
    ]
    grants, account = picked("rights_changed", changes=changes)
    assert grants.summary == (
        "grant.add in gallery, 3 times (1 of them not done): joe owner gallery; ann puller gallery; eve owner."
    )
    assert account.summary == "account.add, 1 time: eve administrator."
    assert (grants.events, account.events) == ((1, 2, 4), (3,))


def move(seq: int, tag: str, before: str, after: str, kind: str = "manifest.push", **fields: Any) -> Happening:
    moved: dict[str, Any] = {"project": "gallery", "repository": "gallery/ui", **fields}
    tags = {tag: after} if after else {}
    return an_event(seq, kind, before={"tags": {tag: before}}, after={"tags": tags}, **moved)


def test_moves_and_removals_of_protected_tags_are_picked_and_others_are_not() -> None:
    moves = [
        move(1, "v1", "sha256:aa", "sha256:bb"),
        move(2, "v1", "sha256:bb", "", "tag.delete"),
        move(3, "latest", "sha256:aa", "sha256:bb"),
        move(4, "v2", "sha256:aa", "sha256:aa"),
        move(5, "v3", "sha256:aa", "sha256:bb", outcome="failed"),
        move(6, "nightly", "sha256:aa", "sha256:bb"),
    ]
    found = picked("moved_tags", moves=moves, protected={"gallery": ("night*",)})
    assert [(each.subject, each.events) for each in found] == [
        ("gallery/ui:v1", (1, 2)),
        ("gallery/ui:nightly", (6,)),
    ]
    assert found[0].summary == "moved to sha256:bb from sha256:aa by jane; removed from sha256:bb by jane."


def test_a_removed_repository_is_always_told_of() -> None:
    removed = an_event(1, "repository.remove", repository="gallery/ui", before={"tags": 2})
    (found,) = picked("moved_tags", moves=[removed])
    assert (found.subject, found.summary) == ("gallery/ui", "removed with all its tags.")


def test_secrets_and_access_are_picked_when_they_are_older_than_the_policy() -> None:
    days = [ENDED - timedelta(days=count) for count in (91, 90)]
    (old,) = picked("old_secrets", secrets=[RobotSecret("gallery+ci", days[0]), RobotSecret("gallery+cd", days[1])])
    assert old.subject == "gallery+ci"
    unused = [
        HeldAccess("joe", "pusher on gallery", BEGUN - timedelta(days=200), None),
        HeldAccess("ann", "puller on gallery", BEGUN - timedelta(days=200), ENDED - timedelta(days=3)),
        HeldAccess("eve", "owner on gallery", ENDED - timedelta(days=3), None),
    ]
    (found,) = picked("unused_access", access=unused)
    assert found.summary.startswith("pusher on gallery, given ")


def test_a_rule_that_finds_very_much_lists_a_part_and_counts_the_rest() -> None:
    secrets = [RobotSecret(f"gallery+r{number}", BEGUN - timedelta(days=100)) for number in range(review.FINDINGS + 7)]
    found, runs = review.run(material(secrets=secrets, partial=frozenset({"denied"})))
    by_name = {run.rule: run for run in runs}
    assert len(found) == review.FINDINGS
    assert by_name["old_secrets"].found == review.FINDINGS + 7
    assert [run.rule for run in runs if not run.whole] == ["denied_bursts"]


@pytest.mark.parametrize("rule", review.RULES, ids=lambda rule: rule.name)
def test_every_rule_says_why_and_finds_nothing_in_nothing(rule: Rule) -> None:
    assert rule.why.endswith(".")
    assert rule.reads in set(Material.__slots__)
    assert list(rule.pick(material())) == []


def test_thresholds_are_the_policys() -> None:
    strict = Policy(denials=3, denial_minutes=1, failures=1)
    assert len(picked("denied_bursts", policy=strict, denied=refusals(3, 30))) == 1
    assert len(picked("late_sign_ins", policy=strict, sign_ins=sign_ins(1, 60))) == 1
