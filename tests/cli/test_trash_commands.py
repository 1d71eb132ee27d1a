"""The trash and retention on the command line."""

from __future__ import annotations

import pytest

from tests.cli.line import Line


def test_a_tag_is_removed_and_brought_back(furnished: Line) -> None:
    furnished.done("tag", "remove", "gallery/ui:v1")
    [row] = furnished.done("trash", "list", "gallery/ui", "--json").json
    assert row["name"] == "gallery/ui:v1"
    [removal] = furnished.events("--kind", "tag.delete")
    assert row["deleted_by"] == removal["principal"] != "operator:0"
    [move, *_] = furnished.done("tag", "history", "gallery/ui:v1", "--json").json
    assert (move["kind"], move["restorable"]) == ("tag.delete", True)
    assert "names sha256:" in furnished.done("tag", "restore", "gallery/ui:v1").out
    assert furnished.done("trash", "list", "--json").json == []
    assert [tag["name"] for tag in furnished.done("tag", "list", "gallery/ui", "--json").json] == ["v1"]


@pytest.mark.parametrize("word", ["list", "empty"])
def test_the_trash_of_a_repository_that_is_not_there_is_none_that_is_empty(furnished: Line, word: str) -> None:
    assert furnished.done("trash", word, "gallery/ui").status == 0
    said = furnished("trash", word, "gallery/misspelled")
    assert (said.status, said.out) == (3, "")
    assert said.err == (
        "gateway: There is no repository gallery/misspelled; list the repositories to see how they are spelled.\n"
    )


def test_what_a_project_keeps_is_set_planned_and_applied(furnished: Line) -> None:
    assert "gallery keeps everything." in furnished.done("retention", "show", "gallery").out
    furnished.done("retention", "set", "gallery", "--matching", "release-*")
    [row] = furnished.done("retention", "plan", "gallery", "--json").json
    assert (row["tag"], row["stays"]) == ("gallery/ui:v1", False)
    assert "1 of 1 tags would go." in furnished.done("retention", "plan", "gallery").out
    assert "removed v1" in furnished.done("retention", "apply", "gallery").out
    assert furnished.done("retention", "apply", "gallery").out == "Nothing was to go.\n"
    assert furnished.done("trash", "empty", "--all").out.startswith("Dropped ")
    furnished.done("retention", "set", "gallery", "--everything")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("tag", "restore", "gallery/ui:v9"), 3, "The trash has no tag"),
        (("tag", "restore", "gallery/ui"), 2, "Name a tag"),
        (("trash", "restore", "gallery/ui@sha256:12"), 2, ""),
        (("trash", "empty"), 2, "--all"),
        (("trash", "list", "nosuch"), 3, "There is no project nosuch"),
        (("repository", "list", "nosuch"), 3, "There is no project nosuch"),
        (("review", "begin", "--since", "30d", "--project", "nosuch"), 3, "There is no project nosuch"),
        (("retention", "set", "gallery"), 2, "Say what is kept"),
        (("retention", "set", "gallery", "--last", "0"), 2, "Keep from 1"),
        (("retention", "plan", "nowhere"), 3, "There is no project nowhere"),
    ],
)
def test_wrong_words_about_the_trash_are_told_in_one_line(
    furnished: Line, words: tuple[str, ...], status: int, says: str
) -> None:
    said = furnished(*words)
    assert (said.status, says in said.err) == (status, True), said
    assert "Traceback" not in said.err
