"""Policy: the matrix of who may do what where; denied by default, token ∩ live policy, with a reason."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.policy import (
    ACTIONS,
    ANONYMOUS_STANDING,
    OPERATOR_STANDING,
    Allowed,
    Grant,
    Need,
    Project,
    Reach,
    Reason,
    Refused,
    Role,
    Standing,
    granted,
    judge,
    parse_target,
)
from gateway.access.principals import ANONYMOUS, LOCAL, Caller, Credential, CredentialKind, Principal, PrincipalKind
from gateway.access.scopes import TOKEN_ACTIONS, Access, Action, parse_scopes
from gateway.errors import Invalid
from gateway.oci.names import ProjectName, Repository
from tests.access.keeping import NOW, origin

GALLERY = Project(5, ProjectName("gallery"))
PUBLIC = replace(GALLERY, public=True)
UI = Repository("gallery/ui")
WRITER = Principal(PrincipalKind.USER, 7, "writer")
SIGNED_IN = Caller(WRITER, origin())
PULL, PUSH, DELETE, MANAGE, REVIEW = Action
EVERYWHERE: list[Repository | ProjectName] = [
    UI,
    Repository("gallery"),
    Repository("gallery/ui/x"),
    Repository("gallery/other"),
    GALLERY.name,
]


def grant(role: Role, reach: str = "gallery") -> Grant:
    return Grant(role, Reach.parse(reach))


def standing(*grants: Grant, **facts: bool) -> Standing:
    return Standing(generation=3, grants=grants, **facts)  # type: ignore[arg-type]


def bearer(scope: str, **facts: object) -> Caller:
    caller = Caller(WRITER, origin(), Credential(CredentialKind.BEARER, "id"), parse_scopes([scope]), 3, {"gallery": 5})
    return replace(caller, **facts)  # type: ignore[arg-type]


def allowed(
    action: Action,
    target: Repository | ProjectName | None = UI,
    *,
    caller: Caller = SIGNED_IN,
    stands: Standing | None,
    project: Project | None = GALLERY,
) -> bool:
    return isinstance(judge(caller, Need(action, target), stands, project, NOW), Allowed)


def reason(
    action: Action, *, caller: Caller = SIGNED_IN, stands: Standing | None, project: Project | None = GALLERY
) -> Reason:
    verdict = judge(caller, Need(action, UI), stands, project, NOW)
    assert isinstance(verdict, Refused)
    return verdict.reason


MATRIX = {
    Role.PULLER: {PULL},
    Role.PUSHER: {PULL, PUSH},
    Role.MAINTAINER: {PULL, PUSH, DELETE},
    Role.OWNER: {PULL, PUSH, DELETE, MANAGE, REVIEW},
}


@pytest.mark.parametrize("target", EVERYWHERE, ids=str)
@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", Role)
def test_a_role_gives_its_actions_on_the_whole_project_and_no_other(
    role: Role, action: Action, target: Repository | ProjectName
) -> None:
    assert allowed(action, target, stands=standing(grant(role))) is (action in MATRIX[role])


@pytest.mark.parametrize("target", [*EVERYWHERE, None], ids=str)
@pytest.mark.parametrize("action", Action)
def test_everything_is_denied_by_default(action: Action, target: Repository | ProjectName | None) -> None:
    assert not allowed(action, target, stands=standing())
    assert not allowed(action, target, stands=standing(), project=None)
    assert not allowed(action, target, stands=ANONYMOUS_STANDING, caller=Caller(ANONYMOUS, origin()))


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("other", ["gallery2", "gallery-x", "galler", "other"])
def test_a_grant_on_one_project_is_nothing_on_another_whatever_its_name(action: Action, other: str) -> None:
    elsewhere = Project(6, ProjectName(other))

    assert not allowed(action, Repository(f"{other}/ui"), stands=standing(grant(Role.OWNER)), project=elsewhere)
    assert not allowed(action, ProjectName(other), stands=standing(grant(Role.OWNER)), project=elsewhere)


@pytest.mark.parametrize(
    ("reach", "covered"),
    [
        ("gallery", {"gallery", "gallery/ui", "gallery/ui/x", "gallery/ui-web", "gallery/other"}),
        ("gallery/ui", {"gallery/ui"}),
        ("gallery/ui/x", {"gallery/ui/x"}),
        ("gallery/*", {"gallery/ui", "gallery/ui-web", "gallery/other"}),
        ("gallery/*/x", {"gallery/ui/x"}),
        ("gallery/ui*", {"gallery/ui", "gallery/ui-web"}),
        ("gallery/*e*", {"gallery/ui-web", "gallery/other"}),
        ("gallery/u*i", {"gallery/ui"}),
        ("gallery/*/*/*", set()),
        ("gallery/ui*ui", set()),
        ("gallery/u*i*i", set()),
        ("gallery2", set()),
    ],
)
def test_a_pattern_is_anchored_and_a_star_stays_in_its_component(reach: str, covered: set[str]) -> None:
    names = {"gallery", "gallery/ui", "gallery/ui/x", "gallery/ui-web", "gallery/other"}
    found = {name for name in names if Reach.parse(reach).covers(Repository(name))}

    assert found == covered
    stands = standing(grant(Role.PUSHER, reach))
    assert {name for name in names if allowed(PUSH, Repository(name), stands=stands)} == covered


@pytest.mark.parametrize("action", Action)
def test_a_grant_on_a_part_of_a_project_does_not_speak_for_the_project(action: Action) -> None:
    assert not allowed(action, GALLERY.name, stands=standing(grant(Role.OWNER, "gallery/*")))


component = st.from_regex(r"[a-c]{1,6}", fullmatch=True)
patterns = st.from_regex(r"[a-c*]{1,6}", fullmatch=True).filter(lambda text: "**" not in text)


@given(st.lists(patterns, min_size=1, max_size=3), st.lists(component, min_size=0, max_size=4))
def test_patterns_cover_what_globs_do(pattern: list[str], path: list[str]) -> None:
    reach = Reach.parse("/".join(["gallery", *pattern]))
    expected = len(pattern) == len(path) and all(map(fnmatch.fnmatchcase, path, pattern))

    assert reach.covers(Repository("/".join(["gallery", *path]))) is expected
    assert Reach.parse(str(reach)) == reach


@given(st.text(max_size=20) | st.from_regex(r"gallery/[a-z*./-]{0,12}", fullmatch=True))
def test_what_is_no_reach_is_refused_and_what_is_one_is_spelled_as_it_was(text: str) -> None:
    try:
        reach = Reach.parse(text)
    except Invalid:
        return
    assert str(reach) == text
    assert reach.project.name == text.partition("/")[0]


@pytest.mark.parametrize(
    "text", ["", "/", "gallery/", "/ui", "gallery//ui", "gallery/**", "gallery/a**b", "*", "*/ui", "gal*", "gallery/UI",
             "gallery/ui ", "gallery/.ui", "gallery/[a-z]", "gallery/ui?", "gallery/" + "a" * 300]
)  # fmt: skip
def test_illegal_reaches_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Reach.parse(text)


@pytest.mark.alone
def test_a_hostile_pattern_costs_no_time() -> None:
    reach = Reach.parse("gallery/" + "*a" * 60 + "*b")
    begun = time.monotonic()

    assert not reach.covers(Repository("gallery/" + "a" * 190))
    assert time.monotonic() - begun < 0.5


def test_a_grant_ends_when_it_says() -> None:
    for seconds, expected in ((-1, False), (0, False), (1, True)):
        ending = replace(grant(Role.PUSHER), expires_at=NOW + timedelta(seconds=seconds))
        assert allowed(PUSH, stands=standing(ending)) is expected


def test_the_strongest_of_several_grants_decides_and_is_named() -> None:
    ended = replace(grant(Role.OWNER), expires_at=NOW)
    stands = standing(ended, grant(Role.PULLER), grant(Role.MAINTAINER, "gallery/u*"), grant(Role.OWNER, "gallery/x"))

    assert judge(SIGNED_IN, Need(DELETE, UI), stands, GALLERY, NOW) == Allowed("maintainer on gallery/u*")
    assert judge(SIGNED_IN, Need(PULL, UI), stands, GALLERY, NOW) == Allowed("puller on gallery")
    assert reason(MANAGE, stands=stands) is Reason.NO_GRANT


@pytest.mark.parametrize("stands", [standing(grant(Role.OWNER)), standing(administrator=True)])
def test_who_is_disabled_expired_or_removed_may_nothing_whatever_was_held(stands: Standing) -> None:
    for action in Action:
        assert reason(action, stands=replace(stands, enabled=False)) is Reason.ACCOUNT_DISABLED
        assert reason(action, stands=replace(stands, expires_at=NOW)) is Reason.ACCOUNT_EXPIRED
        assert reason(action, stands=None) is Reason.ACCOUNT_REMOVED
        disabled = replace(stands, enabled=False)
        assert reason(action, stands=disabled, project=PUBLIC, caller=bearer("repository:gallery/ui:*"))
    assert allowed(PULL, stands=replace(stands, expires_at=NOW + timedelta(seconds=1)))


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("project", [None, GALLERY, PUBLIC])
def test_an_administrator_acts_as_owner_of_every_project_even_one_there_is_not(
    action: Action, project: Project | None
) -> None:
    for target in [*EVERYWHERE, None]:
        assert allowed(action, target, stands=standing(administrator=True), project=project)


def test_an_operator_is_named_as_one() -> None:
    operator = Caller(Principal(PrincipalKind.OPERATOR, 0, "operator:root"), origin(), LOCAL)

    assert judge(operator, Need(MANAGE), OPERATOR_STANDING, None, NOW) == Allowed("operator")


@pytest.mark.parametrize("action", Action)
def test_an_auditor_reviews_everything_and_does_nothing_else(action: Action) -> None:
    for target in [*EVERYWHERE, None]:
        assert allowed(action, target, stands=standing(auditor=True)) is (action is REVIEW)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", [MANAGE, REVIEW])
def test_no_role_in_a_project_gives_anything_of_the_system(role: Role, action: Action) -> None:
    assert not allowed(action, None, stands=standing(grant(role)), project=None)


@pytest.mark.parametrize("action", Action)
def test_a_public_project_may_be_pulled_by_everybody_and_nothing_more(action: Action) -> None:
    for caller, stands in ((SIGNED_IN, standing()), (Caller(ANONYMOUS, origin()), ANONYMOUS_STANDING)):
        assert allowed(action, caller=caller, stands=stands, project=PUBLIC) is (action is PULL)
        assert not allowed(action, GALLERY.name, caller=caller, stands=stands, project=PUBLIC)


@pytest.mark.parametrize("role", [*Role, None])
@pytest.mark.parametrize("carried", ["pull", "pull,push", "push", "delete", "pull,push,delete", "*", "manage,review"])
def test_a_token_gives_what_it_carries_and_policy_gives(role: Role | None, carried: str) -> None:
    stands = standing(grant(role)) if role is not None else standing()
    caller = bearer(f"repository:gallery/ui:{carried}")
    carries = set(TOKEN_ACTIONS) if carried == "*" else set(carried.split(","))

    for action in Action:
        gives = role is not None and action in MATRIX[role]
        expected = gives and action in carries and action in TOKEN_ACTIONS
        assert allowed(action, caller=caller, stands=stands) is expected
        assert not allowed(action, Repository("gallery/other"), caller=caller, stands=stands)


def test_an_administrators_token_is_bounded_by_its_scopes_too() -> None:
    stands = standing(administrator=True)

    assert allowed(PULL, caller=bearer("repository:gallery/ui:pull"), stands=stands)
    assert reason(PUSH, caller=bearer("repository:gallery/ui:pull"), stands=stands) is Reason.INSUFFICIENT_SCOPE


def test_a_right_the_token_lacks_is_told_from_one_that_policy_took_back() -> None:
    carrying, lacking = bearer("repository:gallery/ui:pull,push"), bearer("repository:gallery/ui:pull")

    assert reason(PUSH, caller=lacking, stands=standing(grant(Role.PUSHER))) is Reason.INSUFFICIENT_SCOPE
    assert reason(PUSH, caller=carrying, stands=standing(grant(Role.PULLER))) is Reason.NO_GRANT


@pytest.mark.parametrize("stands", [standing(grant(Role.OWNER)), standing(administrator=True)])
def test_tokens_end_with_the_password_and_the_project_they_were_issued_under(stands: Standing) -> None:
    caller = bearer("repository:gallery/ui:*")
    assert allowed(PULL, caller=caller, stands=stands)

    assert reason(PULL, caller=caller, stands=replace(stands, generation=4)) is Reason.CREDENTIAL_CHANGED
    recreated = replace(PUBLIC, id=6)
    assert reason(PULL, caller=caller, stands=stands, project=recreated) is Reason.PROJECT_RECREATED


def test_what_the_caller_holds_is_told_only_to_who_may_know() -> None:
    def verdict(stands: Standing, project: Project | None = GALLERY) -> Refused:
        found = judge(SIGNED_IN, Need(PUSH, UI), stands, project, NOW)
        assert isinstance(found, Refused)
        return found

    assert verdict(standing()).disclose is False
    assert verdict(standing(), None) == verdict(standing())
    assert verdict(standing(grant(Role.OWNER, "gallery/other"))) == verdict(standing())
    assert (verdict(standing(grant(Role.PULLER))).disclose, verdict(standing(grant(Role.PULLER))).held) == (
        True,
        "puller on gallery",
    )
    assert verdict(standing(), PUBLIC).held == "public project"


@pytest.mark.parametrize(
    ("stands", "projects", "expected"),
    [
        (standing(grant(Role.PULLER)), [GALLERY], ["repository:gallery/ui:pull", "registry:catalog:*"]),
        (standing(grant(Role.OWNER)), [GALLERY], ["repository:gallery/ui:pull,push,delete", "registry:catalog:*"]),
        (standing(), [GALLERY], ["registry:catalog:*"]),
        (standing(), [PUBLIC], ["repository:gallery/ui:pull", "registry:catalog:*"]),
        (standing(grant(Role.OWNER)), [], ["registry:catalog:*"]),
        (
            standing(administrator=True),
            [],
            ["repository:gallery/ui:pull,push,delete", "repository:other/x:pull", "registry:catalog:*"],
        ),
        (replace(standing(grant(Role.OWNER)), enabled=False), [PUBLIC], []),
        (replace(standing(grant(Role.OWNER)), expires_at=NOW), [PUBLIC], []),
        (None, [PUBLIC], []),
    ],
)
def test_a_token_is_given_what_was_asked_for_and_policy_gives(
    stands: Standing | None, projects: Sequence[Project], expected: list[str]
) -> None:
    wanted = parse_scopes(["repository:gallery/ui:* repository:other/x:pull registry:catalog:*"])

    assert list(granted(SIGNED_IN, wanted, stands, projects, NOW).texts()) == expected


def test_anonymous_is_given_public_pulls_and_no_catalog() -> None:
    wanted = parse_scopes(["repository:gallery/ui:pull,push registry:catalog:*"])
    given_ = granted(Caller(ANONYMOUS, origin()), wanted, ANONYMOUS_STANDING, [PUBLIC], NOW)

    assert given_ == Access({"gallery/ui": frozenset({PULL})})


roles = st.sampled_from(Role)
reaches = st.sampled_from(["gallery", "gallery/ui", "gallery/*", "gallery/*/x", "other"])
stances = st.builds(
    Standing,
    enabled=st.booleans(),
    administrator=st.booleans(),
    auditor=st.booleans(),
    grants=st.lists(st.builds(grant, roles, reaches), max_size=4).map(tuple),
)


@given(stances, st.sampled_from([GALLERY, PUBLIC, None]), st.lists(st.sampled_from(TOKEN_ACTIONS)))
def test_no_token_ever_gives_more_than_was_asked_for_nor_more_than_policy(
    stands: Standing, project: Project | None, asked: list[Action]
) -> None:
    wanted = Access({"gallery/ui": frozenset(asked)})
    found = granted(SIGNED_IN, wanted, stands, [project] if project else [], NOW)

    assert set(found.repositories.get("gallery/ui", ())) == {
        action for action in asked if allowed(action, stands=stands, project=project)
    }


@given(stances, st.sampled_from([GALLERY, PUBLIC]), st.sampled_from(Action), st.builds(grant, roles, reaches))
def test_one_more_grant_never_takes_anything_away(
    stands: Standing, project: Project, action: Action, more: Grant
) -> None:
    before = allowed(action, stands=stands, project=project)
    after = allowed(action, stands=replace(stands, grants=(*stands.grants, more)), project=project)

    assert after or not before


def test_roles_are_parsed_and_every_role_has_actions() -> None:
    assert [Role.parse(role.value) for role in Role] == list(Role) == list(ACTIONS)
    for text in ("", "admin", "Owner", "puller "):
        with pytest.raises(Invalid, match="puller, pusher, maintainer, owner"):
            Role.parse(text)


def test_a_target_on_the_command_line_is_a_repository_or_refused() -> None:
    assert parse_target("gallery/ui") == UI
    with pytest.raises(Invalid):
        parse_target("Gallery/UI")
