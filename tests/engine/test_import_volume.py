from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway.administration.importing import Imports
from gateway.audit.event import Kind
from gateway.engine.embedded.importing import EmbeddedImport
from gateway.engine.embedded.layout import IMPORTS
from gateway.engine.embedded.volume import Volume
from gateway.engine.source import Part
from gateway.engine.stores.filesystem import Filesystem
from gateway.errors import BlobUnknown, Conflict, Invalid, ManifestUnknown, Unavailable
from gateway.oci.digest import Digest
from gateway.oci.manifest import NESTING
from gateway.oci.names import Repository
from tests.engine.importing import UI, Stage, staged
from tests.house import OPERATOR
from tests.services.volume import CONFIG, DOCKER_IMAGE, IMAGE, INDEX, LAYER, WrittenVolume, digest_of, named

OTHER = "garden/ui"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(f"sqlite:///{tmp_path / 'gateway.db'}", tmp_path) as stage:
        yield stage


def reasons(stage: Stage, **asked: object) -> list[str]:
    """What an import leaves behind, and why, a line each."""
    return [f"{each.what}: {each.reason}" for each in stage.run(**asked).broken]


# what comes, and how


def test_everything_arrives_byte_for_byte_on_either_database(database_url: str, tmp_path: Path) -> None:
    with staged(database_url, tmp_path) as stage:
        first = stage.volume.image(UI, "v1", "latest", layers=[b"one", b"two"])
        second = stage.volume.image(UI, layers=[b"two", b"three"], config=b'{"second": true}')
        index = stage.volume.index(UI, "multi", of=[first, second])
        signature = stage.volume.image(UI, layers=[b"signed"], subject=named(first, IMAGE))
        report = stage.run()
        assert report.broken == []
        assert (report.tally.manifests, report.tally.tags, report.tally.blobs) == (4, 3, 6)
        for reference, content in (("v1", first), ("latest", first), ("multi", index), (digest_of(second), second)):
            assert stage.manifest(reference).content == content
        assert stage.manifest("multi").media_type == INDEX
        assert stage.blob(digest_of(b"three")) == b"three"
        assert stage.tags() == ["latest", "multi", "v1"]
        assert stage.referrers(digest_of(first)) == [digest_of(signature)]


def test_the_root_of_the_tree_and_the_folder_above_it_are_the_same_volume(stage: Stage) -> None:
    content = stage.volume.image(UI, "v1")
    stage.volume.folder = stage.volume.root
    assert stage.run().broken == []
    assert stage.manifest("v1").content == content


def test_indexes_that_nest_too_deep_stay_behind_and_nothing_else_does(stage: Stage) -> None:
    nested, kind = stage.volume.image(UI, "v1"), IMAGE
    for depth in range(1, NESTING + 3):
        nested, kind = stage.volume.index(UI, f"deep-{depth}", of=[nested], media_type=kind), INDEX
    left = {each.what.partition("@")[0]: each.reason for each in stage.run().broken}
    assert left.keys() == {f"deep-{NESTING + 1}", f"deep-{NESTING + 2}"}
    assert left[f"deep-{NESTING + 1}"] == "it nests more than 8 indexes"
    assert stage.tags() == sorted(["v1", *(f"deep-{depth}" for depth in range(1, NESTING + 1))])


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_folder_that_is_no_volume_is_refused(stage: Stage, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    stage.volume.folder = tmp_path / place
    with pytest.raises(Invalid):
        stage.run()


def test_a_manifest_without_media_type_is_what_its_fields_show(stage: Stage) -> None:
    image = stage.volume.image(UI, "v1", mediaType=None)
    listing = json.dumps({"schemaVersion": 2, "manifests": [named(image, IMAGE)]}).encode()
    stage.volume.manifest(UI, listing, "multi")
    assert stage.run().broken == []
    assert stage.manifest("v1").media_type == IMAGE
    assert stage.manifest("multi").media_type == INDEX


def test_dockers_own_format_keeps_its_media_type(stage: Stage) -> None:
    content = stage.volume.image(UI, "v1", mediaType=DOCKER_IMAGE)
    assert stage.run().broken == []
    assert (stage.manifest("v1").media_type, stage.manifest("v1").content) == (DOCKER_IMAGE, content)


def test_indexes_of_indexes_come_after_what_they_list(stage: Stage) -> None:
    images = [stage.volume.image(UI, config=json.dumps(number).encode()) for number in range(5)]
    inner = [stage.volume.index(UI, of=images[:2]), stage.volume.index(UI, of=images[2:])]
    outer = stage.volume.index(UI, "deep", of=inner, media_type=INDEX)
    top = stage.volume.index(UI, "deeper", of=[outer, inner[0]], media_type=INDEX)
    assert stage.run().broken == []
    assert stage.manifest("deeper").content == top
    assert stage.manifest(digest_of(images[4])).content == images[4]


def test_an_empty_blob_is_a_blob(stage: Stage) -> None:
    stage.volume.image(UI, "v1", layers=[b""])
    assert stage.run().broken == []
    assert stage.file(digest_of(b"")).stat().st_size == 0


def test_a_blob_kept_under_another_algorithm_is_found_and_verified_by_its_own(stage: Stage) -> None:
    layer = b"by another name"
    kept, wanted = digest_of(layer), digest_of(layer, "sha512")
    stage.volume.blob(UI, layer)
    stage.volume.layer_link(UI, wanted).parent.mkdir(parents=True)
    stage.volume.layer_link(UI, wanted).write_text(kept)
    entry = {"mediaType": LAYER, "digest": wanted, "size": len(layer)}
    stage.volume.blob(UI, b"{}")
    fields = {"schemaVersion": 2, "mediaType": IMAGE, "config": named(b"{}", CONFIG), "layers": [entry]}
    stage.volume.manifest(UI, json.dumps(fields).encode(), "v1")
    assert reasons(stage) == []
    assert stage.blob(wanted) == layer


def test_a_foreign_layer_need_not_be_there(stage: Stage) -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    stage.volume.blob(UI, b"{}")
    fields = {
        "schemaVersion": 2,
        "mediaType": DOCKER_IMAGE,
        "config": named(b"{}", CONFIG),
        "layers": [named(b"elsewhere", foreign)],
    }
    stage.volume.manifest(UI, json.dumps(fields).encode(), "v1")
    assert reasons(stage) == []
    assert stage.tags() == ["v1"]


def test_a_repository_of_more_than_one_part_leaves_an_event_for_each(stage: Stage) -> None:
    for number in range(450):
        stage.volume.image(UI, f"v{number}", annotations={"number": str(number)})
    report = stage.run()
    events = stage.house.records(kind=Kind.REPOSITORY_IMPORT.value)
    assert report.tally.tags == len(stage.tags()) == 450
    assert [event["detail"]["manifests"] for event in events] == [200, 200, 50]
    assert sum(event["bytes"] for event in events) == report.tally.bytes


# through the gate


def test_the_event_counts_and_a_missing_project_is_made_as_by_a_push(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    stage.volume.image(OTHER, "v1")
    report = stage.run()
    assert {name: each.new for name, each in report.projects.items()} == {"gallery": True, "garden": True}
    events = [event for event in stage.house.records() if event["kind"] in ("project.add", "repository.import")]
    assert [(event["kind"], event["project"], event["principal"]) for event in events] == [
        ("project.add", "gallery", "operator:root"),
        ("repository.import", "gallery", "operator:root"),
        ("project.add", "garden", "operator:root"),
        ("repository.import", "garden", "operator:root"),
    ]
    told = events[1]
    assert (told["repository"], told["outcome"]) == (UI, "allowed")
    assert (told["detail"]["manifests"], told["detail"]["tags"], told["detail"]["blobs"]) == (1, 1, 2)


def test_a_plan_counts_the_same_and_changes_nothing(stage: Stage) -> None:
    shared = [b"shared by both"]
    stage.volume.image(UI, "v1", layers=shared)
    stage.volume.image(OTHER, "v1", layers=shared)
    stage.volume.image(UI, "broken", config=b'"unlinked"')
    stage.volume.layer_link(UI, digest_of(b'"unlinked"')).unlink()
    planned = stage.plan()
    assert not (stage.house.data / "blobs").exists()
    with pytest.raises(ManifestUnknown):
        stage.manifest("v1")
    (event,) = stage.house.records()
    assert (event["kind"], event["detail"]["plan"]) == ("repository.import", True)
    done = stage.run()
    assert planned.tally == done.tally
    assert planned.broken == done.broken


def test_names_are_filtered_by_project_and_those_outside_the_grammar_reported(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    stage.volume.image(OTHER, "v1")
    stage.volume.image("Capital/ui", "v1")
    report = stage.run(projects=["gallery", "nobody"])
    assert list(report.projects) == ["gallery"]
    assert [(each.repository, each.reason) for each in report.broken] == [
        ("nobody", "the source has no repository of this project")
    ]
    report = stage.run()
    assert [each.repository for each in report.broken] == ["Capital/ui"]
    assert report.tally.manifests == 1
    with pytest.raises(Invalid):
        stage.run(projects=["Gallery"])


# again


def test_what_is_here_is_not_read_again(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    stage.volume.image(OTHER, "v1", layers=[b"another"])
    stage.run()
    for file in stage.volume.root.glob("blobs/**/data"):
        file.unlink()
    again = stage.run()
    assert again.broken == []
    assert (again.tally.manifests, again.tally.tags, again.tally.blobs, again.tally.bytes) == (0, 0, 0, 0)
    assert (again.tally.manifests_there, again.tally.tags_there) == (2, 2)
    assert stage.blob(digest_of(b"another"), OTHER) == b"another"


def test_bytes_that_were_in_place_when_an_import_died_are_not_copied_again(stage: Stage) -> None:
    content = stage.volume.image(UI, "v1", layers=[b"a layer of some size"])

    async def die_before_the_commit() -> None:
        importer = stage.importer()
        with importer.alone():
            async for _ in importer.parts(Repository(UI), "operator:0"):
                return

    asyncio.run(die_before_the_commit())
    stage.volume.blob_file(digest_of(b"a layer of some size")).write_bytes(b"never read: twenty b")
    report = stage.run()
    assert report.broken == []
    assert (report.tally.blobs, report.tally.blobs_there) == (0, 2)
    assert stage.manifest("v1").content == content


def test_leftovers_of_an_import_that_died_are_cleared(stage: Stage) -> None:
    (stage.house.data / IMPORTS).mkdir()
    (stage.house.data / IMPORTS / "leftover").write_bytes(b"half of something")
    stage.volume.image(UI, "v1")
    stage.run()
    assert list((stage.house.data / IMPORTS).iterdir()) == []


def test_a_damaged_file_here_is_healed_by_an_import(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    stage.run()
    stage.file(digest_of(b"a layer")).write_bytes(b"cut")
    stage.volume.image(UI, "v2", config=b'"other"')
    stage.volume.image(OTHER, "v1")
    stage.run()
    assert stage.blob(digest_of(b"a layer")) == b"a layer"


def test_a_tag_follows_the_source_until_somebody_pushes_it_here(stage: Stage) -> None:
    first = stage.volume.image(UI, "latest")
    stage.run()
    second = stage.volume.image(UI, "latest", config=b'"second"')
    assert stage.run().tally.tags == 1
    assert stage.manifest("latest").content == second
    stage.push(first, "latest")
    stage.volume.image(UI, "latest", config=b'"third"')
    report = stage.run()
    assert [(each.repository, each.what) for each in report.kept] == [(UI, "latest")]
    assert (report.tally.tags, report.tally.tags_kept, report.broken) == (0, 1, [])
    assert stage.manifest("latest").content == first


def test_only_one_import_runs_on_a_data_directory(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    with stage.importer().alone(), pytest.raises(Conflict):
        stage.run()
    assert stage.run().broken == []


# what is broken


def corrupt(volume: WrittenVolume, layer: str) -> None:
    file = volume.blob_file(layer)
    file.write_bytes(b"x" * file.stat().st_size)


def cut(volume: WrittenVolume, layer: str) -> None:
    os.truncate(volume.blob_file(layer), 3)


def empty(volume: WrittenVolume, layer: str) -> None:
    os.truncate(volume.blob_file(layer), 0)


def lost(volume: WrittenVolume, layer: str) -> None:
    volume.blob_file(layer).unlink()


def unlinked(volume: WrittenVolume, layer: str) -> None:
    volume.layer_link(UI, layer).unlink()


def empty_link(volume: WrittenVolume, layer: str) -> None:
    os.truncate(volume.layer_link(UI, layer), 0)


def wrong_link(volume: WrittenVolume, layer: str) -> None:
    volume.layer_link(UI, layer).write_text(digest_of(b"{}"))


def garbled_link(volume: WrittenVolume, layer: str) -> None:
    volume.layer_link(UI, layer).write_bytes(b"\xff" * 400)


def symbolic(volume: WrittenVolume, layer: str) -> None:
    file = volume.blob_file(layer)
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def pipe(volume: WrittenVolume, layer: str) -> None:
    volume.blob_file(layer).unlink()
    os.mkfifo(volume.blob_file(layer))


@pytest.mark.parametrize("link", [False, True], ids=["copy", "link"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (corrupt, "its bytes have the digest sha256:"),
        (cut, "its bytes have the digest sha256:"),
        (empty, "its bytes are an empty file"),
        (lost, "its bytes are missing"),
        (unlinked, "the repository does not hold it"),
        (empty_link, "its link is an empty file"),
        (wrong_link, "its link names another digest"),
        (garbled_link, "it has more than 256 bytes"),
        (symbolic, "its bytes are no regular file"),
        (pipe, "its bytes are no regular file"),
    ],
)
def test_a_bad_blob_stays_behind_with_what_needs_it_and_nothing_else_does(
    stage: Stage, harm: Callable[[WrittenVolume, str], None], reason: str, link: bool
) -> None:
    good = stage.volume.image(UI, "good", layers=[b"sound"])
    bad = stage.volume.image(UI, "bad", "worse", layers=[b"sound", b"a bad layer"])
    stage.volume.index(UI, "multi", of=[good, bad])
    layer = digest_of(b"a bad layer")
    harm(stage.volume, layer)
    report = stage.run(link=link)
    assert {each.what for each in report.broken} == {
        f"bad@{digest_of(bad)}",
        f"worse@{digest_of(bad)}",
        f"multi@{digest_of(stage.volume.index(UI, of=[good, bad]))}",
    }
    for each in report.broken:
        assert f"{layer}: {reason}" in each.reason or "it stays behind itself" in each.reason
    assert stage.tags() == ["good"]
    assert not stage.file(layer).exists()
    assert list((stage.house.data / IMPORTS).iterdir()) == []
    with pytest.raises(BlobUnknown):
        stage.blob(layer)


def test_what_was_mended_comes_the_next_time(stage: Stage) -> None:
    content = stage.volume.image(UI, "v1")
    file = stage.volume.blob_file(digest_of(b"a layer"))
    file.write_bytes(b"a l@yer")
    assert len(stage.run().broken) == 1
    file.write_bytes(b"a layer")
    assert stage.run().broken == []
    assert stage.manifest("v1").content == content


def test_a_blob_of_another_repository_is_not_lent(stage: Stage) -> None:
    stage.volume.image(OTHER, "v1", layers=[b"theirs"])
    stage.volume.image(UI, "v1", layers=[b"theirs"])
    stage.volume.layer_link(UI, digest_of(b"theirs")).unlink()
    report = stage.run()
    assert [each.repository for each in report.broken] == [UI]
    assert stage.run().tally.broken == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda volume, digest: os.truncate(volume.tag_link(UI, "v1"), 0), "v1: its link is an empty file"),
        (lambda volume, digest: volume.tag_link(UI, "v1").unlink(), "v1: its link is missing"),
        (lambda volume, digest: volume.tag_link(UI, "v1").write_text("sha256:abc"), "v1: its link holds no digest"),
        (lambda volume, digest: volume.revision_link(UI, digest).unlink(), "was deleted, or its link is missing"),
        (lambda volume, digest: os.truncate(volume.revision_link(UI, digest), 0), "its link is an empty file"),
        (lambda volume, digest: volume.blob_file(digest).unlink(), "the manifest's bytes are missing"),
        (lambda volume, digest: os.truncate(volume.blob_file(digest), 0), "the manifest's bytes are empty"),
        (lambda volume, digest: os.truncate(volume.blob_file(digest), 20), "the manifest cannot be read"),
        (lambda volume, digest: volume.blob_file(digest).write_bytes(b"[]"), "the manifest is no JSON object"),
        (
            lambda volume, digest: volume.blob_file(digest).write_bytes(
                volume.blob_file(digest).read_bytes().replace(b": ", b":")
            ),
            "the manifest's bytes have the digest sha256:",
        ),
    ],
)
def test_a_bad_manifest_or_link_is_told_with_its_tag(
    stage: Stage, spoil: Callable[[WrittenVolume, str], object], reason: str
) -> None:
    sound = stage.volume.image(UI, "sound", config=b'"sound"')
    spoil(stage.volume, digest_of(stage.volume.image(UI, "v1")))
    found = [line for line in reasons(stage) if line.startswith("v1")]
    assert len(found) == 1
    assert reason in found[0]
    assert stage.tags() == ["sound"]
    assert stage.manifest("sound").content == sound


def test_schema_1_and_illegal_tags_are_told(stage: Stage) -> None:
    stage.volume.image(UI, "sound")
    old = {"schemaVersion": 1, "name": UI, "tag": "old", "fsLayers": [], "history": []}
    stage.volume.manifest(UI, json.dumps(old).encode(), "old")
    stage.volume.image(UI, "-dash")
    told = reasons(stage)
    assert len(told) == 2
    assert any(line.startswith("old@") and "schema 1" in line for line in told)
    assert any(line.startswith("-dash: ") for line in told)
    assert stage.tags() == ["sound"]


# files


def test_a_copy_is_a_file_of_its_own_for_its_owner_alone(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    stage.run()
    ours, theirs = stage.file(digest_of(b"a layer")).stat(), stage.volume.blob_file(digest_of(b"a layer")).stat()
    assert ours.st_ino != theirs.st_ino
    assert stat.S_IMODE(ours.st_mode) == 0o600


def test_a_link_is_the_same_file_and_outlives_the_volume(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    file = stage.volume.blob_file(digest_of(b"a layer"))
    number = file.stat().st_ino
    report = stage.run(link=True)
    assert (report.tally.blobs, report.tally.linked) == (2, 2)
    assert stage.file(digest_of(b"a layer")).stat().st_ino == number
    file.unlink()
    assert stage.blob(digest_of(b"a layer")) == b"a layer"


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o622])
def test_a_file_that_others_may_write_to_is_copied_instead_of_linked(stage: Stage, mode: int) -> None:
    stage.volume.image(UI, "v1")
    file = stage.volume.blob_file(digest_of(b"a layer"))
    file.chmod(mode)
    report = stage.run(link=True)
    assert (report.tally.blobs, report.tally.linked) == (2, 1)
    file.write_bytes(b"changed")
    assert stage.blob(digest_of(b"a layer")) == b"a layer"


def test_a_file_of_another_account_is_copied_instead_of_linked(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    file = stage.volume.blob_file(digest_of(b"a layer"))
    os.chown(file, 12345, 12345)
    assert stage.run(link=True).tally.linked == 1
    assert stage.file(digest_of(b"a layer")).stat().st_uid == os.geteuid()


def test_where_nothing_can_be_linked_or_copied_by_the_system_bytes_are_read_and_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(os, "link", refuse)
    layer = os.urandom(3_000_000)
    stage.volume.image(UI, "v1", layers=[layer])
    report = stage.run(link=True)
    assert (report.tally.linked, report.broken) == (0, [])
    assert stage.blob(digest_of(layer)) == layer


def test_a_system_that_stops_copying_too_early_is_not_believed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    stage.volume.image(UI, "v1")
    assert stage.run().broken == []
    assert stage.blob(digest_of(b"a layer")) == b"a layer"


def test_a_full_disk_ends_the_import_with_what_to_do_and_leaves_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    content = stage.volume.image(UI, "v1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "copy_file_range", full)
        with pytest.raises(Unavailable, match="make room"):
            stage.run()
    assert list((stage.house.data / IMPORTS).iterdir()) == []
    assert [event["outcome"] for event in stage.house.records(kind="repository.import")] == ["failed"]
    assert stage.run().broken == []
    assert stage.manifest("v1").content == content


def test_the_source_is_not_touched(stage: Stage) -> None:
    stage.volume.image(UI, "v1")
    stage.volume.image(UI, "v2", layers=[b"other"])

    def state() -> dict[str, tuple[int, int, int]]:
        files = sorted(stage.volume.folder.rglob("*"))
        return {str(file): (file.stat().st_mode, file.stat().st_size, file.stat().st_mtime_ns) for file in files}

    before = state()
    stage.run()
    stage.run(link=True)
    assert state() == before


# meanwhile


class Meddled(EmbeddedImport):
    """An import during which somebody deletes a manifest here, before the part that counts on it is committed."""

    def meddle(self, stage: Stage, digest: str) -> None:
        self.stage, self.digest = stage, digest

    async def parts(self, repository: Repository, owner: str, *, copy: bool = True) -> AsyncIterator[Part]:
        async for part in super().parts(repository, owner, copy=copy):
            if repository.name == UI:
                gone = self.stage.engine.manifests.delete(repository, Digest(self.digest))
                async with self.stage.house.gate.passage(OPERATOR, Kind.MANIFEST_DELETE) as passage:
                    await passage.commit(gone)
            yield part


def test_content_deleted_here_meanwhile_breaks_one_part_and_not_the_import(stage: Stage) -> None:
    child = stage.volume.image(UI, "child")
    stage.run()
    index = stage.volume.index(UI, "multi", of=[child])
    sound = stage.volume.image(OTHER, "v1")
    store = Filesystem(stage.house.data)
    importer = Meddled(store, stage.house.database, Volume.at(stage.volume.folder))
    importer.meddle(stage, digest_of(child))
    report = asyncio.run(Imports(stage.house.gate, stage.house.database, importer).import_all(OPERATOR))
    assert [each.repository for each in report.broken] == [UI]
    assert stage.manifest("v1", OTHER).content == sound
    assert stage.run().broken == []
    assert stage.manifest("multi").content == index
