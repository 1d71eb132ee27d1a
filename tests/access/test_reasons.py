"""Reasons: the judgement told in full; it and they never say different things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.policy import Allowed, Grant, Need, Project, Reach, Role, Standing, judge
from gateway.access.principals import Caller, Origin, Principal, PrincipalKind
from gateway.access.reasons import barred, causes
from gateway.access.scopes import Action
from gateway.oci.names import ProjectName, Repository

NOW = datetime(2026, 6, 1, tzinfo=UTC)
GALLERY = ProjectName("gallery")
CALLER = Caller(Principal(PrincipalKind.USER, 7, "jane"), Origin("", "", "", ""))

moments = st.sampled_from([None, NOW - timedelta(days=1), NOW, NOW + timedelta(days=1)])
reaches = st.sampled_from(["gallery", "gallery/ui", "gallery/ui-*", "gallery/*", "attic", "attic/*"]).map(Reach.parse)
grants = st.builds(Grant, st.sampled_from(Role), reaches, moments)
standings = st.none() | st.builds(
    Standing,
    enabled=st.booleans(),
    administrator=st.booleans(),
    auditor=st.booleans(),
    expires_at=moments,
    grants=st.lists(grants, max_size=4).map(tuple),
)
projects = st.none() | st.builds(Project, st.just(1), st.just(GALLERY), st.booleans())
targets = (
    st.none() | st.just(GALLERY) | st.sampled_from(["gallery/ui", "gallery/ui-web", "gallery/a/b"]).map(Repository)
)


@given(standings, projects, st.sampled_from(Action), targets)
def test_there_is_a_cause_exactly_when_the_judgement_allows(
    standing: Standing | None, project: Project | None, action: Action, target: Repository | ProjectName | None
) -> None:
    need = Need(action, target)
    found = causes(need, standing, project, NOW)
    verdict = judge(CALLER, need, standing, project, NOW)
    assert bool(found) == isinstance(verdict, Allowed)
    if isinstance(verdict, Allowed):
        assert verdict.grant in {str(cause) for cause in found}


def test_every_grant_that_gives_a_right_is_told() -> None:
    held = tuple(Grant(role, Reach.parse("gallery"), None) for role in (Role.PUSHER, Role.OWNER))
    project = Project(1, GALLERY, public=True)
    found = causes(Need(Action.PULL, Repository("gallery/ui")), Standing(grants=held), project, NOW)
    assert [str(cause) for cause in found] == ["pusher on gallery", "owner on gallery", "public project"]


def test_why_an_account_counts_for_nothing_is_said() -> None:
    assert barred(None, NOW) == "it does not exist any more"
    assert barred(Standing(enabled=False), NOW) == "it is disabled"
    assert barred(Standing(expires_at=NOW), NOW) == "it has expired"
    assert barred(Standing(), NOW) == ""
