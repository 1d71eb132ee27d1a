"""Who pulled what, what a leaked credential touched, and what a change of policy would have decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.access.principals import Caller, Credential, CredentialKind
from gateway.administration import Proposal, Verb, tracing
from gateway.audit.chain import told
from gateway.audit.event import Event, Kind, Outcome
from gateway.audit.trail import Search
from gateway.errors import Conflict, Denied, Invalid, Unknown
from gateway.gate import Act
from gateway.records import accounts
from gateway.records.database import Database
from tests.administration.rooms import Rooms
from tests.house import GATEWAY, OPERATOR
from tests.records.rows import an_offline_token
from tests.records.test_trail import tamper

BEGUN = datetime.now(UTC) - timedelta(days=2)
#: Minutes after that, when everything that a test adds is there.
LATER = 3 * 24 * 60
A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def happened(rooms: Rooms, kind: Kind, minutes: float, caller: Caller = GATEWAY, **fields: Any) -> None:
    facts = {"project": "gallery", "repository": "gallery/ui", **fields}
    event = Event(kind, caller, time=BEGUN + timedelta(minutes=minutes)).but(**facts)
    rooms.run(rooms.house.ledger.commit(Act(event)))


def projected(rooms: Rooms) -> None:
    """Searches have all that has happened."""
    for _ in range(2):
        rooms.house.ledger._follow()


def pushed(rooms: Rooms, minutes: float, digest: str, before: str = "", tag: str = "v1") -> None:
    tags = {"before": {"tags": {tag: before} if before else {}}, "after": {"tags": {tag: digest}}}
    happened(rooms, Kind.MANIFEST_PUSH, minutes, digest=digest, reference=tag, action="push", **tags)


def test_who_pulled_a_digest_is_told_by_whom_from_where_and_how_often(rooms: Rooms) -> None:
    jane = rooms.user("jane")
    for minutes in (1, 2, 3):
        happened(rooms, Kind.MANIFEST_PULL, minutes, digest=A)
    happened(rooms, Kind.MANIFEST_PULL, 4, jane, digest=A, repository="gallery/copy")
    happened(rooms, Kind.MANIFEST_PULL, 5, digest=B)
    happened(rooms, Kind.MANIFEST_PULL, 6, digest=A, outcome=Outcome.DENIED)

    found = rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, A))

    assert [(pull.principal, pull.repository, pull.count) for pull in found.pulls] == [
        ("jane", "gallery/copy", 1),
        ("gateway", "gallery/ui", 3),
    ]
    assert (found.pulls[1].first, found.pulls[1].last) == (BEGUN + timedelta(minutes=1), BEGUN + timedelta(minutes=3))
    assert (found.looked, found.whole) == (4, True)
    here = rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, f"gallery/ui@{A}"))
    assert [pull.count for pull in here.pulls] == [3]
    assert rooms.last("audit.trace")["digest"] == A


def test_an_event_that_was_edited_does_not_end_a_trace(rooms: Rooms) -> None:
    for minutes in (1, 2):
        happened(rooms, Kind.MANIFEST_PULL, minutes, digest=A)
    newest = rooms.house.trail.page(Search(digest=A), limit=1)[0]
    body = newest.body.replace('"previous_hash":"', '"was":"')
    assert told(body) is None
    tamper(rooms.house, f"UPDATE events SET body = '{body}' WHERE seq = {newest.seq}")

    found = rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, A))

    assert [(pull.principal, pull.repository, pull.count) for pull in found.pulls] == [("gateway", "gallery/ui", 2)]


def test_pulls_are_counted_together_whether_searches_have_them_already_or_not(rooms: Rooms) -> None:
    jane = rooms.user("jane")
    happened(rooms, Kind.MANIFEST_PULL, 1, digest=A)
    happened(rooms, Kind.BLOB_PULL, 2, jane, digest=A)
    happened(rooms, Kind.MANIFEST_PUSH, 3, jane, digest=A)
    happened(rooms, Kind.MANIFEST_PULL, 4, digest=A, outcome=Outcome.FAILED)
    projected(rooms)
    happened(rooms, Kind.MANIFEST_PULL, 5, digest=A)
    happened(rooms, Kind.MANIFEST_PULL, 6, digest=A, repository="gallery/copy")

    for target, copies in ((A, 1), (f"gallery/ui@{A}", 0)):
        found = rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, target))

        told = [(pull.principal, pull.repository, pull.count, pull.first, pull.last) for pull in found.pulls]
        assert told[copies:] == [
            ("gateway", "gallery/ui", 2, BEGUN + timedelta(minutes=1), BEGUN + timedelta(minutes=5)),
            ("jane", "gallery/ui", 1, BEGUN + timedelta(minutes=2), BEGUN + timedelta(minutes=2)),
        ]
        assert [pull.repository for pull in found.pulls[:copies]] == ["gallery/copy"] * copies
        assert (found.looked, found.whole) == (3 + copies, True)


@pytest.mark.parametrize("field", ["principal", "address", "kind"])
def test_a_trace_tells_what_was_sealed_where_searches_have_something_else(rooms: Rooms, field: str) -> None:
    for minutes in (1, 2, 3):
        happened(rooms, Kind.MANIFEST_PULL, minutes, digest=A)
    happened(rooms, Kind.MANIFEST_PUSH, 4, digest=A)
    projected(rooms)
    newest = rooms.house.trail.page(Search(digest=A), limit=1)[0].seq
    other = "blob.pull" if field == "kind" else "somebody"
    tamper(rooms.house, f"UPDATE event_index SET {field} = '{other}' WHERE seq IN ({newest}, {newest - 1})")

    found = rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, A))

    assert {(pull.principal, pull.address) for pull in found.pulls} == {("gateway", GATEWAY.origin.address)}


def test_of_very_many_pulls_the_newest_are_counted(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST", 3)
    for minutes in (1, 2, 3, 4):
        happened(rooms, Kind.MANIFEST_PULL, minutes, digest=A)
    for _ in range(2):
        found = rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, A))
        assert [(pull.count, pull.first) for pull in found.pulls] == [(3, BEGUN + timedelta(minutes=2))]
        assert (found.looked, found.whole) == (3, False)
        projected(rooms)


def test_a_tag_is_what_it_was_at_that_moment(rooms: Rooms) -> None:
    pushed(rooms, 10, A)
    pushed(rooms, 15, B, tag="v2")
    pushed(rooms, 20, B, before=A)
    happened(rooms, Kind.TAG_DELETE, 30, reference="v1", before={"tags": {"v1": B}}, after={"tags": {}})

    def digest_at(minutes: float | None) -> str:
        at = BEGUN + timedelta(minutes=minutes) if minutes is not None else None
        return rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, "gallery/ui:v1", at)).digest

    assert digest_at(15) == A
    assert digest_at(25) == B
    for gone in (5, 31, None):
        with pytest.raises(Unknown, match="named nothing"):
            digest_at(gone)


@pytest.mark.parametrize("kind", [Kind.TAG_RESTORE, Kind.MANIFEST_RESTORE])
def test_a_tag_that_was_moved_back_is_traced_as_what_it_names_now(rooms: Rooms, kind: Kind) -> None:
    pushed(rooms, 10, A)
    pushed(rooms, 20, B, before=A)
    happened(rooms, kind, 30, reference="v1", digest=A, before={"tags": {"v1": B}}, after={"tags": {"v1": A}})

    assert rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, "gallery/ui:v1")).digest == A


def test_a_tag_that_retention_removed_names_nothing_also_where_its_event_says_no_more(rooms: Rooms) -> None:
    pushed(rooms, 10, A)
    happened(rooms, Kind.TAG_DELETE, 20, reference="v2")
    assert rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, "gallery/ui:v1")).digest == A
    happened(rooms, Kind.TAG_DELETE, 30, reference="v1")
    with pytest.raises(Unknown, match="named nothing"):
        rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, "gallery/ui:v1"))


def test_what_names_no_content_is_refused(rooms: Rooms) -> None:
    for target in ("gallery/ui", "sha256:xyz", "gallery/ui:", "gallery/ui@v1", "Gallery/ui:v1", ""):
        with pytest.raises(Invalid):
            rooms.run(rooms.acts.tracing.who_pulled(OPERATOR, target))


def test_an_owner_traces_within_its_project_alone(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    happened(rooms, Kind.MANIFEST_PULL, LATER, digest=A)
    assert rooms.run(rooms.acts.tracing.who_pulled(owner, f"gallery/ui@{A}")).pulls
    for target in (A, f"attic/ui@{A}", "attic/ui:v1"):
        with pytest.raises(Denied):
            rooms.run(rooms.acts.tracing.who_pulled(owner, target))


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
def test_an_owner_is_told_no_pull_and_no_tag_of_a_project_that_had_the_name_before(
    rooms: Rooms, *, searched: bool, sealed: bool
) -> None:
    trace, auditor = rooms.acts.tracing.who_pulled, rooms.user("auditor", auditor=True)
    pushed(rooms, 1, A)
    happened(rooms, Kind.MANIFEST_PULL, 2, rooms.user("jane"), digest=A)
    owner = rooms.owner("joe", "gallery")
    happened(rooms, Kind.MANIFEST_PULL, LATER, digest=A)
    happened(rooms, Kind.MANIFEST_PULL, LATER + 1, digest=A)
    if searched:
        projected(rooms)

    assert {pull.principal for pull in rooms.run(trace(auditor, f"gallery/ui@{A}")).pulls} == {"jane", "gateway"}
    found = rooms.run(trace(owner, f"gallery/ui@{A}", sealed=sealed))
    assert [(pull.principal, pull.count, pull.first) for pull in found.pulls] == [
        ("gateway", 2, BEGUN + timedelta(minutes=LATER))
    ]
    assert (found.looked, found.whole) == (2, True)
    assert rooms.run(trace(auditor, "gallery/ui:v1")).digest == A
    for at in (None, BEGUN + timedelta(minutes=3)):
        with pytest.raises(Unknown, match="gallery/ui:v1 named nothing"):
            rooms.run(trace(owner, "gallery/ui:v1", at, sealed=sealed))


@pytest.mark.parametrize("name", ["gallery/ci", "jane"])
def test_the_leak_switch_tells_nothing_of_an_account_that_had_the_name_before(rooms: Rooms, name: str) -> None:
    acts = rooms.acts
    rooms.run(acts.projects.add_project(OPERATOR, "gallery"))

    def added() -> Caller:
        if name == "jane":
            return rooms.user(name)
        rooms.run(acts.robots.add_robot(OPERATOR, name, "pusher"))
        return rooms.caller("gallery+ci")

    happened(rooms, Kind.MANIFEST_PULL, 1, added(), digest=A)
    rooms.run(acts.accounts.remove_user(OPERATOR, name) if name == "jane" else acts.robots.remove_robot(OPERATOR, name))
    happened(rooms, Kind.MANIFEST_PULL, 2, added(), digest=B)

    for plan in (True, False):
        told = rooms.run(acts.tracing.leak(OPERATOR, name, BEGUN, plan=plan))
        assert ([each.digest for each in told.touched], told.looked, told.whole) == ([B], 1, True)


def test_the_leak_switch_ends_a_robot_and_tells_what_it_touched(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.run(rooms.acts.robots.add_robot(owner, "gallery/ci", "pusher"))
    robot = rooms.caller("gallery+ci")
    happened(rooms, Kind.MANIFEST_PULL, 1, robot, digest=A)
    happened(rooms, Kind.MANIFEST_PUSH, 2, robot, digest=B)
    happened(rooms, Kind.MANIFEST_PUSH, 3, robot, digest=B)
    happened(rooms, Kind.MANIFEST_PULL, 4, digest=A)
    before = rooms.run(rooms.house.directory.standing(robot.principal))

    planned = rooms.run(rooms.acts.tracing.leak(owner, "gallery/ci", BEGUN, plan=True))
    assert rooms.run(rooms.house.directory.standing(robot.principal)) == before
    done = rooms.run(rooms.acts.tracing.leak(owner, "gallery/ci", BEGUN))

    assert [(each.verb, each.digest, each.count) for each in done.touched] == [("push", B, 2), ("pull", A, 1)]
    assert (planned.touched, planned.revoked, done.revoked) == (done.touched, False, True)
    after = rooms.run(rooms.house.directory.standing(robot.principal))
    assert before is not None
    assert after is not None
    assert after.generation == before.generation + 1
    assert after.expires_at == before.expires_at
    event = rooms.last("credential.leak")
    assert (event["outcome"], event["project"]) == ("allowed", "gallery")


def test_what_was_done_before_the_date_is_not_told(rooms: Rooms) -> None:
    rooms.user("jane")
    happened(rooms, Kind.MANIFEST_PULL, 1, rooms.caller("jane"), digest=A)
    since = BEGUN + timedelta(minutes=2)
    assert rooms.run(rooms.acts.tracing.leak(OPERATOR, "jane", since, plan=True)).touched == ()


def test_an_offline_token_that_leaked_is_revoked_and_its_tokens_are_followed(rooms: Rooms) -> None:
    jane = rooms.user("jane")
    number = an_offline_token(rooms.house, jane.principal.id)
    offline = replace(jane, credential=Credential(CredentialKind.OFFLINE_TOKEN, str(number)))
    bearer = replace(jane, credential=Credential(CredentialKind.BEARER, "jti-of-leak"))
    other = replace(jane, credential=Credential(CredentialKind.BEARER, "jti-of-hers"))
    happened(rooms, Kind.TOKEN_ISSUE, 1, offline, detail={"id": "jti-of-leak"})
    happened(rooms, Kind.MANIFEST_PULL, 2, bearer, digest=A)
    happened(rooms, Kind.MANIFEST_PULL, 3, other, digest=B)

    done = rooms.run(rooms.acts.tracing.leak(OPERATOR, str(number), BEGUN))

    assert [each.digest for each in done.touched] == [A]
    assert rooms.run(rooms.acts.offline_tokens.list_tokens(OPERATOR)) == ()
    for credential in (str(number), "99", "nobody", "gallery/nobody"):
        with pytest.raises(Unknown):
            rooms.run(rooms.acts.tracing.leak(OPERATOR, credential, BEGUN))


def test_a_personal_token_that_leaked_is_revoked_alone_and_followed_alone(rooms: Rooms) -> None:
    jane = rooms.user("jane")
    issue = rooms.acts.personal_tokens.issue
    leaked, other = (rooms.run(issue(jane, name, ["pull"], None, 30)) for name in ("leaked", "other"))
    by_itself = replace(jane, credential=Credential(CredentialKind.PERSONAL_TOKEN, str(leaked.number)))
    by_other = replace(jane, credential=Credential(CredentialKind.PERSONAL_TOKEN, str(other.number)))
    bearer = replace(jane, credential=Credential(CredentialKind.BEARER, "jti-of-leaked"))
    happened(rooms, Kind.TOKEN_ISSUE, 1, by_itself, detail={"id": "jti-of-leaked"})
    happened(rooms, Kind.TOKEN_ISSUE, 1, by_other, detail={"id": "jti-of-other"})
    happened(rooms, Kind.MANIFEST_PULL, 2, bearer, digest=A)
    happened(
        rooms, Kind.MANIFEST_PULL, 3, replace(bearer, credential=Credential(CredentialKind.BEARER, "jti-of-other"))
    )
    happened(rooms, Kind.MANIFEST_PULL, 4, jane, digest=B)
    name = f"personal:{leaked.number}"

    planned = rooms.run(rooms.acts.tracing.leak(OPERATOR, name, BEGUN, plan=True))
    assert len(rooms.run(rooms.acts.personal_tokens.list(jane))) == 2
    done = rooms.run(rooms.acts.tracing.leak(OPERATOR, name, BEGUN))

    assert [each.digest for each in done.touched] == [A]
    assert (planned.touched, done.principal, done.revoked) == (done.touched, "jane", True)
    assert [row.name for row in rooms.run(rooms.acts.personal_tokens.list(jane))] == ["other"]
    for gone in (name, "personal:999"):
        with pytest.raises(Unknown, match="personal token"):
            rooms.run(rooms.acts.tracing.leak(OPERATOR, gone, BEGUN))


def by(caller: Caller, kind: CredentialKind, number: object) -> Caller:
    return replace(caller, credential=Credential(kind, str(number)))


def test_who_may_not_ask_after_a_credential_costs_no_look_at_tokens(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    jane, ann = rooms.user("jane"), rooms.user("ann", auditor=True)
    number = an_offline_token(rooms.house, jane.principal.id)
    looked: list[object] = []
    read = Database.read

    async def counted(self: Database, work: Callable[[Connection], Any]) -> Any:
        looked.append(work)
        return await read(self, work)

    def never(*asked: object) -> Any:
        raise AssertionError("every token was read")

    rooms.run(rooms.house.directory.standing(jane.principal))
    monkeypatch.setattr(Database, "read", counted)
    monkeypatch.setattr(accounts, "offline_tokens_of", never)
    for credential in (f"offline:{number}", str(number), f"personal:{number}", "offline:999", "ann", "user:ann"):
        with pytest.raises(Denied):
            rooms.run(rooms.acts.tracing.leak(jane, credential, BEGUN, plan=True))
    assert looked == []
    assert rooms.run(rooms.acts.tracing.leak(ann, str(number), BEGUN, plan=True)).principal == "jane"


def test_a_number_that_is_a_users_name_is_said_which_of_them(rooms: Rooms) -> None:
    jane, number = rooms.user("jane"), 0
    while number < 10:
        number = an_offline_token(rooms.house, jane.principal.id)
    for name in (str(number), "01"):
        rooms.user(name)
    leak = rooms.acts.tracing.leak

    with pytest.raises(Conflict, match=f"offline:{number} .*user:{number}"):
        rooms.run(leak(OPERATOR, str(number), BEGUN))
    assert rooms.run(leak(OPERATOR, f"user:{number}", BEGUN)).credential == f"user {number}"
    assert rooms.run(leak(OPERATOR, "01", BEGUN)).credential == "user 01"
    for text in ("offline:01", "offline:", ":7", "personal:07", "user:gallery/ci", "7:7"):
        with pytest.raises(Invalid):
            rooms.run(leak(OPERATOR, text, BEGUN))
    assert len(rooms.run(rooms.acts.offline_tokens.list_tokens(OPERATOR, "jane"))) == 10
    done = rooms.run(leak(OPERATOR, f"offline:{number}", BEGUN))
    assert (done.credential, done.principal, done.revoked) == (f"offline token {number}", "jane", True)
    assert rooms.run(leak(OPERATOR, "1", BEGUN)).credential == "offline token 1"
    assert len(rooms.run(rooms.acts.offline_tokens.list_tokens(OPERATOR, "jane"))) == 8


def test_what_a_leaked_tokens_bearer_did_is_told_when_it_was_issued_just_before(rooms: Rooms) -> None:
    jane = rooms.user("jane")
    number = an_offline_token(rooms.house, jane.principal.id)
    since = BEGUN + timedelta(minutes=60)
    happened(rooms, Kind.TOKEN_ISSUE, 46, by(jane, CredentialKind.OFFLINE_TOKEN, number), detail={"id": "jti-before"})
    happened(rooms, Kind.MANIFEST_PULL, 61, by(jane, CredentialKind.BEARER, "jti-before"), digest=A)

    for credential in (f"offline:{number}", str(number)):
        found = rooms.run(rooms.acts.tracing.leak(OPERATOR, credential, since, plan=True))
        assert ([each.digest for each in found.touched], found.whole) == ([A], True)
    first = datetime.min.replace(tzinfo=UTC)
    assert rooms.run(rooms.acts.tracing.leak(OPERATOR, str(number), first, plan=True)).touched


def test_a_leak_says_when_not_every_issue_of_a_token_was_looked_at(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    jane = rooms.user("jane")
    number = an_offline_token(rooms.house, jane.principal.id)
    offline = by(jane, CredentialKind.OFFLINE_TOKEN, number)
    for minutes in range(56, 60):
        happened(rooms, Kind.TOKEN_ISSUE, minutes, offline, detail={"id": f"jti-{minutes}"})
    monkeypatch.setattr(tracing, "MOST", 3)
    since = BEGUN + timedelta(minutes=60)
    assert not rooms.run(rooms.acts.tracing.leak(OPERATOR, f"offline:{number}", since, plan=True)).whole


def test_a_credential_of_another_kind_with_the_same_number_is_not_the_one_that_leaked(rooms: Rooms) -> None:
    jane = rooms.user("jane")
    number = an_offline_token(rooms.house, jane.principal.id)
    happened(rooms, Kind.MANIFEST_DELETE, 1, by(jane, CredentialKind.SESSION, number), digest=A)
    happened(rooms, Kind.MANIFEST_PULL, 2, by(jane, CredentialKind.PERSONAL_TOKEN, number), digest=A)
    happened(rooms, Kind.MANIFEST_PULL, 3, by(jane, CredentialKind.BEARER, number), digest=A)
    found = rooms.run(rooms.acts.tracing.leak(OPERATOR, f"offline:{number}", BEGUN, plan=True))
    assert found.touched == ()


def test_the_leak_switch_leaves_an_administrator_unless_it_is_forced(rooms: Rooms) -> None:
    root = rooms.user("root", administrator=True)
    before = rooms.run(rooms.house.directory.standing(root.principal))
    assert not rooms.run(rooms.acts.tracing.leak(root, "root", BEGUN, plan=True)).revoked
    with pytest.raises(Conflict, match=r"another user one first.*--force"):
        rooms.run(rooms.acts.tracing.leak(root, "root", BEGUN))
    assert rooms.run(rooms.house.directory.standing(root.principal)) == before
    assert rooms.run(rooms.acts.tracing.leak(root, "root", BEGUN, force=True)).revoked
    rooms.user("rick", administrator=True)
    assert rooms.run(rooms.acts.tracing.leak(OPERATOR, "root", BEGUN)).revoked


def requested(rooms: Rooms, caller: Caller, action: str, outcome: Outcome, repository: str = "gallery/ui") -> None:
    kind = Kind.MANIFEST_PUSH if action == "push" else Kind.MANIFEST_PULL
    happened(rooms, kind, 1, caller, action=action, outcome=outcome, repository=repository)


def test_a_replay_tells_what_a_grant_would_have_let_through(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    joe = rooms.user("joe")
    requested(rooms, joe, "push", Outcome.DENIED)
    requested(rooms, joe, "push", Outcome.DENIED)
    requested(rooms, joe, "pull", Outcome.DENIED, "gallery/other")
    proposal = Proposal(Verb.GRANT, "joe", "gallery/ui", "pusher")

    found = rooms.run(rooms.acts.replays.replay(OPERATOR, proposal))

    (difference,) = found.differences
    assert (difference.action, difference.target, difference.allowed, difference.count) == (
        "push",
        "gallery/ui",
        True,
        2,
    )
    assert (difference.why, difference.outcome) == ("pusher on gallery/ui", "denied")
    assert (found.looked, found.whole) == (3, True)
    assert not rooms.may("joe", "push", "gallery/ui")


def test_a_replay_tells_what_a_revocation_would_have_refused(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    joe = rooms.user("joe")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "joe", "pusher", "gallery"))
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "joe", "puller", "gallery/ui"))
    requested(rooms, joe, "pull", Outcome.ALLOWED)
    requested(rooms, joe, "push", Outcome.ALLOWED)

    found = rooms.run(rooms.acts.replays.replay(OPERATOR, Proposal(Verb.REVOKE, "joe", "gallery")))

    assert [(each.action, each.allowed, each.outcome) for each in found.differences] == [("push", False, "allowed")]


def test_an_administrators_requests_are_decided_as_they_were(rooms: Rooms) -> None:
    rooms.owner("jane", "gallery")
    root = rooms.user("root2", administrator=True)
    requested(rooms, root, "push", Outcome.ALLOWED)
    found = rooms.run(rooms.acts.replays.replay(OPERATOR, Proposal(Verb.GRANT, "root2", "gallery", "puller")))
    assert (found.differences, found.looked) == ((), 1)


def test_a_replay_is_the_reviewers_to_ask_and_needs_what_is_there(rooms: Rooms) -> None:
    owner = rooms.owner("jane", "gallery")
    rooms.owner("joe", "attic")
    replay = rooms.acts.replays.replay
    assert rooms.run(replay(owner, Proposal(Verb.GRANT, "joe", "gallery", "puller"))).looked == 0
    with pytest.raises(Denied):
        rooms.run(replay(owner, Proposal(Verb.GRANT, "jane", "attic", "puller")))
    with pytest.raises(Unknown):
        rooms.run(replay(OPERATOR, Proposal(Verb.GRANT, "nobody", "gallery", "puller")))
    for proposal, days in (
        (Proposal(Verb.GRANT, "joe", "gallery", "king"), 30),
        (Proposal(Verb.REVOKE, "joe", "gallery"), 0),
    ):
        with pytest.raises(Invalid):
            rooms.run(replay(OPERATOR, proposal, days=days))
