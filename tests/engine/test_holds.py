"""Holds: an intent is its holder's until that lets go of it or dies, and no file is left of either."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.engine.upstream.holds import Hold, Holds
from gateway.errors import Unavailable

ID = "3f1c1d2e-8f6f-4b0e-9c57-0d4d5ef4a3b1"
HOLDER = """
import sys
from pathlib import Path
from gateway.engine.upstream.holds import Holds

held = Holds(Path(sys.argv[1])).take(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def files(data: Path) -> list[str]:
    return sorted(os.listdir(data / "intents"))


def test_an_intent_is_held_until_it_is_released_and_leaves_no_file(tmp_path: Path) -> None:
    here, there = Holds(tmp_path), Holds(tmp_path)
    assert there.held() == frozenset()
    hold = here.take(ID)
    other = here.take("another")
    for _ in range(2):
        assert here.held() == there.held() == {ID, "another"}
    hold.release()
    hold.release()
    assert there.held() == {"another"}
    other.release()
    assert files(tmp_path) == []


def test_a_hold_that_is_dropped_is_over(tmp_path: Path) -> None:
    Holds(tmp_path).take(ID)
    assert Holds(tmp_path).held() == frozenset()
    assert files(tmp_path) == []


def test_what_a_killed_process_held_is_held_no_more_and_its_file_goes_when_somebody_looks(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), ID], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert Holds(tmp_path).held() == {ID}
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert files(tmp_path) == [f"{ID}.0"]
    assert Holds(tmp_path).held() == frozenset()
    assert files(tmp_path) == []


def test_who_looks_neither_keeps_an_intent_from_being_held_nor_is_taken_for_its_holder(tmp_path: Path) -> None:
    holds = Holds(tmp_path)
    holds.take(ID).release()
    left = os.open(tmp_path / "intents" / f"{ID}.0", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(left, fcntl.LOCK_SH)
        hold = holds.take(ID)
        assert holds.held() == {ID}
        hold.release()
        assert holds.held() == frozenset()
    finally:
        os.close(left)
    assert files(tmp_path) == []


def test_who_removes_what_was_left_does_not_remove_what_is_held_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = Holds(tmp_path)
    holds.take(ID).release()
    (tmp_path / "intents" / f"{ID}.0").touch()
    taken: list[Hold] = []
    unlink = Path.unlink

    def unlink_later(path: Path, missing_ok: bool = False) -> None:
        monkeypatch.undo()
        taken.append(holds.take(ID))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_later)
    assert holds.held() == frozenset()

    assert holds.held() == {ID}
    taken[0].release()
    assert files(tmp_path) == []


def test_what_cannot_be_told_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "intents" / ID).mkdir(parents=True)
    assert Holds(tmp_path).held() == {ID}
    (tmp_path / "intents" / ID).rmdir()
    (tmp_path / "intents").rmdir()
    (tmp_path / "intents").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot read"):
        Holds(tmp_path).held()


def test_many_that_hold_and_look_at_once_lose_no_hold(tmp_path: Path) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            Holds(tmp_path).held()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        holds = Holds(tmp_path)
        for number in range(500):
            hold = holds.take(f"{number}")
            assert f"{number}" in holds.held()
            hold.release()
    finally:
        over.set()
        for looker in lookers:
            looker.join()
    assert files(tmp_path) == []


def test_holds_are_their_owners_alone(tmp_path: Path) -> None:
    hold = Holds(tmp_path).take(ID)
    assert (tmp_path / "intents").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "intents" / f"{ID}.0").stat().st_mode & 0o777 == 0o600
    hold.release()


def test_where_nothing_can_be_written_nothing_is_held(tmp_path: Path) -> None:
    (tmp_path / "intents").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot write"):
        Holds(tmp_path).take(ID)


def test_what_is_taken_here_is_told_of_in_order_and_when_it_is_released(tmp_path: Path) -> None:
    holds = Holds(tmp_path)
    first, second = holds.take("first"), holds.take("second")
    other = Holds(tmp_path).take("elsewhere")
    one, two = holds.own({"second", "first", "elsewhere"})
    assert not one.cancel(), "others wait for it as well"
    assert holds.own({"second"}) == [two]
    first.release()
    assert one.done()
    assert holds.own({"first", "second"}) == [two]
    del second
    assert two.done()
    other.release()
    assert files(tmp_path) == []
