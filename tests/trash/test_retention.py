"""What a project keeps of its tags: every tag that stays has a reason, and what goes can be had back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select

from gateway.access.retention import Retention, TagState, decide
from gateway.access.rules import Rules
from gateway.administration import retention as administration
from gateway.administration.retention import Applied
from gateway.audit.event import Event, Kind
from gateway.audit.trail import Search
from gateway.change import Change, Notes
from gateway.errors import Denied, Invalid, ManifestUnknown
from gateway.gate import Act
from gateway.oci.digest import Digest
from gateway.oci.manifest import Manifest
from gateway.oci.names import Repository, Tag
from gateway.records import projects, rules, schema
from gateway.records import retention as retaining
from gateway.records.projects import Wishes
from gateway.records.trail import project_tail
from gateway.records.trash import Bin
from tests.administration.rooms import Rooms, rooms_of
from tests.contract.house import image, index
from tests.house import OPERATOR, House
from tests.records.rows import written
from tests.sweep.stage import DAY, UI, Stage

NOW = 1_800_000_000
A, B, C = (Digest.of(text).text for text in (b"a", b"b", b"c"))

names = st.one_of(
    st.from_regex(r"[a-z][a-z0-9.-]{0,6}", fullmatch=True),
    st.sampled_from([f"sha256-{digest[7:]}{end}" for digest in (A, B) for end in ("", ".sig", ".att")]),
)
moments = st.integers(NOW - 400 * DAY, NOW)
states = st.lists(
    st.builds(TagState, names, st.sampled_from([A, B, C]), moments, st.none() | moments),
    unique_by=lambda tag: tag.name,
    max_size=12,
)
retentions = st.builds(
    Retention,
    st.none() | st.integers(1, 5),
    st.lists(st.sampled_from(["v*", "*", "a*b", "latest"]), max_size=2).map(tuple),
    st.none() | st.integers(1, 300),
)


@given(retentions, states, st.sampled_from([(), ("v*",), ("*",)]))
def test_each_tag_is_decided_once_and_goes_only_without_a_reason(
    retention: Retention, tags: list[TagState], immutable: tuple[str, ...]
) -> None:
    rules = Rules(immutable=immutable)
    decisions = decide(retention, rules, tags, NOW)
    assert [each.tag for each in decisions] == tags
    stays = {each.tag.name: each.stays for each in decisions}
    if not retention.active:
        assert all(stays.values())
        return
    own = [tag for tag in tags if not tag.name.startswith("sha256-")]
    assert all(stays[tag.name] for tag in tags if rules.holding(tag.name))
    if retention.last is not None:
        newest = sorted(own, key=lambda tag: -tag.moved_at)[: retention.last]
        oldest_of_them = min((tag.moved_at for tag in newest), default=0)
        assert all(stays[tag.name] for tag in own if tag.moved_at > oldest_of_them)
        assert sum(stays[tag.name] for tag in own) >= len(newest)
        # Fewer reasons never keep more.
        fewer = decide(Retention(retention.last), rules, tags, NOW)
        assert all(stays[each.tag.name] for each in fewer if each.stays)
    for tag in tags:
        if tag.name.startswith("sha256-"):
            subjects = [other.name for other in own if other.digest[7:] == tag.name[7:71]]
            assert stays[tag.name] == (not subjects or any(stays[name] for name in subjects))


def test_reasons_are_told() -> None:
    tags = [
        TagState("latest", A, NOW - 1),
        TagState("v1", B, NOW - 90 * DAY, NOW - 3 * DAY),
        TagState("v0", C, NOW - 91 * DAY),
        TagState("release-1", C, NOW - 92 * DAY),
    ]
    decisions = decide(Retention(1, ("release-*",), 30), Rules(), tags, NOW)
    assert [each.reasons for each in decisions] == [
        ("one of the last 1", "pushed within 30 days"),
        ("pulled within 30 days",),
        (),
        ("matches release-*",),
    ]


def test_a_tag_pushed_again_counts_as_pushed_though_it_did_not_move() -> None:
    tags = [
        TagState("other", B, NOW - 2 * DAY, pushed_at=NOW - 2 * DAY),
        TagState("first", A, NOW - 40 * DAY, pushed_at=NOW - 1),
        TagState("stable", A, NOW - 50 * DAY, pushed_at=NOW - 1),
    ]
    assert [each.stays for each in decide(Retention(1), Rules(), tags, NOW)] == [False, True, True]
    assert [each.stays for each in decide(Retention(pulled_days=1), Rules(), tags, NOW)] == [False, True, True]


@pytest.mark.parametrize(("last", "days"), [(0, None), (None, 0), (-1, 3), (None, 10**9)])
def test_nonsense_is_refused(last: int | None, days: int | None) -> None:
    with pytest.raises(Invalid):
        Retention.parse(last, (), days)


@pytest.fixture
def stage(house: House) -> Stage:
    return Stage(house, trash_seconds=7 * DAY)


def acts(stage: Stage) -> Rooms:
    return rooms_of(stage.house, engine=stage.engine, trash_seconds=7 * DAY)


def listing(*images: Manifest) -> Manifest:
    return index((image.content, image.media_type) for image in images)


def filled(stage: Stage) -> list[Digest]:
    """Three images, pushed on three days, the oldest first."""
    found = []
    for number in range(3):
        found.append(stage.run(stage.push_image(UI, f"v{number}", layer=b"layer %d" % number)).digest)
        stage.clock.now += DAY
    return found


def test_what_is_not_kept_goes_and_can_be_had_back(stage: Stage) -> None:
    digests = filled(stage)
    rooms = acts(stage)
    retention = rooms.acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    [plan] = stage.run(retention.plan(OPERATOR, "gallery"))
    assert [tag.name for tag in plan.going] == ["v0", "v1"]
    assert stage.run(stage.engine.manifests.find(UI, Tag("v0"))).digest == digests[0]
    [done] = stage.run(retention.apply(OPERATOR, "gallery"))
    assert (done.tags, set(done.manifests)) == (("v0", "v1"), {digests[0].text, digests[1].text})
    for gone in (Tag("v0"), digests[0], digests[1]):
        with pytest.raises(ManifestUnknown):
            stage.run(stage.engine.manifests.find(UI, gone))
    assert stage.run(stage.engine.manifests.find(UI, Tag("v2"))).digest == digests[2]
    for number, each in enumerate(stage.house.records(kind="tag.delete")):
        name, digest = f"v{number}", digests[number].text
        assert (each["reference"], each["digest"], each["before"]) == (name, digest, {"tags": {name: digest}})
    assert stage.house.records(kind="retention.apply")[-1]["detail"] == {"manifests": 2, "tags": 2}
    assert stage.run(rooms.acts.trash.restore_manifest(OPERATOR, UI.name, digests[0].text)) == ("v0",)
    assert stage.run(retention.due()) == ("gallery",)
    stage.run(retention.set(OPERATOR, "gallery"))
    assert stage.run(retention.due()) == ()
    assert stage.run(retention.apply(OPERATOR, "gallery")) == ()


def test_what_was_pulled_lately_stays_and_what_was_pulled_long_ago_goes(stage: Stage) -> None:
    stage.clock.now -= 400 * DAY
    digests = filled(stage)
    stage.clock.now += 400 * DAY

    async def pulled() -> None:
        event = Event(Kind.MANIFEST_PULL, OPERATOR).but(
            project="gallery", repository=UI.name, reference="v0", digest=digests[0].text
        )
        await stage.house.ledger.commit(Act(event))

    stage.run(pulled())
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", pulled_days=30))
    [plan] = stage.run(retention.plan(OPERATOR, "gallery"))
    assert {each.tag.name: each.reasons for each in plan.decisions} == {
        "v0": ("pulled within 30 days",),
        "v1": (),
        "v2": (),
    }


def test_what_was_pulled_from_a_project_that_had_the_name_before_keeps_nothing(stage: Stage) -> None:
    stage.clock.now -= 400 * DAY
    digests = filled(stage)
    stage.clock.now += 400 * DAY
    added = datetime.now(UTC)

    async def pulled(digest: Digest, minutes: int) -> None:
        event = Event(Kind.MANIFEST_PULL, OPERATOR, time=added + timedelta(minutes=minutes)).but(
            project="gallery", repository=UI.name, digest=digest.text
        )
        await stage.house.ledger.commit(Act(event))

    for digest, minutes in ((digests[0], -1), (digests[1], 1)):
        stage.run(pulled(digest, minutes))
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", pulled_days=30))
    [plan] = stage.run(retention.plan(OPERATOR, "gallery"))
    assert {each.tag.name for each in plan.decisions if each.stays} == {"v1"}


def test_a_tag_whose_manifest_was_pushed_again_today_stays(stage: Stage) -> None:
    stage.clock.now -= 40 * DAY
    filled(stage)
    stage.clock.now += 40 * DAY
    stage.run(stage.push_image(UI, "v0", layer=b"layer 0"))
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", pulled_days=30))
    [done] = stage.run(retention.apply(OPERATOR, "gallery"))
    assert done.tags == ("v1", "v2")


def test_a_tag_pushed_again_between_plan_and_removal_stays(stage: Stage) -> None:
    filled(stage)
    states = stage.house.database.read_now(lambda connection: retaining.tag_states(connection, [UI]))[UI.name]
    stage.run(stage.push_image(UI, "v0", layer=b"layer 0"))
    bin = Bin(int(stage.clock.now), "user:7", DAY)
    notes = stage.run(stage.commit(Change(lambda connection: retaining.remove(connection, UI, states[:2], bin))))
    assert notes.result[0] == ("v1",)


def test_what_was_pulled_in_a_month_that_was_sealed_since_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only this test has searches follow: what they have not reached is not sealed away.
    monkeypatch.setattr(stage.house.ledger, "_follow", lambda: None)
    stage.clock.now -= 400 * DAY
    digests = filled(stage)
    stage.clock.now += 400 * DAY
    rooms = acts(stage)

    async def pulled(digest: Digest, days: int) -> None:
        event = Event(Kind.MANIFEST_PULL, OPERATOR, time=datetime.now(UTC) - timedelta(days=days)).but(
            project="gallery", repository=UI.name, digest=digest.text
        )
        await stage.house.ledger.commit(Act(event))

    for digest, days in ((digests[1], 90), (digests[0], 50), (digests[2], 1)):
        stage.run(pulled(digest, days))
    with stage.house.database.lock(), stage.house.database.engine.connect() as connection:
        while project_tail(stage.house.database, connection):
            pass
    stage.run(rooms.acts.evidence.retain(OPERATOR, datetime.now(UTC) + timedelta(days=40)))
    assert len(stage.house.trail.page(Search(kind="manifest.pull"))) == 1

    stage.run(rooms.acts.retention.set(OPERATOR, "gallery", pulled_days=60))
    [plan] = stage.run(rooms.acts.retention.plan(OPERATOR, "gallery"))
    assert {each.tag.name for each in plan.decisions if each.stays} == {"v0", "v2"}


def test_a_plan_reads_the_tags_in_threads_and_a_part_of_the_repositories_at_a_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(connection: Connection) -> None:
        project = connection.execute(select(schema.projects.c.id)).scalar_one()
        rows = [{"project_id": project, "name": f"gallery/r{n:03}", "created_at": 1} for n in range(250)]
        connection.execute(insert(schema.repositories), rows)
        tag = {"name": "v1", "digest": A, "moved_at": 1, "moved_by": "user:1"}
        mine = select(schema.repositories.c.id).where(schema.repositories.c.created_at == 1)
        for number in connection.execute(mine).scalars().all():
            connection.execute(insert(schema.tags).values(repository_id=number, **tag))

    stage.run(stage.push_image(UI, "v1"))
    written(stage.house, write)
    looked: list[int] = []
    read = retaining.tag_states

    def reading(connection: Connection, names: Sequence[Repository]) -> dict[str, list[TagState]]:
        assert threading.current_thread() is not threading.main_thread()
        looked.append(len(names))
        return read(connection, names)

    monkeypatch.setattr(retaining, "tag_states", reading)
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", matching=["w*"]))
    plans = stage.run(retention.plan(OPERATOR, "gallery"))

    assert [plan.repository for plan in plans] == sorted(plan.repository for plan in plans)
    assert sum(len(plan.going) for plan in plans) == len(plans) == sum(looked) >= 250
    assert max(looked) <= 100


def test_an_index_goes_with_the_platforms_that_only_it_names_and_shared_ones_stay(stage: Stage) -> None:
    one = stage.run(stage.push_image(UI, layer=b"one"))
    two = stage.run(stage.push_image(UI, layer=b"two"))
    old, new = listing(one, two), listing(two)
    stage.run(stage.put(UI, old, "old"))
    stage.clock.now += DAY
    stage.run(stage.put(UI, new, "new"))
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    [done] = stage.run(retention.apply(OPERATOR, "gallery"))
    assert done.tags == ("old",)
    assert set(done.manifests) == {old.digest.text, one.digest.text}
    assert stage.run(stage.engine.manifests.find(UI, two.digest)).digest == two.digest


def rebuilt(stage: Stage) -> tuple[Manifest, Manifest]:
    """An index `v1` that `v2` has overtaken, and one of its platforms pushed again a day later, for another index."""
    one, two = (stage.run(stage.push_image(UI, layer=layer)) for layer in (b"one", b"two"))
    old = listing(one, two)
    stage.run(stage.put(UI, old, "v1"))
    stage.clock.now += DAY
    stage.run(stage.push_image(UI, "v2", layer=b"three"))
    stage.run(stage.put(UI, two))
    return old, two


def test_a_platform_that_was_pushed_again_for_another_index_stays_when_the_old_one_goes(stage: Stage) -> None:
    old, two = rebuilt(stage)
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    [done] = stage.run(retention.apply(OPERATOR, "gallery"))
    assert done.tags == ("v1",)
    assert set(done.manifests) == {old.digest.text, old.manifests[0].digest.text}

    # The index that it was pushed for finds it, and takes it along when it goes.
    new = listing(two, stage.run(stage.push_image(UI, layer=b"new")))
    stage.run(stage.put(UI, new, "v3"))
    stage.clock.now += DAY
    stage.run(stage.push_image(UI, "v4", layer=b"four"))
    [done] = stage.run(retention.apply(OPERATOR, "gallery"))
    assert {new.digest.text, *(each.digest.text for each in new.manifests)} < set(done.manifests)


def test_a_platform_that_was_pushed_again_goes_with_its_index_once_its_grace_is_over(stage: Stage) -> None:
    old, two = rebuilt(stage)
    states = stage.house.database.read_now(lambda connection: retaining.tag_states(connection, [UI]))[UI.name]
    going = [tag for tag in states if tag.name == "v1"]
    bin = Bin(int(stage.clock.now) + 3600, "user:7", DAY)

    def removed(connection: Connection) -> Notes:
        return retaining.remove(connection, UI, going, bin, grace_seconds=3600)

    notes = stage.run(stage.commit(Change(removed)))
    assert set(notes.result[1]) == {old.digest.text, *(each.digest.text for each in old.manifests)}
    assert two.digest.text in notes.result[1]


def test_what_is_about_a_manifest_goes_with_it_though_it_was_pushed_later(stage: Stage) -> None:
    subject = stage.run(stage.push_image(UI, "v1"))
    stage.clock.now += 60
    about = image(b"{}", b"a layer", subject=subject)
    stage.run(stage.put(UI, about))
    stage.clock.now += 60
    stage.run(stage.push_image(UI, "v2", layer=b"two"))
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    [done] = stage.run(retention.apply(OPERATOR, "gallery"))
    assert set(done.manifests) == {subject.digest.text, about.digest.text}


def test_immutable_tags_stay(stage: Stage) -> None:
    filled(stage)
    stage.run(stage.commit(projects.set_project(UI.project, Wishes(immutable=("v0",)))))
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    [done] = stage.run(retention.apply(OPERATOR, "gallery"))
    assert done.tags == ("v1",)


def test_many_tags_go_in_several_transactions_between_which_others_commit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "_SLICE", 2)
    manifest = stage.run(stage.push_image(UI, *(f"ci-{number}" for number in range(5))))
    stage.clock.now += DAY
    stage.run(stage.push_image(UI, "new", layer=b"new"))
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    before = len(stage.house.records())

    async def story() -> Applied:
        other = asyncio.create_task(stage.house.ledger.commit(Act(Event(Kind.MANIFEST_PULL, OPERATOR))))
        [done] = await retention.apply(OPERATOR, "gallery")
        await other
        return done

    done = stage.run(story())
    assert (done.tags, done.manifests) == (tuple(f"ci-{number}" for number in range(5)), (manifest.digest.text,))
    applied = [event["detail"] for event in stage.house.records(kind="retention.apply")]
    assert applied == [{"tags": 2, "manifests": 0}, {"tags": 2, "manifests": 0}, {"tags": 1, "manifests": 1}]
    assert len(stage.house.records()) == before + 1 + 1 + 3 + 5


def test_a_signature_goes_with_the_last_tag_of_its_image_however_the_tags_are_split(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "_SLICE", 1)
    digests = filled(stage)
    signature = stage.run(stage.push_image(UI, layer=b"signature"))
    stage.run(stage.put(UI, signature, f"sha256-{digests[0].hex}.sig"))
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    stage.run(retention.apply(OPERATOR, "gallery"))
    applied = [event["detail"]["tags"] for event in stage.house.records(kind="retention.apply")]
    assert sorted(applied) == [1, 2]


def test_a_signature_stays_whose_image_was_pushed_again_since_the_plan(stage: Stage) -> None:
    digests = filled(stage)
    name = f"sha256-{digests[0].hex}.sig"
    stage.run(stage.put(UI, stage.run(stage.push_image(UI, layer=b"signature")), name))
    states = stage.house.database.read_now(lambda connection: retaining.tag_states(connection, [UI]))[UI.name]
    stage.run(stage.push_image(UI, "v0", layer=b"layer 0"))
    going = [tag for tag in states if tag.name in ("v0", "v1", name)]
    bin = Bin(int(stage.clock.now), "user:7", DAY)
    notes = stage.run(stage.commit(Change(lambda connection: retaining.remove(connection, UI, going, bin))))
    assert notes.result[0] == ("v1",)


def test_what_is_read_only_is_not_due(stage: Stage) -> None:
    filled(stage)
    retention = acts(stage).acts.retention
    stage.run(retention.set(OPERATOR, "gallery", last=1))
    stage.run(stage.commit(projects.set_project(UI.project, Wishes(read_only="archive"))))
    assert stage.run(retention.due()) == ()
    stage.run(stage.commit(projects.set_project(UI.project, Wishes(read_only=""))))
    stage.run(stage.commit(rules.set_freeze("a move", NOW)))
    assert stage.run(retention.due()) == ()
    stage.run(stage.commit(rules.set_freeze("", NOW)))
    assert stage.run(retention.due()) == ("gallery",)


def test_only_who_manages_the_project_plans_and_applies(stage: Stage) -> None:
    filled(stage)
    rooms = acts(stage)
    writer = rooms.user("writer")
    rooms.run(rooms.acts.grants.add_grant(OPERATOR, "writer", "maintainer", "gallery"))
    retention = rooms.acts.retention
    for act in (retention.plan, retention.apply, retention.show):
        with pytest.raises(Denied):
            rooms.run(act(writer, "gallery"))
    with pytest.raises(Denied):
        rooms.run(retention.set(writer, "gallery", last=1))
