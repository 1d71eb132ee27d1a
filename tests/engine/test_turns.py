"""Turns: one at a time, and a note that is a hint."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from gateway.engine.upstream.turns import Stand, Turns
from gateway.errors import Unavailable, UploadBusy

ID = "3f1c1d2e-8f6f-4b0e-9c57-0d4d5ef4a3b1"
FAR = Stand(70_000, "/v2/gallery/ui/blobs/uploads/1?_state=far", "sha256:1", certain=False)
NEAR = Stand(7, "/v2/gallery/ui/blobs/uploads/1?_state=n", "")


def test_a_turn_is_one_requests_alone_until_it_is_released(tmp_path: Path) -> None:
    here, there = Turns(tmp_path), Turns(tmp_path)
    turn = here.take(ID)
    for turns in (here, there):
        with pytest.raises(UploadBusy):
            turns.take(ID)
    turn.release()
    turn.release()
    there.take(ID).release()


def test_a_turn_that_is_dropped_is_over(tmp_path: Path) -> None:
    turns = Turns(tmp_path)
    turns.take(ID)
    turns.take(ID).release()


def test_a_turn_that_is_taken_just_as_the_upload_ends_is_of_its_own_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Turns(tmp_path), Turns(tmp_path)
    ending = here.take(ID)
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        # The file was opened; now, before it is locked, the upload comes to its end.
        ending.discard()
        flock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", late)
    turn = there.take(ID)
    turn.note(NEAR)

    assert here.look(ID) == NEAR
    with pytest.raises(UploadBusy):
        here.take(ID)


def test_the_newest_note_is_read_with_a_turn_and_without(tmp_path: Path) -> None:
    turns = Turns(tmp_path)
    assert turns.look(ID) is None
    turn = turns.take(ID)
    assert turn.read() is None
    for stand in (FAR, NEAR, FAR):
        turn.note(stand)
        assert turn.read() == turns.look(ID) == stand
    turn.release()
    assert turns.take(ID).read() == FAR


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{", b"[]", b"7", b'{"offset": 7}\n', b'{"strange": 1}\n', b"\xff\xfe"]
)
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    turns = Turns(tmp_path)
    turns.take(ID).release()
    (tmp_path / "uploads" / f"{ID}.lock").write_bytes(content)
    assert turns.look(ID) is None
    assert turns.take(ID).read() is None


def test_a_note_goes_with_its_upload(tmp_path: Path) -> None:
    turns = Turns(tmp_path)
    turn = turns.take(ID)
    turn.note(NEAR)
    turn.discard()
    turn.discard()
    assert list((tmp_path / "uploads").iterdir()) == []
    assert turns.take(ID).read() is None


def test_notes_are_their_owners_alone(tmp_path: Path) -> None:
    turns = Turns(tmp_path)
    turns.take(ID).note(NEAR)
    assert (tmp_path / "uploads").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "uploads" / f"{ID}.lock").stat().st_mode & 0o777 == 0o600


def test_where_nothing_can_be_written_no_turn_is_given(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot write"):
        Turns(tmp_path).take(ID)
