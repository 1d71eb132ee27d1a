"""Bounds of personal tokens: what they spell, and that nothing is allowed outside of one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.personal import Bound, check_days, parse_bound, parse_name
from gateway.access.policy import Allowed, Grant, Need, Project, Reach, Reason, Refused, Role, Standing, granted, judge
from gateway.access.principals import Caller, Credential, CredentialKind, Principal, PrincipalKind
from gateway.access.scopes import Access, Action
from gateway.errors import Invalid, NameInvalid
from gateway.oci.names import ProjectName, Repository
from tests.access.keeping import origin

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ALICE = Principal(PrincipalKind.USER, 7, "alice")
GALLERY, MUSEUM = ProjectName("gallery"), ProjectName("museum")
TARGETS = (None, GALLERY, MUSEUM, Repository("gallery/ui"), Repository("museum/ui"))
PULL_GALLERY = Bound(frozenset({Action.PULL}), frozenset({"gallery"}))
LIVE = {3: int(NOW.timestamp()) + 1}

bounds = st.builds(
    Bound,
    st.frozensets(st.sampled_from(Action)),
    st.none() | st.frozensets(st.sampled_from(["gallery", "museum"])),
)
standings = st.builds(
    Standing,
    administrator=st.booleans(),
    auditor=st.booleans(),
    grants=st.lists(
        st.builds(Grant, st.sampled_from(Role), st.builds(Reach, st.sampled_from([GALLERY, MUSEUM]))), max_size=2
    ).map(tuple),
    personal_tokens=st.just(LIVE),
)


def caller(bound: Bound | None, **facts: object) -> Caller:
    credential = Credential(CredentialKind.PERSONAL_TOKEN, "3")
    return Caller(ALICE, origin(), credential, bound=bound, **{"personal_token": 3, **facts})  # type: ignore[arg-type]


def project_of(need: Need) -> Project | None:
    return Project(1 if need.project == GALLERY else 2, need.project) if need.project is not None else None


@given(bounds, standings, st.sampled_from(Action), st.sampled_from(TARGETS))
def test_a_bound_takes_away_and_never_gives(
    bound: Bound, standing: Standing, action: Action, target: Repository | ProjectName | None
) -> None:
    need = Need(action, target)
    without = judge(caller(None), need, standing, project_of(need), NOW)
    within = judge(caller(bound), need, standing, project_of(need), NOW)

    lies_inside = action in bound.actions and (
        bound.projects is None or (need.project is not None and need.project.name in bound.projects)
    )
    assert isinstance(within, Allowed) == (isinstance(without, Allowed) and lies_inside)
    if not lies_inside:
        assert isinstance(within, Refused)
        assert within.reason is Reason.INSUFFICIENT_SCOPE


@given(bounds, standings)
def test_what_is_granted_to_a_bearer_lies_within_the_bound(bound: Bound, standing: Standing) -> None:
    wanted = Access({name: frozenset(Action) for name in ("gallery/ui", "museum/ui")}, catalog=True)
    projects = [Project(1, GALLERY), Project(2, MUSEUM)]

    access = granted(caller(bound), wanted, standing, projects, NOW)

    for name, actions in access.repositories.items():
        assert actions <= bound.actions
        assert bound.projects is None or name.partition("/")[0] in bound.projects
    assert not access.catalog or (bound.projects is None and Action.PULL in bound.actions)


def test_a_right_on_the_system_lies_in_no_bound_that_names_projects() -> None:
    bound = Bound(frozenset(Action), frozenset({"gallery"}))
    administrator = Standing(administrator=True, personal_tokens=LIVE)

    verdict = judge(caller(bound), Need(Action.MANAGE), administrator, None, NOW)

    assert isinstance(verdict, Refused)
    assert not bound.administers
    assert Bound(frozenset({Action.MANAGE})).administers


@pytest.mark.parametrize("tokens", [{}, {3: int(NOW.timestamp())}, {4: int(NOW.timestamp()) + 1}])
def test_a_token_that_is_revoked_or_over_is_worth_nothing_and_neither_is_its_bearer(tokens: dict[int, int]) -> None:
    need = Need(Action.PULL, Repository("gallery/ui"))
    standing = Standing(grants=(Grant(Role.OWNER, Reach(GALLERY)),), personal_tokens=tokens)
    bearer = Caller(
        ALICE,
        origin(),
        Credential(CredentialKind.BEARER, "j"),
        Access({"gallery/ui": frozenset({Action.PULL})}),
        personal_token=3,
    )

    for who in (caller(PULL_GALLERY), bearer):
        verdict = judge(who, need, standing, project_of(need), NOW)
        assert isinstance(verdict, Refused)
        assert verdict.reason is Reason.CREDENTIAL_REVOKED


def test_a_session_ends_with_the_generation_it_began_at() -> None:
    need = Need(Action.MANAGE)
    session = Caller(ALICE, origin(), Credential(CredentialKind.SESSION, "1"), generation=2)

    assert isinstance(judge(session, need, Standing(generation=2, administrator=True), None, NOW), Allowed)
    verdict = judge(session, need, Standing(generation=3, administrator=True), None, NOW)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.CREDENTIAL_CHANGED


def test_bounds_are_spelled_by_names() -> None:
    assert parse_bound(["pull", " push"], None) == Bound(frozenset({Action.PULL, Action.PUSH}))
    assert parse_bound(["pull"], ["gallery", "gallery"]) == PULL_GALLERY
    assert PULL_GALLERY.told() == {"actions": ["pull"], "projects": ["gallery"]}


@pytest.mark.parametrize(
    ("actions", "projects"),
    [
        ([], None),
        ([""], None),
        (["*"], None),
        (["pull", "own"], None),
        (["pull"], []),
        (["pull"], ["Gallery"]),
        (["pull"], ["gallery/ui"]),
        (["pull"], [f"p{number}" for number in range(51)]),
    ],
)
def test_what_spells_no_bound_is_refused(actions: list[str], projects: list[str] | None) -> None:
    with pytest.raises((Invalid, NameInvalid)):
        parse_bound(actions, projects)


@given(st.lists(st.text()), st.none() | st.lists(st.text()))
def test_no_text_makes_a_bound_that_names_nothing(actions: list[str], projects: list[str] | None) -> None:
    try:
        bound = parse_bound(actions, projects)
    except (Invalid, NameInvalid):
        return
    assert bound.actions
    assert bound.projects is None or bound.projects


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "\x1b[31m"])
def test_a_name_is_printable_and_short(name: str) -> None:
    with pytest.raises(Invalid):
        parse_name(name)
    assert parse_name(" nightly build ") == "nightly build"


def test_a_token_lives_at_most_a_year() -> None:
    assert check_days(365) == 365
    for days in (0, -1, 366):
        with pytest.raises(Invalid):
            check_days(days)
