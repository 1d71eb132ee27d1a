"""What was begun in the registry behind and never recorded is found out, and recorded once, by asking."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from gateway.audit.event import Kind
from gateway.change import Change
from gateway.engine.upstream.client import Answer
from gateway.errors import ManifestInvalid, ManifestUnknown, Unavailable, UpstreamUnavailable
from gateway.oci.digest import Digest
from gateway.oci.names import Tag
from gateway.records import intents, projects
from gateway.records.behind_tables import untagged
from gateway.records.schema import edges, links, manifests, tags, uploads
from gateway.records.schema import intents as intent_rows
from tests.contract.house import image
from tests.house import GATEWAY
from tests.records.rows import column
from tests.services.distribution import Registry
from tests.settlement.front import API, LAYER, NEW_LAYER, UI, Act, Front

NEWER = image(b"{}", LAYER, annotations={"newer": "yes"})


async def push_manifest(front: Front) -> Change:
    return front.put("v2", "v3", manifest=NEWER)


async def push_manifest_by_digest(front: Front) -> Change:
    return front.put(manifest=NEWER)


async def delete_manifest(front: Front) -> Change:
    return front.engine.manifests.delete(UI, front.pushed.digest)


async def push_blob(front: Front) -> Change:
    return (await front.upload(UI, NEW_LAYER))[1]


async def mount_blob(front: Front) -> Change:
    return front.engine.blobs.mount(UI, API, Digest.of(LAYER))


async def delete_blob(front: Front) -> Change:
    # One that no manifest names: it was pushed for nothing.
    _, change = await front.upload(UI, NEW_LAYER)
    await front.commit(Kind.BLOB_PUSH, change)
    return front.engine.blobs.delete(UI, Digest.of(NEW_LAYER))


async def nothing() -> None:
    return None


def rows(front: Front, *columns: Any) -> set[tuple[Any, ...]]:
    def query(connection: Connection) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in connection.execute(select(*columns))}

    return front.house.database.read_now(query)


def has_manifest(digest: Digest) -> Callable[[Front], bool]:
    return lambda front: (digest.text,) in rows(front, manifests.c.digest)


def has_link(content: bytes, count: int) -> Callable[[Front], bool]:
    return lambda front: column(front.house, links.c.digest).count(Digest.of(content).text) == count


ACTS = [
    (Kind.MANIFEST_PUSH, push_manifest, has_manifest(NEWER.digest), True),
    (Kind.MANIFEST_PUSH, push_manifest_by_digest, has_manifest(NEWER.digest), True),
    (Kind.MANIFEST_DELETE, delete_manifest, has_manifest(image(b"{}", LAYER).digest), False),
    (Kind.BLOB_PUSH, push_blob, has_link(NEW_LAYER, 1), True),
    (Kind.BLOB_MOUNT, mount_blob, has_link(LAYER, 2), True),
    (Kind.BLOB_DELETE, delete_blob, has_link(NEW_LAYER, 1), False),
]
NAMES = ["push", "push by digest", "delete", "push blob", "mount", "delete blob"]


@pytest.mark.parametrize(("kind", "act", "known", "wanted"), ACTS, ids=NAMES)
def test_what_was_done_is_recorded_with_its_rows_and_the_caller_who_did_it(
    front_on_each: Front, kind: Kind, act: Act, known: Callable[[Front], bool], wanted: bool
) -> None:
    front = front_on_each
    front.leave(kind, act, done=True)
    assert known(front) is not wanted

    assert front.settle() == 1

    assert known(front) is wanted
    assert front.open_intents() == []
    uncertain, settled = front.house.records(kind=kind.value)[-2:]
    assert (uncertain["outcome"], uncertain["reason"]) == ("failed", "upstream_uncertain")
    assert (settled["outcome"], settled.get("reason")) == ("allowed", None)
    for name in ("principal", "principal_kind", "principal_id", "credential", "credential_id", "address", "agent"):
        assert settled[name] == uncertain[name]
    assert (settled["peer_address"], settled["request_id"]) == ("198.51.100.1", "a" * 32)
    assert (settled["project"], settled["repository"]) == ("gallery", "gallery/ui")
    assert settled["digest"].startswith("sha256:")
    assert settled["detail"]["settled"] is True
    assert settled["detail"]["begun"] <= uncertain["time"] <= settled["time"]
    assert front.house.trail.verify().fault == ""


@pytest.mark.parametrize(("kind", "act", "known", "wanted"), ACTS, ids=NAMES)
def test_what_was_not_done_changes_nothing_and_is_said_to_have_failed_once_it_is_too_late_for_it(
    front: Front, kind: Kind, act: Act, known: Callable[[Front], bool], wanted: bool
) -> None:
    front.leave(kind, act, done=False)

    assert front.settle() == 0, "it may be done yet"
    assert front.open_intents() == [kind.value]
    assert front.settle(later=120) == 1

    assert known(front) is not wanted
    assert front.open_intents() == []
    assert (front.last()["kind"], front.last()["outcome"], front.last()["reason"]) == (kind, "failed", "not_done")
    assert front.last()["detail"]["settled"] is True


def test_a_settled_push_moves_its_tags_and_guards_what_it_names(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)

    front.settle()

    digest = NEWER.digest.text
    assert {("v2", digest, "user:7"), ("v3", digest, "user:7")} <= rows(
        front, tags.c.name, tags.c.digest, tags.c.moved_by
    )
    assert (Digest.of(LAYER).text, digest) in rows(front, edges.c.target, edges.c.source)
    assert front.last()["after"] == {"tags": {"v2": digest, "v3": digest}}


def test_a_push_of_which_only_some_tags_were_moved_says_which(front: Front) -> None:
    async def first_tag_alone(front: Front) -> Change:
        await front.commit(Kind.MANIFEST_PUSH, front.put("v2", manifest=NEWER))
        return front.put("v2", "v3", manifest=NEWER)

    front.leave(Kind.MANIFEST_PUSH, first_tag_alone, done=False)

    front.settle()

    assert front.last()["outcome"] == "allowed"
    assert front.last()["after"] == {"tags": {"v2": NEWER.digest.text}}


def test_a_settled_blob_ends_its_upload(front: Front) -> None:
    front.leave(Kind.BLOB_PUSH, push_blob, done=True)
    assert len(column(front.house, uploads.c.id)) == 1

    front.settle()

    assert column(front.house, uploads.c.id) == []
    assert front.run(front.engine.blobs.find(UI, Digest.of(NEW_LAYER))).size_bytes == len(NEW_LAYER)


def test_a_settled_mount_says_where_from(front: Front) -> None:
    front.leave(Kind.BLOB_MOUNT, mount_blob, done=True)

    front.settle()

    assert front.last()["detail"]["from"] == "gallery/ui"


def test_a_settled_deletion_takes_the_tags_along(front: Front) -> None:
    front.leave(Kind.MANIFEST_DELETE, delete_manifest, done=True)

    front.settle()

    assert column(front.house, tags.c.name) == []
    assert front.last()["before"] == {"tags": {"v1": front.pushed.digest.text}}
    with pytest.raises(ManifestUnknown):
        front.run(front.engine.manifests.find(UI, front.pushed.digest))


def test_an_act_is_recorded_once_however_many_settle_it(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)
    [intent] = front.house.database.read_now(lambda connection: intents.open_intents(connection, 1e12))

    assert front.settle() == 1
    before = len(front.house.records())
    assert front.run(front.settlement._settle(intent, 1e12)) is False

    assert len(front.house.records()) == before


def test_what_is_under_way_is_left_to_whoever_does_it(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)

    assert front.settle(after_seconds=60) == 0
    assert front.open_intents() == ["manifest.push"]
    assert front.settle(after_seconds=60, later=120) == 1


@pytest.mark.parametrize(("kind", "act", "known", "wanted"), ACTS, ids=NAMES)
@pytest.mark.parametrize("done", [False, True], ids=["before it is done", "before it is recorded"])
def test_what_is_under_way_is_nobody_elses_to_record_however_long_it_takes(
    front: Front, kind: Kind, act: Act, known: Callable[[Front], bool], wanted: bool, done: bool
) -> None:
    settled: list[int] = []

    async def settle() -> None:
        front.seconds_later = 10_000_000
        settled.append(await front.settlement.settle(after_seconds=0))

    before = len(front.house.records(kind=kind.value))
    front.carry_out(kind, act, settle, done=done)

    assert settled == [0]
    assert known(front) is wanted
    assert front.open_intents() == []
    # What was pushed to be deleted is of another kind.
    recorded = front.house.records(kind=kind.value)[before:]
    assert [event["outcome"] for event in recorded] == ["allowed"]
    assert "settled" not in recorded[0].get("detail", {})


def test_what_fails_under_way_is_recorded_once(front: Front) -> None:
    async def settle_and_fail() -> None:
        assert await front.settlement.settle(after_seconds=0) == 0
        raise ManifestInvalid("It is not taken.")

    before = len(front.house.records())
    with pytest.raises(ManifestInvalid):
        front.carry_out(Kind.MANIFEST_PUSH, push_manifest, settle_and_fail, done=True)

    assert front.settle(later=120) == 0
    assert [(event["kind"], event["reason"]) for event in front.house.records()[before:]] == [
        ("manifest.push", "manifest_invalid")
    ]


def test_no_act_leaves_a_file_of_its_hold_behind(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)
    front.carry_out(Kind.BLOB_PUSH, push_blob, nothing, done=False)

    assert list((front.house.data / "intents").iterdir()) == []


def test_an_act_that_was_taken_for_not_done_and_comes_to_its_end_says_so(front: Front) -> None:
    async def settle_without_its_hold() -> None:
        for file in (front.house.data / "intents").iterdir():
            file.unlink()
        front.seconds_later = 120
        assert await front.settlement.settle(after_seconds=0) == 1

    front.carry_out(Kind.BLOB_PUSH, push_blob, settle_without_its_hold, done=False)

    assert has_link(NEW_LAYER, 1)(front)
    taken, late = front.house.records(kind="blob.push")[-2:]
    assert (taken["outcome"], taken["reason"], taken["detail"]["settled"]) == ("failed", "not_done", True)
    assert (late["outcome"], late["detail"]) == ("allowed", {"settled_before": True})


def test_an_intent_that_was_given_up_before_it_was_written_is_not_begun_after_all(front: Front) -> None:
    change = front.put("v2", manifest=NEWER)
    assert change.elsewhere is not None
    begin = change.elsewhere.intend
    change.release()

    with pytest.raises(Unavailable, match="nothing was done"):
        front.written(lambda connection: begin(connection, {}))

    assert front.open_intents() == []


def test_a_large_blob_is_given_the_time_that_it_takes_before_it_is_said_not_to_be_there(front: Front) -> None:
    front.leave(Kind.BLOB_PUSH, push_blob, done=False)
    [intent] = front.house.database.read_now(lambda connection: intents.open_intents(connection, 1e12))
    act = json.dumps({**intent.act, "size_bytes": 10_000_000_000})
    front.written(lambda connection: connection.execute(update(intent_rows).values(act=act)))

    assert front.settle(later=800) == 0
    assert front.settle(later=900) == 1


def test_a_tag_that_was_removed_since_stays_removed(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)
    front.run(front.commit(Kind.TAG_DELETE, front.engine.manifests.untag(UI, Tag("v2"))))

    front.settle()

    assert column(front.house, untagged.c.name) == ["v2"]
    with pytest.raises(ManifestUnknown):
        front.run(front.engine.manifests.find(UI, Tag("v2")))
    assert front.run(front.engine.manifests.find(UI, Tag("v3"))).digest == NEWER.digest


def test_a_manifest_that_was_pushed_again_since_stays_known(front: Front) -> None:
    front.leave(Kind.MANIFEST_DELETE, delete_manifest, done=False)
    front.leave_begun_earlier(10)
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("v1")))
    front.forget_manifest_behind()

    front.settle()

    assert has_manifest(front.pushed.digest)(front)


def test_what_a_removed_project_had_begun_does_not_bring_it_back(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)
    held = front.house.database.read_now(lambda connection: projects.repository_names(connection, UI.project))
    removal = projects.remove(UI.project, held, force=True)
    front.run(front.commit(Kind.PROJECT_REMOVE, removal, by=GATEWAY))

    assert front.settle() == 1

    assert front.house.database.read_now(projects.every_project) == ()
    assert (front.last()["kind"], front.last()["outcome"]) == ("manifest.push", "allowed")


def test_a_registry_that_does_not_answer_settles_nothing(front: Front, behind: Registry) -> None:
    front.leave(Kind.MANIFEST_DELETE, delete_manifest, done=True)
    lost = Front(front.house, "http://127.0.0.1:9")

    assert lost.settle(later=120) == 0

    assert front.open_intents() == ["manifest.delete"]
    assert has_manifest(front.pushed.digest)(front), "nothing is forgotten because nobody answered"
    assert front.settle() == 1


@pytest.mark.parametrize(
    ("kind", "act"),
    [(Kind.MANIFEST_DELETE, delete_manifest), (Kind.BLOB_DELETE, delete_blob)],
    ids=["manifest", "blob"],
)
def test_a_404_that_is_not_a_registrys_settles_nothing(front: Front, behind: Registry, kind: Kind, act: Act) -> None:
    front.leave(kind, act, done=True)
    # Below this path the registry's server has pages of its own making.
    elsewhere = Front(front.house, f"{behind.url}/nothing/here")

    assert elsewhere.settle(later=120) == 0

    assert front.open_intents() == [kind.value]


@pytest.mark.parametrize(
    ("kind", "act"), [(Kind.BLOB_PUSH, push_blob), (Kind.BLOB_MOUNT, mount_blob)], ids=["push", "mount"]
)
def test_an_answer_for_another_blob_settles_nothing(
    front: Front, monkeypatch: pytest.MonkeyPatch, kind: Kind, act: Act
) -> None:
    front.leave(kind, act, done=True)
    ask = front.client.ask

    async def confused(method: str, path: str, **told: Any) -> Answer:
        answer = await ask(method, path, **told)
        return replace(answer, headers={**answer.headers, "docker-content-digest": Digest.of(b"another").text})

    with monkeypatch.context() as patched:
        patched.setattr(front.client, "ask", confused)
        assert front.settle() == 0
    assert front.open_intents() == [kind.value]

    assert front.settle() == 1


def test_an_intent_that_cannot_be_read_does_not_keep_others_from_being_settled(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)
    front.written(lambda connection: intents.begin(connection, "odd", "account.add", UI, {}, {}, now=1))

    assert front.settle() == 1

    assert front.open_intents() == ["account.add"]


def test_without_a_trail_nothing_is_settled(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)
    front.house.ledger.close()

    with pytest.raises(Exception, match="stopping") as refused:
        front.settle()

    assert not isinstance(refused.value, UpstreamUnavailable)
    assert front.open_intents() == ["manifest.push"]


async def push_latest(front: Front) -> Change:
    return front.put("latest", manifest=NEWER)


def test_a_push_whose_tag_moved_on_before_it_was_settled_has_happened(front_on_each: Front) -> None:
    front = front_on_each
    front.leave(Kind.MANIFEST_PUSH, push_latest, done=True)
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("latest")))

    assert front.settle() == 1

    settled = front.last()
    assert (settled["outcome"], settled.get("reason"), settled["digest"]) == ("allowed", None, NEWER.digest.text)
    assert (settled["before"], settled["after"]) == ({"tags": {}}, {"tags": {}})
    assert settled["detail"]["tags_unknown"] == ["latest"]
    assert has_manifest(NEWER.digest)(front)
    assert ("latest", front.pushed.digest.text) in rows(front, tags.c.name, tags.c.digest)


def test_a_push_whose_tag_is_back_where_it_was_has_happened_and_nobody_knows_of_the_tag(front: Front) -> None:
    async def push(front: Front) -> Change:
        return front.put("v1", manifest=NEWER)

    front.leave(Kind.MANIFEST_PUSH, push, done=True)
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("v1")))

    assert front.settle() == 1

    settled = front.last()
    assert (settled["outcome"], settled["after"]) == ("allowed", {"tags": {}})
    assert settled["detail"]["tags_unknown"] == ["v1"]
    assert has_manifest(NEWER.digest)(front)


def test_a_push_of_a_known_manifest_whose_tag_moved_on_is_not_said_to_have_failed(front: Front) -> None:
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("other", manifest=NEWER)))
    front.leave(Kind.MANIFEST_PUSH, push_latest, done=True)
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("latest")))

    assert front.settle() == 1

    assert front.last()["outcome"] == "allowed"
    assert front.last()["detail"]["tags_unknown"] == ["latest"]


def test_a_push_of_a_known_manifest_that_moved_nothing_has_failed(front: Front) -> None:
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("other", manifest=NEWER)))
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("latest")))
    front.leave(Kind.MANIFEST_PUSH, push_latest, done=False)

    assert front.settle() == 0
    assert front.settle(later=120) == 1

    assert (front.last()["outcome"], front.last()["reason"]) == ("failed", "not_done")


def test_a_push_that_moved_only_some_tags_says_of_which_others_nobody_knows(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_manifest, done=True)
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("v3")))

    assert front.settle() == 1

    assert front.last()["after"] == {"tags": {"v2": NEWER.digest.text}}
    assert front.last()["detail"]["tags_unknown"] == ["v3"]


def test_a_push_that_was_not_done_has_failed_though_another_brought_the_manifest_since(front_on_each: Front) -> None:
    front = front_on_each
    front.leave(Kind.MANIFEST_PUSH, push_latest, done=False)
    front.run(front.commit(Kind.MANIFEST_PUSH, front.put("other", manifest=NEWER)))

    assert front.settle() == 0
    assert front.settle(later=120) == 1

    assert (front.last()["outcome"], front.last()["reason"]) == ("failed", "not_done")
    assert "tags_unknown" not in front.last()["detail"]
    assert ("other", NEWER.digest.text) in rows(front, tags.c.name, tags.c.digest)


def test_who_brought_a_manifest_is_not_told_before_everybody_who_pushes_it_is_done(front: Front) -> None:
    front.leave(Kind.MANIFEST_PUSH, push_latest, done=False)

    async def push_other(front: Front) -> Change:
        return front.put("other", manifest=NEWER)

    async def settle_nothing() -> None:
        front.seconds_later = 120
        assert await front.settlement.settle(after_seconds=0) == 0

    front.carry_out(Kind.MANIFEST_PUSH, push_other, settle_nothing, done=True)
    assert front.settle(later=120) == 1

    assert (front.last()["outcome"], front.last()["reason"]) == ("failed", "not_done")
