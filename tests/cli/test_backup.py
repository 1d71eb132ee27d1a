from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from gateway.backup import copying, taking
from gateway.cli.entry import run
from gateway.initialisation import initialise
from gateway.records.database import Database
from gateway.records.trail import project_tail
from gateway.settings import FILE_NAME, Settings
from tests.cli.line import Line
from tests.services.postgres import PostgresServer
from tests.services.volume import WrittenVolume, digest_of

APP = "gallery/app"


@pytest.fixture
def volume(tmp_path: Path) -> WrittenVolume:
    return WrittenVolume(tmp_path / "volume")


@pytest.fixture
def filled(line: Line, volume: WrittenVolume) -> Line:
    """A gateway with an account and an image of three blobs."""
    line.done("user", "add", "writer")
    push(line, volume, "v1", b"one", b"two")
    return line


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def push(line: Line, volume: WrittenVolume, tag: str, *layers: bytes) -> None:
    volume.image(APP, tag, layers=layers)
    line.done("import", str(volume.folder))


def blob_file(root: Path, content: bytes) -> Path:
    digest = digest_of(content)[7:]
    return root / "blobs" / "sha256" / digest[:2] / digest


def blobs_in(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "blobs").rglob("*") if path.is_file()}


def snapshots(target: Path) -> list[Path]:
    return sorted((target / "snapshots").iterdir())


def elsewhere(line: Line, folder: Path) -> Line:
    return Line(folder, line.capsys)


def refused(said: Any) -> str:
    """The one line with which a command refused; it must be one."""
    assert said.status not in {0, 70}, said
    lines = said.err.strip().splitlines()
    assert len(lines) == 1
    assert "Traceback" not in said.err
    return str(lines[0])


# taking and restoring


def test_what_is_backed_up_comes_back_elsewhere(filled: Line, target: Path, tmp_path: Path) -> None:
    taken = filled.done("backup", str(target), "--json").json
    assert taken["blobs"]["copied"] == 3
    assert (taken["damaged"], taken["records"]["tags"], taken["records"]["blobs"]) == ([], 1, 3)
    there = elsewhere(filled, tmp_path / "there")
    restored = filled.done("restore", str(target), "--data", str(there.folder), "--json").json
    assert (restored["restored"], restored["blobs"]["copied"], restored["damaged"]) == (True, 3, [])
    assert sorted(path.name for path in there.folder.iterdir()) == ["blobs", "gateway.db", "keys", "trail-mark"]
    assert blobs_in(there.folder) == blobs_in(filled.folder)
    assert there.done("audit", "verify").status == 0
    assert there.done("user", "show", "writer", "--json").json == filled.done("user", "show", "writer", "--json").json
    assert there.done("key", "list", "--json").json == filled.done("key", "list", "--json").json
    assert there.done("tag", "list", APP, "--json").json == filled.done("tag", "list", APP, "--json").json
    (event,) = there.events("--kind", "storage.restore")
    assert event["id"] == taken["trail"]["seq"] + 1
    assert event["detail"]["taken"] == taken["taken"]


def test_the_snapshot_holds_the_event_of_its_own_beginning_and_the_receipt_follows(filled: Line, target: Path) -> None:
    taken = filled.done("backup", str(target), "--json").json
    (ended,) = filled.events("--kind", "storage.backup.ended")
    (begun,) = filled.events("--kind", "storage.backup")
    assert (begun["id"], ended["id"]) == (taken["trail"]["seq"], taken["trail"]["seq"] + 1)
    assert ended["detail"]["snapshot"] == Path(taken["snapshot"]).name
    assert (ended["detail"]["copied"], ended["detail"]["chain_hash"]) == (3, taken["trail"]["hash"])


def test_a_backup_is_dated_by_its_records_however_long_the_copying_takes(
    filled: Line, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any) -> Any:
        time.sleep(2)
        return copying.bring_blobs(*arguments)

    monkeypatch.setattr(taking, "bring_blobs", slowly)
    taken = filled.done("backup", str(target), "--json").json["taken"]
    (begun,) = filled.events("--kind", "storage.backup")
    assert datetime.fromisoformat(taken) - datetime.fromisoformat(begun["time"]) < timedelta(seconds=1.5)


def test_an_increment_copies_what_is_new(filled: Line, volume: WrittenVolume, target: Path, tmp_path: Path) -> None:
    filled.done("backup", str(target))
    before = {path: path.stat().st_ino for path in (target / "blobs").rglob("*") if path.is_file()}
    push(filled, volume, "v2", b"one", b"three")
    taken = filled.done("backup", str(target), "--json").json
    assert taken["blobs"] == {"copied": 1, "bytes": len(b"three"), "already_there": 3}
    assert {path: path.stat().st_ino for path in before} == before
    assert len(snapshots(target)) == 2
    # Either can be restored: the newest by its directory, an older one by its own name.
    older, newest = elsewhere(filled, tmp_path / "older"), elsewhere(filled, tmp_path / "newest")
    filled.done("restore", str(target), "--data", str(newest.folder))
    filled.done("restore", str(snapshots(target)[0]), "--data", str(older.folder))
    assert [row["name"] for row in newest.done("tag", "list", APP, "--json").json] == ["v1", "v2"]
    assert [row["name"] for row in older.done("tag", "list", APP, "--json").json] == ["v1"]
    assert len(blobs_in(older.folder)) == 3


def test_only_so_many_snapshots_are_kept_and_what_they_name(filled: Line, volume: WrittenVolume, target: Path) -> None:
    volume.image("gallery/other", "v1", layers=[b"one"])
    filled.done("import", str(volume.folder))
    filled.done("backup", str(target))
    filled.done("repository", "remove", APP)
    filled.done("backup", str(target))
    assert blob_file(target, b"two").exists()
    taken = filled.done("backup", str(target), "--keep", "2", "--json").json
    assert taken["removed"] == {"snapshots": 1, "blobs": 1, "bytes": 3}
    assert not blob_file(target, b"two").exists()
    assert blob_file(target, b"one").exists()
    assert len(snapshots(target)) == 2
    assert filled.done("backup", str(target), "--keep", "1", "--json").json["removed"]["snapshots"] == 2


def test_nothing_is_cleared_away_by_the_list_of_a_damaged_snapshot(filled: Line, target: Path) -> None:
    filled.done("backup", str(target))
    filled.done("repository", "remove", APP)
    (snapshots(target)[0] / "blobs.txt").write_text("")
    said = filled("backup", str(target), "--keep", "2")
    assert said.status == 4
    assert "The backup is made" in refused(said)
    assert len(snapshots(target)) == 2
    assert len(blobs_in(target)) == 3


def test_what_no_repository_holds_is_not_backed_up(filled: Line, target: Path, tmp_path: Path) -> None:
    filled.done("repository", "remove", APP)
    assert filled.done("backup", str(target), "--json").json["blobs"]["copied"] == 0
    filled.done("restore", str(target), "--data", str(tmp_path / "there"))
    with closing(sqlite3.connect(tmp_path / "there" / "gateway.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM blobs").fetchone() == (0,)


def test_what_is_removed_while_it_is_copied_is_not_missed(
    filled: Line, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def swept_meanwhile(listed: Any, *places: Any) -> Any:
        if not calls:
            filled.program("repository", "remove", APP)
            blob_file(filled.folder, b"two").unlink()
        calls.append(len(listed))
        return copying.bring_blobs(listed, *places)

    monkeypatch.setattr(taking, "bring_blobs", swept_meanwhile)
    taken = filled.done("backup", str(target), "--json").json
    assert calls == [3, 0]
    assert (taken["damaged"], taken["records"]["repositories"]) == ([], 0)
    assert [path.read_text() for path in target.glob("snapshots/*/blobs.txt")] == [""]


def test_the_newest_snapshot_stays_when_the_clock_was_set_back(filled: Line, target: Path) -> None:
    filled.done("backup", str(target))
    snapshots(target)[0].rename(target / "snapshots" / "29990101T000000Z")
    taken = filled.done("backup", str(target), "--keep", "1", "--json").json
    assert [str(each) for each in snapshots(target)] == [taken["snapshot"]]


def test_a_backup_is_its_owner_s_alone(filled: Line, target: Path, tmp_path: Path) -> None:
    os.umask(0o022)
    filled.done("backup", str(target))
    there = tmp_path / "there"
    filled.done("restore", str(target), "--data", str(there))
    for root in (target, there):
        assert root.stat().st_mode & 0o777 == 0o700
        for path in root.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
    said = filled.done("backup", str(target)).out
    assert "It holds every secret of this gateway" in said


def test_uploads_under_way_are_forgotten(furnished: Line, target: Path, tmp_path: Path) -> None:
    furnished("backup", str(target))
    furnished("restore", str(target), "--data", str(tmp_path / "there"), "--incomplete")
    with closing(sqlite3.connect(tmp_path / "there" / "gateway.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM uploads").fetchone() == (0,)
    (event,) = elsewhere(furnished, tmp_path / "there").events("--kind", "storage.restore")
    assert event["detail"]["uploads_dropped"] == 1


# damage


def test_a_blob_that_is_damaged_here_does_not_hold_up_the_rest(filled: Line, target: Path, tmp_path: Path) -> None:
    blob_file(filled.folder, b"one").write_bytes(b"eno")
    blob_file(filled.folder, b"two").unlink()
    said = filled("backup", str(target), "--json")
    assert said.status == 1
    assert said.json["damaged"] == sorted(
        (
            {"digest": digest_of(b"one"), "reason": "its bytes have another digest"},
            {"digest": digest_of(b"two"), "reason": "its file is missing"},
        ),
        key=lambda each: each["digest"],
    )
    assert list(blobs_in(target)) == [digest_of(b"{}")[7:]]
    there = tmp_path / "there"
    told = filled("restore", str(target), "--data", str(there))
    assert told.status == 1
    assert "Nothing was restored" in told.out
    assert not there.exists()
    assert filled("restore", str(target), "--data", str(there), "--incomplete").status == 1
    assert elsewhere(filled, there).done("audit", "verify").status == 0


@pytest.mark.parametrize("content", [b"tvo", b"tw", b""], ids=["flipped", "truncated", "empty"])
def test_a_blob_that_was_damaged_in_the_backup_is_found(
    filled: Line, target: Path, tmp_path: Path, content: bytes
) -> None:
    filled.done("backup", str(target))
    blob_file(target, b"two").write_bytes(content)
    there = tmp_path / "there"
    said = filled("restore", str(target), "--data", str(there), "--json")
    assert said.status == 1
    assert (said.json["restored"], [each["digest"] for each in said.json["damaged"]]) == (False, [digest_of(b"two")])
    assert not there.exists()
    assert filled("restore", str(target), "--data", str(there), "--incomplete").status == 1
    assert set(blobs_in(there)) == {digest_of(each)[7:] for each in (b"one", b"{}")}


def test_a_blob_cut_short_in_the_backup_is_copied_again(filled: Line, target: Path) -> None:
    filled.done("backup", str(target))
    blob_file(target, b"two").write_bytes(b"t")
    assert filled.done("backup", str(target), "--json").json["blobs"]["copied"] == 1
    assert blob_file(target, b"two").read_bytes() == b"two"


@pytest.mark.parametrize("name", ["gateway.db", "blobs.txt", "keys/secret", "inventory.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_a_damaged_snapshot_is_refused(filled: Line, target: Path, tmp_path: Path, name: str, how: str) -> None:
    filled.done("backup", str(target))
    (snapshot,) = snapshots(target)
    (path,) = snapshot.glob(name if name != "keys/secret" else "keys/*")
    content = path.read_bytes()
    middle = len(content) // 2
    match how:
        case "flipped":
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :])
        case "cut":
            path.write_bytes(content[:middle])
        case _:
            path.unlink()
    there = tmp_path / "there"
    assert refused(filled("restore", str(snapshot), "--data", str(there)))
    assert not there.exists()


def test_a_trail_that_was_edited_in_the_backup_is_refused(filled: Line, target: Path, tmp_path: Path) -> None:
    filled.done("backup", str(target))
    (snapshot,) = snapshots(target)
    with closing(sqlite3.connect(snapshot / "gateway.db")) as database, database:
        database.execute("DROP TRIGGER events_keep_update")
        database.execute("UPDATE events SET body = replace(body, 'operator', 'stranger') WHERE seq = 3")
    inventory = json.loads((snapshot / "inventory.json").read_text())
    inventory["files"]["gateway.db"] = hashlib.sha256((snapshot / "gateway.db").read_bytes()).hexdigest()
    (snapshot / "inventory.json").write_text(json.dumps(inventory))
    assert "event 3 was edited" in refused(filled("restore", str(target), "--data", str(tmp_path / "there")))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"outside": 1}', '{"taken": "\\u001b[31m"}'])
def test_an_inventory_that_is_none_is_refused(filled: Line, target: Path, tmp_path: Path, text: str) -> None:
    filled.done("backup", str(target))
    path = snapshots(target)[0] / "inventory.json"
    if text.startswith('{"'):
        text = json.dumps({**json.loads(path.read_text()), **json.loads(text)})
    path.write_text(text)
    said = filled("restore", str(target), "--data", str(tmp_path / "there"))
    assert said.status == 2
    assert f"{path} is damaged" in refused(said)


def test_a_name_that_leads_out_of_the_backup_is_refused(filled: Line, target: Path, tmp_path: Path) -> None:
    filled.done("backup", str(target))
    (snapshot,) = snapshots(target)
    inventory = json.loads((snapshot / "inventory.json").read_text())
    inventory["files"]["../../../stolen"] = "0" * 64
    (snapshot / "inventory.json").write_text(json.dumps(inventory))
    assert "is damaged" in refused(filled("restore", str(target), "--data", str(tmp_path / "there")))


def test_a_backup_of_a_newer_schema_is_refused(filled: Line, target: Path, tmp_path: Path) -> None:
    filled.done("backup", str(target))
    (snapshot,) = snapshots(target)
    inventory = json.loads((snapshot / "inventory.json").read_text())
    for changed, says in (({"schema": "9999"}, "newer than this program"), ({"format": 2}, "newer gateway")):
        (snapshot / "inventory.json").write_text(json.dumps({**inventory, **changed}))
        said = filled("restore", str(target), "--data", str(tmp_path / "there"))
        assert said.status == 4
        assert says in refused(said)


# wrong inputs


def test_a_target_that_cannot_be_one_is_refused(filled: Line, tmp_path: Path) -> None:
    occupied, file, shared = tmp_path / "occupied", tmp_path / "file", tmp_path / "shared"
    occupied.mkdir()
    (occupied / "letter").write_text("dear")
    file.write_text("")
    filled.done("backup", str(shared))
    shared.chmod(0o750)
    for place, says in (
        (filled.folder / "backups", "lie in one another"),
        (tmp_path, "lie in one another"),
        (occupied, "something else in it"),
        (file, "not a directory"),
        (file / "below", "cannot hold backups"),
        (shared, "chmod 700"),
    ):
        said = filled("backup", str(place))
        assert said.status == 2
        assert says in refused(said)
    assert sorted(path.name for path in occupied.iterdir()) == ["letter"]
    assert filled.events("--kind", "storage.backup", "--outcome", "failed")
    assert filled("backup", str(tmp_path / "backups"), "--keep", "0").status == 2


def test_a_source_that_is_none_is_refused(filled: Line, target: Path, tmp_path: Path) -> None:
    empty, there = tmp_path / "empty", tmp_path / "there"
    empty.mkdir()
    (tmp_path / "unfinished" / "snapshots" / "20260101T000000Z").mkdir(parents=True)
    for source, says in (
        (tmp_path / "nowhere", "There is no"),
        (empty, "is no backup"),
        (tmp_path / "unfinished", "no complete backup"),
    ):
        said = filled("restore", str(source), "--data", str(there))
        assert said.status == 2
        assert says in refused(said)
    filled.done("backup", str(target))
    file = tmp_path / "url"
    file.touch(mode=0o600)
    for text in ("", "mysql://root@localhost/gateway"):
        file.write_text(text)
        said = filled("restore", str(target), "--data", str(there), "--database-url-file", str(file))
        assert "must hold one line, postgresql://" in refused(said)
    assert "cannot be read" in refused(
        filled("restore", str(target), "--data", str(there), "--database-url-file", str(tmp_path / "none"))
    )
    file.chmod(0o640)
    said = filled("restore", str(target), "--data", str(there), "--database-url-file", str(file))
    assert "chmod 600" in refused(said)
    assert not there.exists()


def test_nothing_is_restored_into_a_directory_with_something_in_it(filled: Line, target: Path, tmp_path: Path) -> None:
    filled.done("backup", str(target))
    before = blobs_in(filled.folder)
    assert "is not empty" in refused(filled("restore", str(target), "--data", str(filled.folder)))
    assert "is not empty" in refused(filled("restore", str(target)))
    assert blobs_in(filled.folder) == before
    filled.done("audit", "verify")
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o755)
    filled.done("restore", str(target), "--data", str(empty))
    assert empty.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("step", ["pwrite", "fsync", "mkdir", "rename"])
def test_a_full_disk_leaves_the_older_backups_as_they_are(
    filled: Line, volume: WrittenVolume, target: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    filled.done("backup", str(target))
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    push(filled, volume, "v2", b"three")
    whole = getattr(os, step)

    def full(*arguments: Any, **named: Any) -> Any:
        # Of the target alone: in the data directory there is room.
        places = [os.readlink(f"/proc/self/fd/{each}") if isinstance(each, int) else each for each in arguments[:1]]
        if any(str(place).startswith(str(target)) for place in places):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(*arguments, **named)

    def not_supported(*_: Any) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        patched.setattr(os, "copy_file_range", not_supported)
        said = filled("backup", str(target))
    assert said.status in {2, 5}
    assert "no space left" in refused(said)
    assert before.items() <= {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}.items()
    assert len(snapshots(target)) == 1
    assert filled.events("--kind", "storage.*", "--outcome", "failed")
    filled.done("backup", str(target))


def test_one_backup_at_a_time(filled: Line, target: Path, tmp_path: Path) -> None:
    filled.done("backup", str(target))
    with (target / "backup.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for words in (("backup", str(target)), ("restore", str(target), "--data", str(tmp_path / "there"))):
            said = filled(*words)
            assert said.status == 4
            assert "wait until it has ended" in refused(said)
    filled.done("backup", str(target))


# settings


def test_settings_come_back_unless_they_lead_elsewhere(filled: Line, target: Path, tmp_path: Path) -> None:
    settings, there = filled.folder / FILE_NAME, tmp_path / "there"
    settings.write_text('[server]\nport = 5055\ncertificate = "tls/own.crt"\nkey = "/nowhere/own.key"\n')
    (filled.folder / "tls").mkdir(exist_ok=True)
    (filled.folder / "tls" / "own.crt").write_text("certificate")
    taken = filled.done("backup", str(target), "--json").json
    assert taken["outside"] == ["/nowhere/own.key"]
    restored = filled.done("restore", str(target), "--data", str(there), "--json").json
    assert (restored["settings_aside"], restored["missing"]) == ("", ["/nowhere/own.key"])
    assert (there / FILE_NAME).read_text() == settings.read_text()
    assert (there / "tls" / "own.crt").read_text() == "certificate"


def test_settings_that_name_the_old_directory_are_put_aside(filled: Line, target: Path, tmp_path: Path) -> None:
    settings, there = filled.folder / FILE_NAME, tmp_path / "there"
    settings.write_text(f'[engine]\nroot = "{filled.folder}"\n')
    filled.done("backup", str(target))
    restored = filled.done("restore", str(target), "--data", str(there), "--json").json
    assert "another data directory" in restored["settings_aside"]
    assert not (there / FILE_NAME).exists()
    assert (there / f"{FILE_NAME}.from-backup").read_text() == settings.read_text()
    # In the same place they are right as they are.
    shutil.rmtree(filled.folder)
    restored = filled.done("restore", str(target), "--json").json
    assert restored["settings_aside"] == ""
    assert settings.exists()
    filled.done("audit", "verify")


def test_with_a_registry_behind_only_the_records_are_backed_up(furnished: Line, target: Path, tmp_path: Path) -> None:
    upstream = '[engine]\nkind = "upstream"\nurl = "http://127.0.0.1:1"\n'
    (furnished.folder / FILE_NAME).write_text(upstream)
    said = furnished.done("backup", str(target)).out
    assert "back up its storage by its own means" in said
    assert blobs_in(target) == {}
    there = elsewhere(furnished, tmp_path / "there")
    restored = furnished.done("restore", str(target), "--data", str(there.folder)).out
    assert "The registry behind kept the content" in restored
    assert there.done("tag", "list", "gallery/ui", "--json").json


def test_postgresql_is_backed_up_and_restored_into_either_database(
    line: Line, volume: WrittenVolume, target: Path, tmp_path: Path, new_postgres_database: Callable[[], str]
) -> None:
    first, second = tmp_path / "first.url", tmp_path / "second.url"
    third = tmp_path / "third.url"
    for file in (first, second, third):
        file.touch(mode=0o600)
        file.write_text(new_postgres_database() + "\n")
    shutil.rmtree(line.folder)
    line.folder.mkdir()
    (line.folder / FILE_NAME).write_text(f'[database]\nurl_file = "{first}"\n')
    initialise(Settings.for_data(line.folder, {}))
    line.done("user", "add", "writer")
    push(line, volume, "v1", b"one", b"two")
    taken = line.done("backup", str(target), "--json").json
    assert (taken["damaged"], taken["outside"], taken["blobs"]["copied"]) == ([], [str(first)], 3)

    into_file = elsewhere(line, tmp_path / "into-file")
    restored = line.done("restore", str(target), "--data", str(into_file.folder), "--json").json
    assert restored["settings_aside"] == "they name another database"
    again = elsewhere(line, tmp_path / "again")
    words = ("restore", str(target), "--data", str(again.folder), "--database-url-file")
    assert line(*words, str(first)).status == 4
    assert "already" in refused(line(*words, str(first)))
    restored = line.done(*words, str(second), "--json").json
    assert restored["settings_aside"] == "they name another database"
    assert str(second) in (again.folder / FILE_NAME).read_text()
    assert not (again.folder / "gateway.db").exists()
    for there in (into_file, again):
        there.done("audit", "verify")
        assert there.done("user", "list", "--json").json == line.done("user", "list", "--json").json
        assert [row["name"] for row in there.done("tag", "list", APP, "--json").json] == ["v1"]
        assert blobs_in(there.folder) == blobs_in(line.folder)
        # Ids go on, and so does the chain.
        there.done("project", "add", "another")
        there.done("audit", "verify")
    # What was restored from a file goes into PostgreSQL as well.
    into_file.done("backup", str(tmp_path / "of-file"))
    last = elsewhere(line, tmp_path / "last")
    words = ("restore", str(tmp_path / "of-file"), "--data", str(last.folder), "--database-url-file", str(third))
    line.done(*words)
    last.done("project", "add", "garden")
    last.done("audit", "verify")


def test_a_role_that_only_serves_can_back_up_and_serves_what_is_restored(
    line: Line,
    target: Path,
    tmp_path: Path,
    postgres_server: PostgresServer,
    new_postgres_database: Callable[[], str],
) -> None:
    owner, serving = tmp_path / "owner.url", tmp_path / "serving.url"
    url = new_postgres_database()
    for file, text in ((owner, url), (serving, postgres_server.create_role(url))):
        file.touch(mode=0o600)
        file.write_text(text)
    shutil.rmtree(line.folder)
    line.folder.mkdir()
    settings = f'[database]\nurl_file = "{serving}"\nmigrate_url_file = "{owner}"\n'
    (line.folder / FILE_NAME).write_text(settings)
    initialise(Settings.for_data(line.folder, {}))
    line.done("project", "add", "gallery")
    line.done("backup", str(target))
    # The same database, empty again, in the same place.
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
            "GRANT USAGE ON SCHEMA public TO PUBLIC",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    shutil.rmtree(line.folder)
    restored = line.done("restore", str(target), "--database-url-file", str(owner), "--json").json
    assert (restored["settings_aside"], restored["missing"]) == ("", [])
    assert (line.folder / FILE_NAME).read_text() == settings
    line.done("project", "add", "garden")
    line.done("audit", "verify")


# interruptions


KILLED = 9
POINTS = ("fsync", "rename", "mkdir", "open", "unlink", "rmdir", "copy_file_range", "ftruncate")


def killed_at(point: int, *words: str) -> bool:
    """Runs a command in a process of its own, which dies at its *point*-th step on the disk; whether it did die."""
    child = os.fork()
    if not child:
        left = [point]

        def dying(step: Any) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] <= 0:
                    os._exit(KILLED)
                return step(*arguments, **named)

            return call

        status = 70
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            for name in POINTS:
                setattr(os, name, dying(getattr(os, name)))
            status = run(list(words))
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    assert code in {0, KILLED}, code
    return code == KILLED


def deaths(stride: int, *words: str) -> Iterator[int]:
    """The steps at which a command can die, one in *stride* of them, each time after it did."""
    point = 1
    while killed_at(point, *words):
        yield point
        point += stride


#: Every step where there is time for it.
STRIDES = (3, pytest.param(1, marks=pytest.mark.long))


def require_whole(snapshot: Path) -> None:
    inventory = json.loads((snapshot / "inventory.json").read_text())
    for name, digest in inventory["files"].items():
        assert hashlib.sha256((snapshot / name).read_bytes()).hexdigest() == digest
    for row in (snapshot / "blobs.txt").read_text().splitlines():
        digest = row.split()[0][7:]
        content = (snapshot.parent.parent / "blobs" / "sha256" / digest[:2] / digest).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


@pytest.mark.parametrize("stride", STRIDES)
def test_a_backup_that_is_killed_anywhere_leaves_only_whole_ones(
    filled: Line, target: Path, tmp_path: Path, stride: int
) -> None:
    died = 0
    for point in deaths(stride, "--data", str(filled.folder), "backup", str(target), "--keep", "2"):
        died = point
        if (target / "snapshots").exists():
            for snapshot in snapshots(target):
                require_whole(snapshot)
    assert died > 20
    filled.done("audit", "verify")
    filled.done("backup", str(target), "--keep", "2")
    assert list((target / "incoming").iterdir()) == []
    filled.done("restore", str(target), "--data", str(tmp_path / "there"))


@pytest.mark.parametrize("stride", STRIDES)
def test_a_restore_that_is_killed_anywhere_is_done_or_can_be_done_again(
    filled: Line, target: Path, tmp_path: Path, stride: int
) -> None:
    filled.done("backup", str(target))
    died = 0
    there = elsewhere(filled, tmp_path / "there")
    words = ("restore", str(target), "--data", str(there.folder))
    for point in deaths(stride, *words):
        died = point
        again = filled(*words)
        if again.status != 0:
            assert "is not empty" in refused(again)
            # Either it is all there, or nothing that could be taken for a gateway.
            verified = there("audit", "verify")
            assert verified.status == 0 or "restore it from the backup" in refused(verified)
        if there.folder.exists():
            shutil.rmtree(there.folder)
    assert died > 20


# a trail that tells of more


def put_back(line: Line, tmp_path: Path) -> None:
    """A fail-over to a replica that was a moment behind: acknowledged acts are gone, and the next event tells so."""
    older = tmp_path / "older.db"
    shutil.copyfile(line.folder / "gateway.db", older)
    line.done("project", "add", "lost")
    for name in ("gateway.db-wal", "gateway.db-shm"):
        (line.folder / name).unlink(missing_ok=True)
    shutil.copyfile(older, line.folder / "gateway.db")
    line.done("project", "add", "after")


def projected(folder: Path) -> None:
    """Lets the search entries reach the trail's end."""
    database = Database.open(f"sqlite:///{folder / 'gateway.db'}", folder)
    with database.lock(), database.writer() as connection:
        while project_tail(database, connection):
            pass
    database.close()


def edited(folder: Path, *statements: str) -> None:
    """Changes the records as somebody would who owns the database."""
    with closing(sqlite3.connect(folder / "gateway.db")) as database, database:
        database.execute("DROP TRIGGER IF EXISTS events_keep_update")
        for statement in statements:
            database.execute(statement)


def test_a_trail_that_tells_of_an_edited_end_is_backed_up_and_restored_and_tells_it_still(
    filled: Line, target: Path, tmp_path: Path
) -> None:
    put_back(filled, tmp_path)
    told = filled("audit", "verify", "--json").json["fault"]
    assert "edited before it" in told
    taken = filled.done("backup", str(target), "--json").json
    assert (taken["restorable"], taken["fault"]) == (True, told)
    assert filled.events("--kind", "storage.backup.ended")[0]["detail"]["fault"] == told
    there = elsewhere(filled, tmp_path / "there")
    assert filled.done("restore", str(target), "--data", str(there.folder), "--json").json["fault"] == told
    assert there.events("--kind", "storage.restore")[0]["detail"]["fault"] == told
    assert there("audit", "verify", "--json").json["fault"] == told
    assert told in filled.done("backup", str(target)).err
    assert told in filled.done("restore", str(target), "--data", str(tmp_path / "again")).err


def test_search_entries_that_were_edited_are_made_anew_by_a_restore(filled: Line, target: Path, tmp_path: Path) -> None:
    projected(filled.folder)
    edited(
        filled.folder,
        "DELETE FROM event_index WHERE seq = 2",
        "UPDATE event_index SET principal = 'user:9' WHERE seq = 3",
        "INSERT INTO event_index SELECT 1000000, time, kind, outcome, principal, project, repository, digest, address "
        "FROM event_index WHERE seq = 1",
    )
    assert filled("audit", "verify").status == 1
    assert filled.done("backup", str(target), "--json").json["fault"]
    there = elsewhere(filled, tmp_path / "there")
    restored = filled.done("restore", str(target), "--data", str(there.folder))
    assert "made anew" in restored.out
    assert there.done("audit", "verify").status == 0
    # Those after the last entry that was right were taken for counted.
    there("check", "--repair")
    assert there.done("check").status == 0


def test_a_backup_that_could_not_be_restored_says_so_and_takes_no_others_place(
    filled: Line, target: Path, tmp_path: Path
) -> None:
    filled.done("backup", str(target))
    edited(filled.folder, "UPDATE events SET body = replace(body, 'operator', 'stranger') WHERE seq = 3")
    taken = filled("backup", str(target), "--keep", "1", "--json")
    assert (taken.status, taken.json["restorable"]) == (1, False)
    assert "event 3 was edited" in taken.json["fault"]
    said = filled("backup", str(target), "--keep", "1")
    assert said.status == 1
    assert "cannot be restored" in said.err
    first, *others = snapshots(target)
    assert len(others) == 2
    assert "event 3 was edited" in refused(filled("restore", str(target), "--data", str(tmp_path / "there")))
    filled.done("restore", str(first), "--data", str(tmp_path / "there"))
    for snapshot in others:
        assert sorted(path.name for path in snapshot.iterdir()) == sorted(path.name for path in first.iterdir())


def test_what_is_backed_up_after_the_clock_was_put_back_is_the_newest_all_the_same(
    filled: Line, target: Path, tmp_path: Path
) -> None:
    first = Path(filled.done("backup", str(target), "--json").json["snapshot"])
    ahead = first.with_name("29990101T000000Z")
    first.rename(ahead)
    filled.done("project", "add", "later")
    said = filled.done("backup", str(target), "--json").json
    assert (said["ahead"], Path(said["snapshot"]).name) == (str(ahead), "29990101T000001Z")
    warned = filled.done("backup", str(target), "--keep", "2")
    assert "29990101T000001Z is of a time that is yet to come" in warned.err
    assert [path.name for path in snapshots(target)] == ["29990101T000001Z", "29990101T000002Z"]
    there = elsewhere(filled, tmp_path / "there")
    filled.done("restore", str(target), "--data", str(there.folder))
    there.done("project", "show", "later")


def test_a_snapshot_with_the_last_name_there_is_is_told_of_before_anything_is_copied(
    filled: Line, target: Path
) -> None:
    first = Path(filled.done("backup", str(target), "--json").json["snapshot"])
    last = first.with_name("99991231T235959Z")
    first.rename(last)
    assert f"named after {last}," in refused(filled("backup", str(target)))
    assert snapshots(target) == [last]
    last.rename(first)
    filled.done("backup", str(target))


def test_several_backups_of_a_second_have_names_that_follow_one_another(filled: Line, target: Path) -> None:
    made = [Path(filled.done("backup", str(target), "--json").json["snapshot"]) for _ in range(3)]
    assert made == snapshots(target)
    assert filled.done("backup", str(target), "--json").json["ahead"] is None
