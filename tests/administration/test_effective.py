"""Effective access: what somebody can do and who can do something, each with everything that gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.errors import Denied, Unknown
from gateway.records.schema import grants
from tests.administration.rooms import Rooms, rooms_of
from tests.house import OPERATOR, House, opened
from tests.records.rows import written


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    """The acts on SQLite."""
    with opened(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as house:
        rooms = rooms_of(house)
        yield rooms
        rooms.acts.hashing.close()


@pytest.fixture
def team(rooms: Rooms) -> Rooms:
    return furnished(rooms)


def furnished(rooms: Rooms) -> Rooms:
    """jane owns gallery and joe attic; ann pushes to some of gallery, bob's grant there has expired; one auditor."""
    rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    rooms.user("ann")
    rooms.user("bob")
    rooms.user("root", administrator=True)
    rooms.user("audrey", auditor=True)
    add = rooms.acts.grants.add_grant
    rooms.run(add(OPERATOR, "ann", "pusher", "gallery/ui-*"))
    rooms.run(add(OPERATOR, "bob", "maintainer", "gallery"))
    expired = update(grants).where(grants.c.role == "maintainer").values(expires_at=1)
    written(rooms.house, lambda connection: connection.execute(expired))
    rooms.run(rooms.acts.robots.add_robot(OPERATOR, "gallery/ci", "pusher"))
    return rooms


def test_either_database_tells_the_same(house: House) -> None:
    team = furnished(rooms_of(house))
    assert list(who(team, team.caller("jane"), "gallery/ui-web")) == ["ann", "bob", "gallery+ci", "jane"]
    found = team.run(team.acts.effective.who(team.caller("jane"), "gallery/ui"))
    assert ([each.name for each in found.administrators], [each.name for each in found.auditors]) == (
        ["root"],
        ["audrey"],
    )
    assert team.run(team.acts.effective.explain(OPERATOR, "ann", "gallery/ui-web")).may(Action.PUSH)
    team.acts.hashing.close()


def who(team: Rooms, caller: Caller, repository: str, **more: Any) -> dict[str, dict[str, list[str]]]:
    found = team.run(team.acts.effective.who(caller, repository, **more))
    return {
        holder.principal.name: {
            action.value: [str(cause) for cause in causes] for action, causes in holder.causes.items() if causes
        }
        for holder in found.holders
    }


def test_who_can_do_what_is_told_with_what_gives_it(team: Rooms) -> None:
    found = who(team, team.caller("jane"), "gallery/ui-web")
    everything = ("pull", "push", "delete", "manage", "review")
    assert found["jane"] == {action: ["owner on gallery"] for action in everything}
    assert found["ann"] == {action: ["pusher on gallery/ui-*"] for action in ("pull", "push")}
    assert found["gallery+ci"] == {action: ["pusher on gallery"] for action in ("pull", "push")}
    assert found["bob"] == {}
    assert who(team, team.caller("jane"), "gallery/api")["ann"] == {}


def test_those_who_hold_something_everywhere_are_named_apart(team: Rooms) -> None:
    found = team.run(team.acts.effective.who(team.caller("jane"), "gallery/ui"))
    assert [principal.name for principal in found.administrators] == ["root"]
    assert [principal.name for principal in found.auditors] == ["audrey"]
    team.run(team.acts.accounts.disable(OPERATOR, "audrey"))
    assert team.run(team.acts.effective.who(team.caller("jane"), "gallery/ui")).auditors == ()


def test_every_answer_is_that_of_the_judgement(team: Rooms) -> None:
    for repository in ("gallery/ui-web", "gallery/api", "gallery"):
        found = team.run(team.acts.effective.who(OPERATOR, repository))
        for holder in found.holders:
            for action in Action:
                assert bool(holder.causes[action]) == team.may(holder.principal.name, action.value, repository)


def test_a_grant_that_gives_nothing_here_says_why(team: Rooms) -> None:
    found = team.run(team.acts.effective.explain(team.caller("jane"), "ann", "gallery/api"))
    assert not found.may(Action.PULL)
    assert [(str(grant), why) for grant, why in found.others] == [
        ("pusher on gallery/ui-*", "it does not cover gallery/api")
    ]


def test_a_grant_that_has_expired_says_so(team: Rooms) -> None:
    (right, _) = team.run(team.acts.effective.of_account(OPERATOR, "bob")).rights
    assert (right.why, right.live) == ("maintainer on gallery", False)
    found = team.run(team.acts.effective.explain(OPERATOR, "bob", "gallery/ui"))
    assert [(str(grant), why) for grant, why in found.others] == [("maintainer on gallery", "it has expired")]


def test_a_rule_holds_off_everybody_and_is_told(team: Rooms) -> None:
    team.run(team.acts.projects.set_project(OPERATOR, "gallery", read_only="stocktaking"))
    found = team.run(team.acts.effective.explain(team.caller("jane"), "jane", "gallery/ui"))
    assert (found.may(Action.PULL), found.may(Action.PUSH), found.may(Action.MANAGE)) == (True, False, True)
    assert "stocktaking" in found.hindrances[Action.DELETE]


def test_a_public_project_is_for_anybody_to_pull_from(team: Rooms) -> None:
    team.run(team.acts.projects.set_project(OPERATOR, "gallery", public=True))
    found = team.run(team.acts.effective.explain(team.caller("jane"), "anonymous", "gallery/ui"))
    assert [str(cause) for cause in found.causes[Action.PULL]] == ["public project"]
    assert not found.may(Action.PUSH)


def test_what_an_account_can_do_is_told_by_what_gives_it(team: Rooms) -> None:
    found = team.run(team.acts.effective.of_account(OPERATOR, "ann"))
    assert [(right.reach, [str(action) for action in right.actions], right.why) for right in found.rights] == [
        ("gallery/ui-*", ["pull", "push"], "pusher on gallery/ui-*"),
        ("every public project", ["pull"], "public project"),
    ]
    root = team.run(team.acts.effective.of_account(OPERATOR, "root"))
    assert (root.rights[0].reach, root.rights[0].actions) == ("every project", tuple(Action))


def test_a_disabled_account_can_do_nothing_and_that_is_said(team: Rooms) -> None:
    team.run(team.acts.accounts.disable(OPERATOR, "ann"))
    assert team.run(team.acts.effective.of_account(OPERATOR, "ann")).barred == "it is disabled"
    found = team.run(team.acts.effective.explain(OPERATOR, "ann", "gallery/ui-web"))
    assert (found.may(Action.PULL), found.barred) == (False, "it is disabled")


def test_accounts_come_in_pages(team: Rooms) -> None:
    first = team.run(team.acts.effective.who(OPERATOR, "gallery/ui", limit=2))
    second = team.run(team.acts.effective.who(OPERATOR, "gallery/ui", limit=2, after=first.next))
    names = [holder.principal.name for page in (first, second) for holder in page.holders]
    assert (names, second.next) == (["ann", "bob", "gallery+ci", "jane"], "")


def test_everybody_may_ask_about_themselves(team: Rooms) -> None:
    assert team.run(team.acts.effective.of_account(team.caller("ann"), "ann")).account.name == "ann"


@pytest.mark.parametrize("asker", ["root", "audrey"])
def test_administrators_and_auditors_may_ask_about_everybody(team: Rooms, asker: str) -> None:
    caller = team.caller(asker)
    assert team.run(team.acts.effective.of_account(caller, "joe")).rights
    assert "joe" in who(team, caller, "attic/ui")


def test_an_owner_is_told_what_concerns_the_project_alone(team: Rooms) -> None:
    team.run(team.acts.grants.add_grant(OPERATOR, "ann", "puller", "attic"))
    found = team.run(team.acts.effective.of_account(team.caller("jane"), "ann", "gallery"))
    assert [right.reach for right in found.rights] == ["gallery/ui-*"]
    for act in (
        team.acts.effective.of_account(team.caller("jane"), "ann"),
        team.acts.effective.of_account(team.caller("jane"), "ann", "attic"),
        team.acts.effective.who(team.caller("jane"), "attic/ui"),
        team.acts.effective.explain(team.caller("jane"), "joe", "attic/ui"),
        team.acts.effective.who(team.caller("ann"), "gallery/ui-web"),
    ):
        with pytest.raises(Denied):
            team.run(act)


def test_a_project_of_somebody_else_is_refused_as_one_that_is_not_there(team: Rooms) -> None:
    said = []
    for project in ("attic", "nowhere"):
        with pytest.raises(Denied) as refused:
            team.run(team.acts.effective.who(team.caller("jane"), f"{project}/ui"))
        said.append(refused.value.message.replace(project, "it"))
    assert said[0] == said[1]


def test_who_or_what_is_not_there_is_unknown_to_who_may_know(team: Rooms) -> None:
    for act in (
        team.acts.effective.of_account(OPERATOR, "nobody"),
        team.acts.effective.explain(OPERATOR, "nobody", "gallery/ui"),
        team.acts.effective.who(OPERATOR, "nowhere/ui"),
        team.acts.effective.of_account(OPERATOR, "ann", "nowhere"),
    ):
        with pytest.raises(Unknown):
            team.run(act)


def test_asking_is_an_event(team: Rooms) -> None:
    team.run(team.acts.effective.who(team.caller("jane"), "gallery/ui"))
    event = team.last("access.ask")
    assert (event["principal"], event["repository"], event["outcome"]) == ("jane", "gallery/ui", "allowed")
