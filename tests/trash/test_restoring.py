"""What is deleted comes back as it was, for as long as it is in the trash; with it everything that it names."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from gateway.administration.trash import parse_place
from gateway.audit.event import Event, Kind
from gateway.engine.port import Feature
from gateway.errors import (
    BlobUnknown,
    Conflict,
    Denied,
    Invalid,
    ManifestBlobUnknown,
    ManifestUnknown,
    ReadOnly,
    TagImmutable,
    Unknown,
    Unsupported,
)
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest, load
from gateway.oci.names import Repository, Tag
from gateway.records import projects, rules
from gateway.records import trash as records
from gateway.records.projects import Wishes
from tests.administration.rooms import Rooms, rooms_of
from tests.contract.house import index
from tests.house import OPERATOR, House
from tests.sweep.stage import DAY, OTHER, UI, Stage

WEEK = 7 * DAY
LAYER = Digest.of(b"a layer")


@pytest.fixture
def stage(house: House) -> Stage:
    return Stage(house, trash_seconds=WEEK)


def acts(stage: Stage) -> Rooms:
    return rooms_of(stage.house, engine=stage.engine, trash_seconds=WEEK)


async def untag(stage: Stage, name: str) -> None:
    await stage.commit(stage.engine.manifests.untag(UI, Tag(name), "user:7"), Kind.TAG_DELETE)


def test_a_removed_tag_comes_back_where_it_was(stage: Stage) -> None:
    manifest = stage.run(stage.push_image(UI, "v1", "latest"))
    stage.run(untag(stage, "v1"))
    trash = acts(stage).acts.trash
    [row] = stage.run(trash.list_trash(OPERATOR, UI.name))
    assert (row.tag, row.digest, row.deleted_by) == ("v1", manifest.digest.text, "user:7")
    assert stage.run(trash.restore_tag(OPERATOR, UI.name, "v1")) == manifest.digest.text
    assert stage.run(stage.engine.manifests.find(UI, Tag("v1"))).digest == manifest.digest
    assert stage.run(trash.list_trash(OPERATOR, UI.name)) == ()
    event = stage.house.records(kind="tag.restore")[-1]
    assert (event["reference"], event["digest"]) == ("v1", manifest.digest.text)
    assert event["after"] == {"tags": {"v1": manifest.digest.text}}


def test_others_have_their_turn_while_the_trash_is_looked_through(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(stage.push_image(UI, "v1"))
    stage.run(untag(stage, "v1"))
    threads = []
    listed = records.listed

    def look(*args: Any, **named: Any) -> list[records.Trashed]:
        threads.append(threading.current_thread())
        return listed(*args, **named)

    monkeypatch.setattr(records, "listed", look)
    assert len(stage.run(acts(stage).acts.trash.list_trash(OPERATOR, UI.name))) == 1
    assert threading.main_thread() not in threads


def test_a_deleted_manifest_comes_back_with_its_tags_and_its_bytes(stage: Stage) -> None:
    manifest = stage.run(stage.push_image(UI, "v1", "latest"))
    stage.run(stage.delete(UI, manifest.digest))
    with pytest.raises(ManifestUnknown):
        stage.run(stage.engine.manifests.find(UI, manifest.digest))
    trash = acts(stage).acts.trash
    assert stage.run(trash.restore_manifest(OPERATOR, UI.name, manifest.digest.text)) == ("latest", "v1")
    for reference in (manifest.digest, Tag("v1"), Tag("latest")):
        assert stage.run(stage.engine.manifests.find(UI, reference)).content == manifest.content
    assert stage.run(trash.list_trash(OPERATOR)) == ()
    with pytest.raises(Unknown, match="has no manifest"):
        stage.run(trash.restore_manifest(OPERATOR, UI.name, manifest.digest.text))


def test_a_tag_comes_back_with_the_manifest_that_was_deleted_with_it(stage: Stage) -> None:
    manifest = stage.run(stage.push_image(UI, "v1"))
    stage.run(stage.delete(UI, manifest.digest))
    stage.run(acts(stage).acts.trash.restore_tag(OPERATOR, UI.name, "v1"))
    assert stage.run(stage.engine.manifests.find(UI, Tag("v1"))).content == manifest.content


def test_a_tag_of_an_index_comes_back_with_all_that_the_trash_has_of_it(stage: Stage) -> None:
    images = [stage.run(stage.push_image(UI, layer=layer)) for layer in (b"one", b"two")]
    inner = index([(images[0].content, images[0].media_type)])
    outer = index((each.content, each.media_type) for each in (inner, *images))
    stage.run(stage.put(UI, inner))
    stage.run(stage.put(UI, outer, "old"))
    for each in (outer, inner, *images):
        stage.run(stage.delete(UI, each.digest))
    trash = acts(stage).acts.trash
    assert stage.run(trash.restore_tag(OPERATOR, UI.name, "old")) == outer.digest.text
    for each in (outer, inner, *images):
        assert stage.run(stage.engine.manifests.find(UI, each.digest)).content == each.content
    assert stage.run(trash.list_trash(OPERATOR, UI.name)) == ()
    restored = [event["digest"] for event in stage.house.records(kind="manifest.restore")]
    assert sorted(restored) == sorted(each.digest.text for each in (inner, *images))


def test_what_no_trash_has_keeps_an_index_from_coming_back_and_is_named(stage: Stage) -> None:
    one, two = (stage.run(stage.push_image(UI, layer=layer)) for layer in (b"one", b"two"))
    stage.run(stage.put(UI, listing := index((each.content, each.media_type) for each in (one, two)), "old"))
    stage.run(stage.delete(UI, one.digest))
    stage.run(stage.delete(UI, two.digest))
    trash = acts(stage).acts.trash
    stage.run(trash.empty_trash(OPERATOR, UI.name))
    stage.run(stage.push_image(UI, layer=b"one"))
    stage.run(stage.delete(UI, one.digest))
    stage.run(stage.delete(UI, listing.digest))
    with pytest.raises(ManifestBlobUnknown, match=f"cannot be restored: it needs {two.digest.text}"):
        stage.run(trash.restore_tag(OPERATOR, UI.name, "old"))
    with pytest.raises(ManifestUnknown):
        stage.run(stage.engine.manifests.find(UI, one.digest))


def test_a_blob_that_only_the_trash_named_when_it_was_looked_for_has_its_grace(stage: Stage) -> None:
    manifest = stage.run(stage.push_image(UI, "v1"))
    stage.run(stage.delete(UI, manifest.digest))
    stage.clock.now += WEEK + DAY
    for digest in (LAYER, Digest.of(b"{}")):
        stage.run(stage.engine.blobs.find(UI, digest, spares_push=True))
    assert stage.run(stage.sweep()).gone.links.count == 0
    stage.run(stage.put(UI, manifest, "v1"))


def large(manifest: Manifest, filler: str) -> Manifest:
    """*manifest* with so much more in it that it has some 40,000 bytes."""
    content = {**json.loads(manifest.content), "annotations": {"filler": filler * 40_000}}
    return load(json.dumps(content).encode(), manifest.media_type)


def test_a_manifest_thrown_away_again_is_in_the_trash_once(stage: Stage) -> None:
    for _ in range(3):
        manifest = stage.run(stage.push_image(UI, "v1"))
        stage.run(stage.delete(UI, manifest.digest))
        stage.clock.now += DAY
    trash = acts(stage).acts.trash
    rows = stage.run(trash.list_trash(OPERATOR, UI.name))
    assert [row.deleted_at.timestamp() for row in rows if not row.tag] == [stage.clock.now - DAY]
    assert stage.run(trash.restore_manifest(OPERATOR, UI.name, manifest.digest.text)) == ("v1",)


def test_the_trash_of_a_project_takes_no_more_than_its_quota_and_says_so(stage: Stage) -> None:
    small = stage.run(stage.push_image(UI))
    stage.run(stage.commit(projects.set_project(UI.project, Wishes(quota_bytes=100_000))))
    manifests = [large(small, letter) for letter in "abc"]
    for manifest in (*manifests, manifests[0]):
        stage.run(stage.put(UI, manifest))
        change = stage.engine.manifests.delete(UI, manifest.digest)
        stage.run(stage.commit(change, Kind.MANIFEST_DELETE))
    trash = acts(stage).acts.trash
    rows = stage.run(trash.list_trash(OPERATOR, UI.name))
    assert {row.digest for row in rows} == {manifest.digest.text for manifest in manifests[:2]}
    told = [event.get("detail") for event in stage.house.records(kind="manifest.delete")]
    assert [detail for detail in told if detail] == [{"trashed": False}]
    assert len([row for row in rows if row.digest == manifests[0].digest.text]) == 1


def test_a_sweep_leaves_what_the_trash_names_until_its_time_is_over(stage: Stage) -> None:
    manifest = stage.run(stage.push_image(UI, "v1"))
    stage.run(stage.delete(UI, manifest.digest))
    stage.clock.now += 2 * DAY
    stage.run(stage.sweep())
    assert stage.run(stage.pull(UI, LAYER)) == b"a layer"
    stage.clock.now += WEEK
    receipt = stage.run(stage.sweep())
    assert receipt.gone.blobs.count == 2
    with pytest.raises(BlobUnknown):
        stage.run(stage.engine.blobs.find(UI, LAYER))
    [emptied] = stage.house.records(kind="trash.empty")
    assert emptied["detail"] == {"bytes": len(manifest.content), "count": 2, "overdue": True}
    with pytest.raises(Unknown):
        stage.run(acts(stage).acts.trash.restore_tag(OPERATOR, UI.name, "v1"))


def test_a_tag_that_names_something_else_now_is_not_moved_unasked(stage: Stage) -> None:
    old = stage.run(stage.push_image(UI, "v1"))
    stage.run(untag(stage, "v1"))
    new = stage.run(stage.push_image(UI, "v1", layer=b"another layer"))
    trash = acts(stage).acts.trash
    with pytest.raises(Conflict, match="--force"):
        stage.run(trash.restore_tag(OPERATOR, UI.name, "v1"))
    assert stage.run(stage.engine.manifests.find(UI, Tag("v1"))).digest == new.digest
    stage.run(trash.restore_tag(OPERATOR, UI.name, "v1", force=True))
    assert stage.run(stage.engine.manifests.find(UI, Tag("v1"))).digest == old.digest
    stage.run(trash.restore_tag(OPERATOR, UI.name, "v1", to=new.digest.text))
    assert stage.run(stage.engine.manifests.find(UI, Tag("v1"))).digest == new.digest
    with pytest.raises(Conflict, match="already"):
        stage.run(trash.restore_tag(OPERATOR, UI.name, "v1", to=new.digest.text))


def test_restoring_obeys_the_rules_of_a_push(stage: Stage) -> None:
    old = stage.run(stage.push_image(UI, "v1"))
    stage.run(stage.push_image(UI, "v1", layer=b"another layer"))
    trash = acts(stage).acts.trash

    def rule(wishes: Wishes) -> None:
        stage.run(stage.commit(projects.set_project(UI.project, wishes)))

    rule(Wishes(immutable=("v*",)))
    with pytest.raises(TagImmutable):
        stage.run(trash.restore_tag(OPERATOR, UI.name, "v1", to=old.digest.text))
    rule(Wishes(immutable=()))
    stage.run(stage.delete(UI, old.digest))
    rule(Wishes(read_only="inventory"))
    with pytest.raises(ReadOnly):
        stage.run(trash.restore_manifest(OPERATOR, UI.name, old.digest.text))
    assert stage.house.records(kind="manifest.restore")[-1]["outcome"] == "denied"


def test_a_project_that_is_read_only_keeps_its_trash(stage: Stage) -> None:
    stage.run(stage.push_image(UI, "v1"))
    stage.run(untag(stage, "v1"))
    trash = acts(stage).acts.trash
    stage.run(stage.commit(projects.set_project(UI.project, Wishes(read_only="inventory"))))
    for repository in (UI.name, None):
        with pytest.raises(ReadOnly, match="inventory"):
            stage.run(trash.empty_trash(OPERATOR, repository))
    assert len(stage.run(trash.list_trash(OPERATOR))) == 1
    stage.run(stage.commit(projects.set_project(UI.project, Wishes(read_only=""))))
    assert stage.run(trash.empty_trash(OPERATOR)) == 1


@pytest.mark.parametrize("of_all", [False, True])
def test_a_sweep_takes_nothing_of_what_is_read_only_and_goes_on_elsewhere(stage: Stage, of_all: bool) -> None:
    other = Repository("zebra/app")
    for place in (UI, other):
        manifest = stage.run(stage.push_image(place, "v1"))
        stage.run(stage.push(place, b"what nothing names"))
        stage.run(stage.delete(place, manifest.digest))

    def held(reason: str) -> None:
        now = int(stage.clock.now)
        wishes = Wishes(read_only=reason)
        stage.run(stage.commit(rules.set_freeze(reason, now) if of_all else projects.set_project(UI.project, wishes)))

    held("legal hold")
    stage.clock.now += 2 * WEEK
    # What is overdue in the trash names its blobs until a sweep begins.
    assert stage.run(stage.plan()).going.links.count == (0 if of_all else 1)
    assert stage.run(stage.sweep()).gone.links.count == (0 if of_all else 3)
    trash = acts(stage).acts.trash
    assert {row.repository for row in stage.run(trash.list_trash(OPERATOR))} == {UI.name, *([other.name] * of_all)}
    assert stage.file(LAYER).exists()
    held("")
    assert stage.run(stage.sweep()).gone.links.count == (6 if of_all else 3)
    assert stage.run(trash.list_trash(OPERATOR)) == ()


def test_the_history_of_a_tag_tells_every_move_and_what_can_be_had_back(stage: Stage) -> None:
    first, second = (stage.run(stage.push_image(UI, layer=layer)) for layer in (b"one", b"two"))

    async def pushed(manifest: Manifest, *names: str) -> None:
        change = stage.engine.manifests.put(UI, manifest, [Tag(name) for name in names], "user:7")
        event = Event(Kind.MANIFEST_PUSH, OPERATOR).but(project="gallery", repository=UI.name)
        await stage.house.ledger.commit(Act(event, change))

    stage.run(pushed(first, "v1"))
    stage.run(pushed(second, "v1", "v2"))
    rooms = acts(stage)
    stage.run(rooms.acts.repositories.remove_tag(OPERATOR, UI.name, "v1"))
    stage.run(rooms.acts.trash.restore_tag(OPERATOR, UI.name, "v1"))
    history = stage.run(rooms.acts.histories.of_tag(OPERATOR, UI.name, "v1"))
    one, two = first.digest.text, second.digest.text
    assert [(move.kind, move.before, move.after, move.restorable) for move in history.moves] == [
        ("tag.restore", "", two, False),
        ("tag.delete", two, "", True),
        ("manifest.push", one, two, True),
        ("manifest.push", "", one, False),
    ]
    assert (history.before, history.named) == (None, two)


def test_an_emptied_trash_gives_nothing_back(stage: Stage) -> None:
    stage.run(stage.push_image(OTHER, "v1"))
    stage.run(stage.push_image(UI, "v1"))
    stage.run(untag(stage, "v1"))
    trash = acts(stage).acts.trash
    assert stage.run(trash.empty_trash(OPERATOR, OTHER.name)) == 0
    assert stage.run(trash.empty_trash(OPERATOR)) == 1
    with pytest.raises(Unknown):
        stage.run(trash.restore_tag(OPERATOR, UI.name, "v1"))


def test_nothing_is_kept_where_the_trash_is_switched_off(house: House) -> None:
    stage = Stage(house)
    manifest = stage.run(stage.push_image(UI, "v1"))
    stage.run(untag(stage, "v1"))
    stage.run(stage.delete(UI, manifest.digest))
    assert stage.run(acts(stage).acts.trash.list_trash(OPERATOR)) == ()


def test_a_repository_that_is_removed_takes_its_trash_along(stage: Stage) -> None:
    stage.run(stage.push_image(UI, "v1"))
    stage.run(untag(stage, "v1"))
    rooms = acts(stage)
    stage.run(rooms.acts.repositories.remove_repository(OPERATOR, UI.name))
    assert stage.run(rooms.acts.trash.list_trash(OPERATOR)) == ()


def test_a_project_that_is_not_there_has_no_trash(stage: Stage) -> None:
    trash = acts(stage).acts.trash
    for act in (trash.list_trash(OPERATOR, project="nosuch"), trash.list_trash(OPERATOR, "nosuch/ui")):
        with pytest.raises(Unknown, match="There is no project nosuch"):
            stage.run(act)


def test_only_who_may_delete_looks_and_only_who_may_push_restores(stage: Stage) -> None:
    rooms = acts(stage)
    stage.run(stage.push_image(UI, "v1"))
    stage.run(untag(stage, "v1"))
    reader, writer = rooms.user("reader"), rooms.user("writer")
    for name, role in (("reader", "puller"), ("writer", "pusher")):
        rooms.run(rooms.acts.grants.add_grant(OPERATOR, name, role, "gallery"))
    for caller in (reader, writer):
        with pytest.raises(Denied):
            rooms.run(rooms.acts.trash.list_trash(caller, UI.name))
        with pytest.raises(Denied):
            rooms.run(rooms.acts.trash.empty_trash(caller, UI.name))
    with pytest.raises(Denied):
        rooms.run(rooms.acts.trash.restore_tag(reader, UI.name, "v1"))
    assert rooms.run(rooms.acts.histories.of_tag(reader, UI.name, "v1")).moves == ()
    rooms.run(rooms.acts.trash.restore_tag(writer, UI.name, "v1"))


def test_a_registry_behind_has_no_trash(stage: Stage) -> None:
    engine: Any = replace(stage.engine, emulated={Feature.TRASH: "The registry behind keeps nothing."})
    rooms = rooms_of(stage.house, engine=engine)
    with pytest.raises(Unsupported, match="keeps nothing"):
        stage.run(rooms.acts.trash.restore_tag(OPERATOR, UI.name, "v1"))


def test_what_names_no_tag_is_refused() -> None:
    for text in ("gallery/ui", ":v1", "registry:5000/gallery/ui"):
        with pytest.raises(Invalid):
            parse_place(text)
    assert parse_place("gallery/ui@sha256:0") == ("gallery/ui", "sha256:0")
