"""Users: added, changed, suspended, removed; by administrators only, and every act recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.passwords import verify
from gateway.access.principals import Credential, CredentialKind
from gateway.errors import Conflict, Denied, Invalid, Unauthorized, Unknown
from gateway.records.schema import accounts
from tests.administration.rooms import Rooms
from tests.house import OPERATOR
from tests.records.rows import an_offline_token, column


def test_a_generated_password_is_returned_once_and_kept_only_as_a_hash(rooms: Rooms) -> None:
    made = rooms.run(rooms.acts.accounts.add_user(OPERATOR, "writer"))

    assert made.secret is not None
    assert verify(made.secret, column(rooms.house, accounts.c.secret)[0])
    assert made.secret not in repr(made)
    assert made.secret not in str(rooms.house.records())


def test_a_chosen_password_is_not_returned(rooms: Rooms) -> None:
    made = rooms.run(rooms.acts.accounts.add_user(OPERATOR, "writer", password="correct horse battery"))

    assert made.secret is None
    assert verify("correct horse battery", column(rooms.house, accounts.c.secret)[0])


def test_adding_a_user_records_what_there_is_then(rooms: Rooms) -> None:
    rooms.run(rooms.acts.accounts.add_user(OPERATOR, "writer", auditor=True))

    event = rooms.last("account.add")
    assert event["outcome"] == "allowed"
    assert event["principal"] == "operator:root"
    assert event["after"] == {"account": "writer", "enabled": True, "administrator": False, "auditor": True}
    assert "before" not in event


def test_a_taken_name_is_a_conflict_and_changes_nothing(rooms: Rooms) -> None:
    rooms.user("writer")

    with pytest.raises(Conflict, match="writer already"):
        rooms.run(rooms.acts.accounts.add_user(OPERATOR, "writer", administrator=True))

    assert not rooms.run(rooms.acts.accounts.show_account(OPERATOR, "writer")).account.administrator
    assert rooms.last("account.add")["outcome"] == "failed"


@pytest.mark.parametrize(("name", "password"), [("Writer", None), ("a+b", None), ("writer", ""), ("writer", "ö" * 37)])
def test_an_illegal_name_or_password_makes_no_account(rooms: Rooms, name: str, password: str | None) -> None:
    with pytest.raises(Invalid):
        rooms.run(rooms.acts.accounts.add_user(OPERATOR, name, password=password))

    assert rooms.run(rooms.acts.accounts.list_accounts(OPERATOR)) == ()


def test_who_is_no_administrator_is_denied_and_the_attempt_is_recorded(rooms: Rooms) -> None:
    writer = rooms.user("writer")

    with pytest.raises(Denied, match="manage on the system is missing"):
        rooms.run(rooms.acts.accounts.add_user(writer, "friend", administrator=True))

    assert [account.name for account in rooms.run(rooms.acts.accounts.list_accounts(OPERATOR))] == ["writer"]
    event = rooms.last("account.add")
    assert (event["outcome"], event["principal"], event["reason"]) == ("denied", "writer", "no_grant")
    assert event["detail"] == {"account": "friend"}


def test_an_auditor_administers_nothing(rooms: Rooms) -> None:
    auditor = rooms.user("auditor", auditor=True)

    for act in (
        rooms.acts.accounts.set_user(auditor, "auditor", administrator=True),
        rooms.acts.accounts.disable(auditor, "auditor"),
        rooms.acts.accounts.enable(auditor, "auditor"),
        rooms.acts.accounts.set_password(auditor, "auditor"),
        rooms.acts.accounts.remove_user(auditor, "auditor"),
        rooms.acts.projects.add_project(auditor, "gallery"),
        rooms.acts.offline_tokens.list_tokens(auditor),
        rooms.acts.offline_tokens.revoke_token(auditor, 1),
    ):
        with pytest.raises(Denied):
            rooms.run(act)


def test_a_system_role_is_given_and_recorded_before_and_after(rooms: Rooms) -> None:
    rooms.user("writer")

    account = rooms.run(rooms.acts.accounts.set_user(OPERATOR, "writer", administrator=True))

    assert (account.administrator, account.auditor) == (True, False)
    event = rooms.last("account.set")
    assert event["before"]["administrator"] is False
    assert event["after"]["administrator"] is True


def test_an_administrator_adds_others(rooms: Rooms) -> None:
    admin = rooms.user("admin", administrator=True)

    rooms.run(rooms.acts.accounts.add_user(admin, "writer"))

    assert rooms.last("account.add")["grant"] == "administrator"


def test_the_last_enabled_administrator_stays_one(rooms: Rooms) -> None:
    rooms.user("admin", administrator=True)
    rooms.user("second", administrator=True)
    rooms.run(rooms.acts.accounts.disable(OPERATOR, "second"))

    for act in (
        rooms.acts.accounts.set_user(OPERATOR, "admin", administrator=False),
        rooms.acts.accounts.disable(OPERATOR, "admin"),
        rooms.acts.accounts.remove_user(OPERATOR, "admin"),
    ):
        with pytest.raises(Conflict, match="last enabled administrator"):
            rooms.run(act)

    assert rooms.run(rooms.acts.accounts.show_account(OPERATOR, "admin")).account.administrator


def test_an_administrator_goes_when_another_is_enabled(rooms: Rooms) -> None:
    rooms.user("admin", administrator=True)
    rooms.user("second", administrator=True)

    rooms.run(rooms.acts.accounts.remove_user(OPERATOR, "admin"))

    assert [account.name for account in rooms.run(rooms.acts.accounts.list_accounts(OPERATOR))] == ["second"]


def test_a_disabled_user_may_nothing_until_enabled_again(rooms: Rooms) -> None:
    owner = rooms.owner("writer", "gallery")
    rooms.run(rooms.acts.accounts.disable(OPERATOR, "writer"))

    with pytest.raises(Denied):
        rooms.run(rooms.acts.projects.show_project(owner, "gallery"))
    with pytest.raises(Denied, match="disabled"):
        rooms.run(rooms.acts.projects.list_projects(owner))
    assert rooms.last("account.disable")["after"]["enabled"] is False

    rooms.run(rooms.acts.accounts.enable(OPERATOR, "writer"))
    assert rooms.run(rooms.acts.projects.show_project(owner, "gallery")).project.name == "gallery"


def test_a_new_password_revokes_offline_tokens_and_issued_tokens(rooms: Rooms) -> None:
    writer = rooms.user("writer", administrator=True)
    an_offline_token(rooms.house, writer.principal.id)
    bearer = replace(writer, credential=Credential(CredentialKind.BEARER, "jti"), generation=0)
    rooms.run(rooms.acts.accounts.list_accounts(bearer))

    made = rooms.run(rooms.acts.accounts.set_password(OPERATOR, "writer"))

    assert made.secret is not None
    assert rooms.run(rooms.acts.offline_tokens.list_tokens(OPERATOR)) == ()
    with pytest.raises(Unauthorized):
        rooms.run(rooms.acts.accounts.list_accounts(bearer))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.projects.list_projects(bearer))
    event = rooms.last("account.password")
    assert (event["before"]["generation"], event["after"]["generation"]) == (0, 1)
    assert event["detail"] == {"account": "writer", "offline_tokens_revoked": 1}
    assert made.secret not in str(event)


def test_a_user_added_again_under_the_name_has_nothing_of_the_old_one(rooms: Rooms) -> None:
    old = rooms.owner("writer", "gallery")
    an_offline_token(rooms.house, old.principal.id)
    rooms.run(rooms.acts.accounts.remove_user(OPERATOR, "writer"))
    new = rooms.user("writer")

    assert new.principal.id != old.principal.id
    detail = rooms.run(rooms.acts.accounts.show_account(OPERATOR, "writer"))
    assert (detail.grants, detail.offline_tokens) == ((), 0)
    for caller in (old, new):
        with pytest.raises(Denied):
            rooms.run(rooms.acts.projects.show_project(caller, "gallery"))
    removed = rooms.last("account.remove")
    assert removed["before"]["account"] == "writer"
    assert removed["detail"] == {"account": "writer", "grants_removed": 1, "offline_tokens_revoked": 1}


def test_an_unknown_name_is_said_to_be_unknown(rooms: Rooms) -> None:
    accounts = rooms.acts.accounts
    for act in (
        accounts.set_user(OPERATOR, "nobody", auditor=True),
        accounts.show_account(OPERATOR, "nobody"),
        accounts.disable(OPERATOR, "nobody"),
        accounts.enable(OPERATOR, "nobody"),
        accounts.set_password(OPERATOR, "nobody"),
        accounts.remove_user(OPERATOR, "nobody"),
    ):
        with pytest.raises(Unknown, match="There is no user nobody"):
            rooms.run(act)
    assert {record["outcome"] for record in rooms.house.records()} == {"failed"}


def test_a_robot_is_not_changed_as_a_user(rooms: Rooms) -> None:
    rooms.owner("writer", "gallery")
    rooms.run(rooms.acts.robots.add_robot(OPERATOR, "gallery/ci", "pusher"))

    for act in (
        rooms.acts.accounts.set_user(OPERATOR, "gallery+ci", administrator=True),
        rooms.acts.accounts.set_password(OPERATOR, "gallery+ci"),
        rooms.acts.accounts.remove_user(OPERATOR, "gallery/ci"),
    ):
        with pytest.raises(Invalid, match="robot"):
            rooms.run(act)
