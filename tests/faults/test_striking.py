"""A gateway that is struck keeps what it acknowledged: the harness in short, and whether it would find a loss."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.faults.harness import loops
from tests.faults.harness.commands import adding_user
from tests.faults.harness.figures import Figures
from tests.faults.harness.inject.faulty_shadow import Shadow
from tests.faults.harness.journal import GONE, Acknowledged, Noun, Thing
from tests.faults.harness.operations import HERE, REQUESTS, begin, content_of, finish, push_blob, push_image, sha256
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.report import BEGIN, DOCUMENT, END, table
from tests.faults.harness.scenes_content import blob_file
from tests.faults.harness.site import Site, Unanswered, running_site
from tests.faults.harness.striking import Mode, Part, Strike

BY_NAME = {operation.name: operation for operation in REQUESTS}
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_site(power=True) as site:
        yield site


def test_a_blob_that_is_struck_between_its_name_and_its_commit_is_pushed_again_and_nothing_else_is_lost(
    site: Site,
) -> None:
    figures = Figures()
    act = BY_NAME["finish an upload"].prepare(site, next(_NUMBERS))
    kinds = [kind for kind, _, _ in loops.trace(site, site.server, act)]
    assert {"sync", "rename", "commit"} <= set(kinds)
    each = loops.Pass("kill -9", lambda at: Strike(Mode.KILL, at, Part.BEFORE, ("commit",)))
    assert loops.run(site, BY_NAME["finish an upload"], each, figures, numbers=_NUMBERS, only=[1]) == 1
    assert figures.problems == []
    assert figures.lines["kill -9"].injected == 1


def test_a_manifest_whose_commit_was_the_last_thing_before_the_power_went_is_there(site: Site) -> None:
    figures = Figures()
    each = loops.Pass("loss of power", lambda at: Strike(Mode.KILL, at, Part.AFTER, ("commit",)), power=True)
    assert loops.run(site, BY_NAME["push a manifest"], each, figures, numbers=_NUMBERS, only=[1]) == 1
    assert figures.problems == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_write_that_the_disk_refuses_is_not_acknowledged_and_comes_through_afterwards(
    site: Site, number: int
) -> None:
    figures = Figures()
    for kind in ("write", "sync", "rename", "commit"):
        act = BY_NAME["finish an upload with its bytes"].prepare(site, next(_NUMBERS))
        site.server.arm(Strike(Mode.ERROR, kinds=(kind,), errno=number))
        with pytest.raises(Unanswered):
            act(again=False)
        assert [struck for struck, _, _ in site.server.struck()] == [kind]
        site.server.arm()
        act(again=True)
    Oracle(site, figures, "errors").replay()
    assert figures.problems == []


def test_a_command_that_is_killed_is_not_acknowledged_and_can_be_repeated(site: Site) -> None:
    command = adding_user(f"user-{next(_NUMBERS)}")
    site.commands.arm(Strike(Mode.KILL, kinds=("commit",)))
    with pytest.raises(Unanswered):
        command.run(site, again=False)
    assert [kind for kind, _, _ in site.commands.struck()] == ["commit"]
    site.commands.arm()
    # Nothing was done, or this would be a conflict.
    command.run(site, again=False)


# whether the harness would find what it looks for


def test_the_oracle_finds_what_is_lost_what_is_back_and_what_nobody_told(site: Site) -> None:
    push_image(site, next(_NUMBERS), "there")
    wrong = {
        "is gone, not": (Thing(Noun.BLOB, HERE, sha256(b"never pushed")), sha256(b"never pushed")),
        "not gone": (Thing(Noun.TAG, HERE, "there"), GONE),
    }
    before, acts = dict(site.journal.values), list(site.journal.acts)
    for text, (thing, value) in wrong.items():
        site.journal.values = {thing: frozenset({value})}
        figures = Figures()
        Oracle(site, figures, "planted").replay()
        assert [text in problem for problem in figures.problems] == [True], text
        assert figures.lines["planted"].lost == 1
    site.journal.values = before
    # All that was acknowledged here so far, and two acts that never were.
    assert len(acts) > 10
    site.journal.acts = [*acts, Acknowledged("blob.push", "0" * 32), Acknowledged("account.add", word="nobody")]
    figures = Figures()
    Oracle(site, figures, "planted")._audit()
    site.journal.acts = acts
    assert figures.lines["planted"].unaudited == 2


def test_a_folder_that_is_never_synced_and_a_damaged_blob_are_found(site: Site) -> None:
    """A store that forgets to sync the folder of a blob loses it: unseen, the other tests would say nothing."""
    damaged, unsynced = content_of(next(_NUMBERS)), content_of(next(_NUMBERS))
    push_blob(site, damaged)
    site.server.arm(lie="directories")
    push_blob(site, unsynced)
    site.down()
    site.lose_power()
    file = blob_file(site, damaged)
    file.write_bytes(b"x" + damaged[1:])
    site.up()
    figures = Figures()
    Oracle(site, figures, "planted").check()
    assert sorted(problem.split()[2] for problem in figures.problems) == ["blob_bytes", "blob_missing"]
    for content in (damaged, unsynced):
        finish(site, begin(site), content, content)
    figures = Figures()
    Oracle(site, figures, "healed").replay()
    assert figures.problems == []


def test_a_shadow_gives_back_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    root, shadow = tmp_path / "data", Shadow(tmp_path / "data", tmp_path / "shadow")
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "old").write_bytes(b"old")
    shadow.settle()
    (root / "folder" / "old").unlink()
    for name in ("synced", "named", "unnamed"):
        (root / "folder" / name).write_bytes(b"new")

    def sync(path: str, flags: int = os.O_RDONLY) -> None:
        descriptor = os.open(path, flags)
        shadow.keep(shadow.seen(descriptor, path))
        os.close(descriptor)

    sync(str(root / "folder" / "synced"))
    (root / "folder" / "unnamed").unlink()
    sync(str(root / "folder"))
    (root / "folder" / "unnamed").write_bytes(b"new")
    sync(str(root / "folder" / "unnamed"))
    shadow.lose_power()
    left = {file.name: file.read_bytes() for file in (root / "folder").iterdir()}
    assert left == {"synced": b"new", "named": b""}


def test_the_table_has_its_place_in_the_document() -> None:
    whole = DOCUMENT.read_text(encoding="utf-8")
    assert whole.index(BEGIN) < whole.index(END)
    figures = Figures()
    with figures.line("kill -9") as line:
        line.injected, line.operations = 3, 7
    assert "| kill -9 | 3 | 7 | 0 | 0 | 0 | 0.0 s |" in table(figures)
    assert "| **all** | **3** | **7** |" in table(figures)
