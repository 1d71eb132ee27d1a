"""Personal tokens, second factors, sessions and two secrets of a robot, on the command line."""

from __future__ import annotations

import pytest

from tests.cli.line import Line

PERSONAL = {"id", "user", "name", "actions", "projects", "created", "expires", "used"}


def test_a_token_is_issued_shown_once_listed_and_revoked(furnished: Line) -> None:
    words = ("--user", "writer", "--actions", "pull,push", "--project", "gallery", "--expires", "30d")
    made = furnished.done("token", "issue", "laptop", *words, "--json").json
    assert set(made) == {"id", "name", "token", "expires"}
    assert made["token"].startswith("gwp_")
    [row] = furnished.done("token", "list", "--personal", "--json").json
    assert set(row) == PERSONAL
    assert (row["user"], row["actions"], row["projects"], row["used"]) == (
        "writer",
        ["pull", "push"],
        ["gallery"],
        None,
    )
    assert made["token"] not in furnished.done("audit", "export").out
    said = furnished.done("token", "revoke", "--personal", str(made["id"]))
    assert said.out == f"Revoked personal token {made['id']} of writer, laptop.\n"
    assert furnished.done("token", "list", "--personal", "writer", "--json").json == []
    assert furnished("token", "revoke", "--personal", str(made["id"])).status == 3


def test_a_token_for_people_says_until_when(furnished: Line) -> None:
    lines = furnished.done("token", "issue", "laptop", "--user", "writer").out.splitlines()
    assert lines[0].startswith("Issued personal token 1 of writer, laptop, until 20")
    assert lines[1].startswith("Token, shown this once: gwp_")
    table = furnished.done("token", "list", "--personal").out.splitlines()
    assert table[0].split() == ["ID", "USER", "NAME", "ACTIONS", "PROJECTS", "EXPIRES", "USED"]
    assert table[1].split()[:5] == ["1", "writer", "laptop", "pull", "all"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("laptop", "--user", "nobody"), 3),
        (("laptop", "--user", "gallery/ci"), 2),
        (("laptop", "--user", "writer", "--actions", "own"), 2),
        (("laptop", "--user", "writer", "--project", "Gallery"), 2),
        (("laptop", "--user", "writer", "--expires", "400d"), 2),
        (("", "--user", "writer"), 2),
        (("laptop",), 2),
    ],
)
def test_wrong_words_issue_nothing_and_say_so_in_a_line(furnished: Line, words: tuple[str, ...], status: int) -> None:
    said = furnished("token", "issue", *words)
    assert said.status == status
    assert said.err.count("\n") == 1
    assert furnished.done("token", "list", "--personal", "--json").json == []


def test_all_tokens_of_a_user_go_with_one_word(furnished: Line) -> None:
    furnished.done("token", "issue", "one", "--user", "writer")
    furnished.done("token", "issue", "two", "--user", "writer")
    said = furnished.done("token", "revoke", "--all", "writer").out
    assert said == "Revoked 1 offline token of writer.\nRevoked 2 personal tokens of writer.\n"
    assert furnished.done("token", "revoke", "--all", "writer", "--personal").out.startswith("Revoked 0 personal")
    assert furnished.done("token", "revoke", "--all", "gallery/ci").out == "Revoked 0 offline tokens of gallery/ci.\n"


def test_a_second_factor_is_told_of_and_there_is_none_to_end(furnished: Line) -> None:
    shown = furnished.done("user", "second-factor", "writer", "--json").json
    assert shown == {"name": "writer", "enabled": False, "since": None, "recovery_codes": 0}
    assert "enabled" in furnished.done("user", "second-factor", "writer").out
    assert furnished("user", "second-factor", "writer", "--disable").status == 3
    assert furnished("user", "second-factor", "nobody").status == 3


def test_a_user_is_signed_out(furnished: Line) -> None:
    assert furnished.done("user", "sign-out", "writer").out == "Ended 0 sessions of writer.\n"
    assert furnished("user", "sign-out", "nobody").status == 3


def test_a_robot_is_rotated_with_an_overlap_that_can_be_ended(furnished: Line) -> None:
    said = furnished.done("robot", "rotate", "gallery/ci", "--overlap", "24h").out
    [robot] = furnished.done("robot", "list", "gallery", "--json").json
    assert robot["old_secret_until"] is not None
    until, old = (robot[name] for name in ("expires", "old_secret_until"))
    assert said.startswith(
        f"Robot gallery+ci has another secret, good until {until}; the old one is good until {old}.\n"
    )
    assert robot["used"] is None
    assert furnished.done("robot", "rotate", "gallery/ci", "--end-overlap").out == (
        "Robot gallery+ci has one secret only.\n"
    )
    assert furnished("robot", "rotate", "gallery/ci", "--end-overlap").status == 4
    assert furnished("robot", "rotate", "gallery/ci", "--overlap", "60d").status == 2
    assert furnished("robot", "rotate", "gallery/ci", "--overlap", "1h", "--end-overlap").status == 2
