"""`gateway access`: who may do what, on the command line."""

from __future__ import annotations

from tests.cli.line import Line


def test_what_an_account_can_do_is_listed_with_what_gives_it(furnished: Line) -> None:
    rows = furnished.done("access", "of", "reader", "--json").json
    assert [(row["reach"], row["actions"], row["why"], row["counts"]) for row in rows] == [
        ("gallery/ui*", ["pull"], "puller on gallery/ui*", True),
        ("every public project", ["pull"], "public project", True),
    ]
    assert "gallery/ui*" in furnished.done("access", "of", "reader").out


def test_on_one_repository_every_action_is_told(furnished: Line) -> None:
    rows = furnished.done("access", "of", "reader", "gallery/api", "--json").json
    assert {row["action"]: row["may"] for row in rows if row["action"]} == dict.fromkeys(
        ("pull", "push", "delete", "manage", "review"), False
    )
    assert rows[-1]["why"] == "puller on gallery/ui*: it does not cover gallery/api"


def test_who_can_do_something_is_listed_with_why(furnished: Line) -> None:
    furnished.done("user", "add", "boss", "--admin")
    rows = furnished.done("access", "who", "gallery/ui", "--can", "push", "--json").json
    told = {row["principal"]: row["why"] for row in rows}
    assert told["writer"] == told["gallery+ci"] == "pusher on gallery"
    assert told["boss"] == "administrator"
    assert "reader" not in told


def test_a_read_only_project_lets_nobody_push(furnished: Line) -> None:
    furnished.done("project", "set", "gallery", "--read-only", "stocktaking")
    assert furnished.done("access", "who", "gallery/ui", "--can", "push", "--json").json == []
    (row,) = [
        row for row in furnished.done("access", "of", "writer", "gallery/ui", "--json").json if row["action"] == "push"
    ]
    assert (row["may"], "stocktaking" in row["why"]) == (False, True)


def test_what_is_wrong_is_one_line(furnished: Line) -> None:
    assert furnished("access", "who", "gallery/ui", "--can", "fly").status == 2
    assert furnished("access", "who", "nowhere/ui").status == 3
    assert furnished("access", "of", "nobody").status == 3
