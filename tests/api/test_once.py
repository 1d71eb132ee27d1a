"""A request repeated under its key: done once, answered the same, by every process, to nobody else."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import answers
from gateway.answers import Answers
from gateway.api.application import Api
from gateway.api.routes import PREFIX, TABLE
from gateway.errors import Unavailable
from tests.api.desk import Desk

USERS = f"{PREFIX}/users"


def test_a_repeated_request_is_answered_the_same_and_done_once(each_desk: Desk) -> None:
    desk, key = each_desk, {"Idempotency-Key": "a-first-user"}
    first = desk.ask("root", "POST", USERS, {"name": "once"}, headers=key)
    again = desk.ask("root", "POST", USERS, {"name": "once"}, headers=key)
    assert first.status == again.status == 201
    assert first.body == again.body
    assert first.headers["location"] == again.headers["location"]
    assert [event["kind"] for event in desk.events_of(again)] == ["account.add"]
    assert desk.events_of(again)[0]["detail"] == {"repeated": True}
    assert desk.ask("root", "POST", USERS, {"name": "once"}).status == 409


def test_a_rotation_is_not_done_twice_by_another_process(desk: Desk) -> None:
    name = desk.project()
    path = f"{PREFIX}/projects/{name}/robots"
    desk.ask("root", "POST", path, {"name": "ci", "role": "puller"})
    other = replace(desk, api=Api(replace(desk.api.parts, kept=Answers(desk.world.house.data / "answers", b"k" * 32))))
    key = {"Idempotency-Key": "rotation-1"}
    first = desk.ask("root", "POST", f"{path}/ci/rotate", {}, headers=key)
    assert other.ask("root", "POST", f"{path}/ci/rotate", {}, headers=key).body == first.body
    assert other.ask("root", "POST", f"{path}/ci/rotate", {}, headers={"Idempotency-Key": "2"}).body != first.body


def test_a_key_is_for_one_request_of_one_account(desk: Desk) -> None:
    key = {"Idempotency-Key": "mine"}
    assert desk.ask("root", "POST", USERS, {"name": "keyed"}, headers=key).status == 201
    other_body = desk.ask("root", "POST", USERS, {"name": "keyed2"}, headers=key)
    assert (other_body.status, "another body" in other_body.problem["detail"]) == (409, True)
    assert desk.ask("alice", "POST", USERS, {"name": "keyed"}, headers=key).status == 403
    for wrong in ("", " ", "a b", "x" * 129, "ü"):
        answer = desk.ask("root", "POST", USERS, {"name": "wrong1"}, headers={"Idempotency-Key": wrong})
        assert (answer.status, answer.problem["field"]) == (400, "Idempotency-Key")


def test_what_was_refused_may_be_tried_again_under_its_key(desk: Desk) -> None:
    key = {"Idempotency-Key": "again"}
    assert desk.ask("root", "POST", USERS, {"name": "alice"}, headers=key).status == 409
    assert desk.ask("root", "POST", USERS, {"name": "alice2"}, headers=key).status == 201


def test_what_was_kept_is_told_within_the_right_only(desk: Desk) -> None:
    name, user = desk.project(), desk.user()
    desk.grant(user, "owner", name)
    path, key = f"{PREFIX}/projects/{name}/robots", {"Idempotency-Key": "owned"}
    assert desk.ask(user, "POST", path, {"name": "ci", "role": "puller"}, headers=key).status == 201
    assert desk.ask(user, "POST", path, {"name": "ci", "role": "puller"}, headers=key).status == 201
    desk.ask("root", "DELETE", f"{PREFIX}/grants/{user}/{name}")
    gone = desk.ask(user, "POST", path, {"name": "ci", "role": "puller"}, headers=key)
    assert (gone.status, b"gwr_" in gone.body) == (404, False)


def test_of_many_at_once_one_acts_and_the_others_are_told_to_wait_or_what_came_of_it(desk: Desk) -> None:
    async def race() -> list[int]:
        headers = {"Idempotency-Key": "a-race"}
        asked = [desk.asking("root", "POST", USERS, {"name": "raced"}, headers=headers) for _ in range(8)]
        return [answer.status for answer in await asyncio.gather(*asked)]

    statuses = asyncio.run(race())
    assert statuses.count(201) >= 1
    assert set(statuses) <= {201, 409}
    made = [
        event for event in desk.world.house.records(kind="account.add") if event.get("detail") == {"account": "raced"}
    ]
    assert len(made) == 1


def test_what_broke_off_is_not_done_again_unseen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"Idempotency-Key": "broken"}
    with monkeypatch.context() as patched:

        def fails(*_: object) -> None:
            raise OSError("the disk")

        patched.setattr(Answers, "keep", fails)
        assert desk.ask("root", "POST", USERS, {"name": "half"}, headers=key).status == 500
    told = desk.ask("root", "POST", USERS, {"name": "half"}, headers=key)
    assert (told.status, "broke off" in told.problem["detail"]) == (409, True)


def test_every_row_that_shows_a_secret_takes_a_key() -> None:
    showing = {(row.method, row.path) for row in TABLE if getattr(row.answer, "__name__", "") == "Secret"}
    assert showing == {(row.method, row.path) for row in TABLE if row.once}


def test_no_secret_can_be_read_from_the_files(tmp_path: Path) -> None:
    kept = Answers(tmp_path / "answers", b"k" * 32)
    assert kept.begin(b"a name") is None
    assert kept.begin(b"a name") == b""
    kept.keep(b"a name", b"the secret")
    assert kept.begin(b"a name") == b"the secret"
    [file] = (tmp_path / "answers").iterdir()
    assert b"secret" not in file.read_bytes()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert Answers(tmp_path / "answers", b"x" * 32).begin(b"a name") is None, "another secret finds nothing"
    file.write_bytes(file.read_bytes()[:-1])
    assert kept.begin(b"a name") == b"", "what was damaged is not told, nor done again"


def test_answers_are_forgotten_after_a_day_and_are_not_without_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "answers"
    Answers(folder, b"k" * 32).begin(b"old")
    [file] = folder.iterdir()
    os.utime(file, (time.time(), time.time() - answers.KEPT_SECONDS - 60))
    monkeypatch.setattr(answers, "MOST", 2)
    kept = Answers(folder, b"k" * 32)
    assert kept.begin(b"old") is None
    assert kept.begin(b"new") is None
    with pytest.raises(Unavailable):
        kept.begin(b"one too many")
    assert kept.begin(b"new") == b"", "what was begun is told when nothing new is"
    kept.drop(b"new")
    assert kept.begin(b"another") is None, "what was dropped takes no room"


def test_one_account_cannot_take_all_the_room_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_EACH", 3)
    kept, other = (Answers(tmp_path / "answers", b"k" * 32) for _ in range(2))
    for number in range(20):
        name = b"refused %d" % number
        assert kept.begin(name, b"mallory") is None
        kept.drop(name, b"mallory")
    assert [kept.begin(b"%d" % number, b"mallory") for number in range(3)] == [None] * 3
    for each in (kept, other):
        with pytest.raises(Unavailable):
            each.begin(b"one too many", b"mallory")
        assert each.begin(b"1", b"mallory") == b""
    assert kept.begin(b"mine", b"alice") is None
