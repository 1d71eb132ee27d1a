"""The secret of a data directory: guarded, whole, and never of two minds."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.secrets import (
    OFFLINE_PREFIX,
    ROBOT_PREFIX,
    Secrets,
    keyed_hash,
    new_offline_token,
    new_robot_secret,
    well_formed,
)
from gateway.errors import Invalid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_created_secret_is_the_owners_alone(folder: Path) -> None:
    Secrets.create(folder)

    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len((folder / "secret").read_bytes()) == 32
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_a_narrow_mask_does_not_widen_a_secret(folder: Path) -> None:
    before = os.umask(0)
    try:
        Secrets.create(folder)
    finally:
        os.umask(before)

    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600


def test_what_exists_is_kept(folder: Path) -> None:
    first = Secrets.create(folder)

    assert Secrets.create(folder).fingerprint() == first.fingerprint() == Secrets.load(folder).fingerprint()


def test_of_many_that_create_at_once_all_get_the_same_secret(folder: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        prints = set(threads.map(lambda _: Secrets.create(folder).fingerprint(), range(32)))

    assert len(prints) == 1
    assert [path.name for path in folder.iterdir()] == ["secret"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_secret_others_may_read_is_refused_with_the_remedy(folder: Path, mode: int) -> None:
    Secrets.create(folder)
    (folder / "secret").chmod(mode)

    with pytest.raises(Invalid, match="chmod 600"):
        Secrets.load(folder)


def test_a_folder_others_may_change_is_refused(folder: Path) -> None:
    Secrets.create(folder)
    folder.chmod(0o770)

    with pytest.raises(Invalid, match="chmod 700"):
        Secrets.load(folder)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_secret_of_another_length_is_refused(folder: Path, size: int) -> None:
    Secrets.create(folder)
    (folder / "secret").write_bytes(b"x" * size)

    with pytest.raises(Invalid, match="32 bytes"):
        Secrets.load(folder)


def test_a_missing_secret_is_refused_and_not_made(folder: Path) -> None:
    folder.mkdir(0o700)

    with pytest.raises(Invalid, match="missing"):
        Secrets.load(folder)
    assert not list(folder.iterdir())


def test_a_folder_in_the_secrets_place_is_refused(folder: Path) -> None:
    (folder / "secret").mkdir(0o700, parents=True)

    with pytest.raises(Invalid):
        Secrets.load(folder)


def test_every_purpose_has_a_key_of_its_own() -> None:
    secrets = Secrets(b"\1" * 32)
    keys = [secrets.robots, secrets.offline_tokens, secrets.signing_keys, secrets.trail, secrets.throttle]

    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 for key in keys)
    assert secrets.fingerprint() not in {key.hex()[:32] for key in keys}


def test_keys_are_the_same_in_every_process() -> None:
    assert Secrets(b"\1" * 32).robots == Secrets(b"\1" * 32).robots != Secrets(b"\2" * 32).robots
    # Pinned: another derivation would orphan every secret given out so far.
    assert Secrets(bytes(32)).fingerprint() == "b4cf033a619ce56f22934f05b0987f35"


def test_secrets_do_not_show_what_they_hold() -> None:
    assert repr(Secrets(b"k" * 32)) == "Secrets(***)"


def test_given_secrets_have_their_form_and_are_never_the_same() -> None:
    robots = {new_robot_secret() for _ in range(100)}

    assert len(robots) == 100
    assert all(len(text) == 53 and well_formed(text, ROBOT_PREFIX) for text in robots)
    assert not any(well_formed(text, OFFLINE_PREFIX) for text in robots)
    assert well_formed(new_offline_token(), OFFLINE_PREFIX)


@given(st.integers(0, 52), st.characters())
def test_a_mistyped_secret_is_noticed(position: int, letter: str) -> None:
    secret = new_robot_secret()
    mistyped = secret[:position] + letter + secret[position + 1 :]

    assert well_formed(mistyped, ROBOT_PREFIX) == (mistyped == secret)


@given(st.text())
def test_any_text_can_be_hashed_and_asked_about(text: str) -> None:
    assert len(keyed_hash(b"key", text)) == 64
    assert not well_formed(text, ROBOT_PREFIX)
    assert not well_formed(text + "\ud800\n", OFFLINE_PREFIX)
