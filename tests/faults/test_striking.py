"""A gateway that is struck keeps what it acknowledged: the harness in short, and whether it would find a loss."""

from __future__ import annotations

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
from tests.faults.harness.operations import HERE, REQUESTS, content_of, push_blob, push_image, sha256
from tests.faults.harness.oracle import Oracle
from tests.faults.harness.report import BEGIN, DOCUMENT, END, table
from tests.faults.harness.scenes_content import blob_file
from tests.faults.harness.site import Site, Unanswered, running_site
from tests.faults.harness.striking import CHANGES, Mode, Part, Strike

BY_NAME = {operation.name: operation for operation in REQUESTS}
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_site(power=True) as site:
        yield site


def struck(site: Site, name: str, strike: Strike) -> tuple[bool, list[tuple[str, str, str]], loops.Act]:
    """Whether a write was acknowledged though it was struck, what was struck, and the write."""
    act = BY_NAME[name].prepare(site, next(_NUMBERS))
    site.server.arm(strike)
    try:
        act(again=False)
        done = True
    except Unanswered:
        done = False
    found = site.server.struck()
    return done, found, act


def test_a_blob_that_was_acknowledged_survives_a_kill_and_one_that_was_not_can_be_pushed_again(site: Site) -> None:
    figures = Figures()
    act = BY_NAME["finish an upload"].prepare(site, next(_NUMBERS))
    steps = loops.trace(site, site.server, act)
    kinds = [kind for kind, _, _ in steps]
    assert {"sync", "rename", "commit"} <= set(kinds)
    # Before the file has its name, and between its name and the commit.
    for at in (kinds.index("rename") + 1, kinds.index("commit") + 1):
        each = loops.Pass("kill -9", lambda at: Strike(Mode.KILL, at, Part.BEFORE, CHANGES))
        assert loops.run(site, BY_NAME["finish an upload"], each, figures, numbers=_NUMBERS, only=[at]) == 1
    assert figures.problems == []
    assert figures.lines["kill -9"].injected == 2


def test_a_manifest_whose_commit_was_the_last_thing_before_the_power_went_is_there(site: Site) -> None:
    figures = Figures()
    each = loops.Pass("loss of power", lambda at: Strike(Mode.KILL, at, Part.AFTER, ("commit",)), power=True)
    assert loops.run(site, BY_NAME["push a manifest"], each, figures, numbers=_NUMBERS, only=[1]) == 1
    assert figures.problems == []


@pytest.mark.parametrize("number", [28, 5], ids=["ENOSPC", "EIO"])
def test_a_write_that_the_disk_refuses_is_not_acknowledged_and_comes_through_afterwards(
    site: Site, number: int
) -> None:
    for kinds in (("write",), ("sync",), ("rename",), ("commit",)):
        done, found, act = struck(
            site, "finish an upload with its bytes", Strike(Mode.ERROR, kinds=kinds, errno=number)
        )
        assert (done, len(found)) == (False, 1), kinds
        site.server.arm()
        act(again=True)
    figures = Figures()
    Oracle(site, figures, "errors").conclude()
    assert figures.problems == []
    assert figures.total().unaudited == 0


# whether the harness would find what it looks for


def test_a_folder_that_is_never_synced_is_found_by_a_loss_of_power(site: Site) -> None:
    """A store that forgets to sync the folder of a blob loses it: unseen, the other tests would say nothing."""
    site.server.arm(lie="directories")
    content = content_of(next(_NUMBERS))
    push_blob(site, content)
    site.down()
    site.lose_power()
    site.up()
    figures = Figures()
    oracle = Oracle(site, figures, "a lie")
    oracle.check()
    assert any("blob_missing" in problem for problem in figures.problems)
    push_blob(site, content)
    figures = Figures()
    Oracle(site, figures, "healed").conclude()
    assert figures.problems == []


def test_the_oracle_finds_what_is_lost_what_is_back_and_what_nobody_told(site: Site) -> None:
    push_image(site, next(_NUMBERS), "there")
    wrong = {
        "is gone, not": (Thing(Noun.BLOB, HERE, sha256(b"never pushed")), sha256(b"never pushed")),
        "not gone": (Thing(Noun.TAG, HERE, "there"), GONE),
        "account": (Thing(Noun.ACCOUNT, "", "nobody"), "there"),
    }
    before = dict(site.journal.values)
    for text, (thing, value) in wrong.items():
        site.journal.values = {**before, thing: frozenset({value})}
        figures = Figures()
        Oracle(site, figures, "planted").replay()
        assert [text in problem for problem in figures.problems] == [True], text
        assert figures.lines["planted"].lost == 1
    site.journal.values = before
    acts = list(site.journal.acts)
    site.journal.acts = [Acknowledged("blob.push", "0" * 32), Acknowledged("account.add", word="nobody")]
    figures = Figures()
    Oracle(site, figures, "planted")._audit()
    assert figures.lines["planted"].unaudited == 2
    site.journal.acts = acts


def test_the_oracle_finds_damage_on_the_disk(site: Site) -> None:
    content = content_of(next(_NUMBERS))
    push_blob(site, content)
    file = blob_file(site, content)
    file.write_bytes(b"x" + content[1:])
    figures = Figures()
    Oracle(site, figures, "planted").check()
    assert ["blob_bytes" in problem for problem in figures.problems] == [True]
    file.write_bytes(content)


def test_a_command_that_is_killed_is_found_not_acknowledged_and_can_be_repeated(site: Site) -> None:
    command = adding_user(f"user-{next(_NUMBERS)}")
    site.commands.arm(Strike(Mode.KILL, kinds=("commit",)))
    with pytest.raises(Unanswered):
        command.run(site, again=False)
    assert [kind for kind, _, _ in site.commands.struck()] == ["commit"]
    site.commands.arm()
    command.run(site, again=True)
    figures = Figures()
    Oracle(site, figures, "a command").replay()
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
