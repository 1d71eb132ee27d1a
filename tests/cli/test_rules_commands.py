"""The rules on the command line: set, shown, ended; wrong words are told in a line."""

from __future__ import annotations

import pytest

from tests.cli.line import Line


def test_rules_are_set_and_shown(furnished: Line) -> None:
    said = furnished.done("project", "set", "gallery", "--quota", "10GiB", "--immutable", "v*", "--immutable", "rel-*")
    assert "private" in said.out
    assert "of 10 GiB" in said.out
    furnished.done("project", "set", "gallery", "--read-only", "inventory")
    shown = furnished.done("project", "show", "gallery", "--json").json
    assert (shown["quota_bytes"], shown["immutable"], shown["read_only"]) == (10 * 2**30, ["v*", "rel-*"], "inventory")
    assert isinstance(shown["used_bytes"], int)
    assert {"used bytes", "quota bytes", "immutable", "read only"} <= {
        line[:14].strip() for line in furnished.done("project", "show", "gallery").out.splitlines()
    }
    [listed] = furnished.done("project", "list", "--json").json
    assert (listed["quota_bytes"], listed["read_only"]) == (10 * 2**30, "inventory")

    furnished.done("project", "set", "gallery", "--quota", "none", "--no-immutable", "--read-write")
    shown = furnished.done("project", "show", "gallery", "--json").json
    assert (shown["quota_bytes"], shown["immutable"], shown["read_only"]) == (None, [], "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "Say what to set"),
        (("--quota", "10 apples"), "is no size"),
        (("--quota", "-1"), "is no size"),
        (("--quota", "9999PiB"), "A quota is a number of bytes"),
        (("--immutable", "a b"), "A pattern of tags"),
        (("--immutable", "v*", "--no-immutable"), "not both"),
        (("--read-only", "x", "--read-write"), "not both"),
        (("--read-only", " "), "Say why"),
        (("--read-only", "x" * 201), "at most 200 characters"),
    ],
)
def test_wrong_rules_are_refused_in_one_line(furnished: Line, words: tuple[str, ...], says: str) -> None:
    said = furnished("project", "set", "gallery", *words)
    assert said.status == 2
    assert says in said.err
    assert said.err.count("\n") == 1


def test_an_immutable_tag_is_not_removed_by_an_operator_either(furnished: Line) -> None:
    furnished.done("project", "set", "gallery", "--immutable", "v*")
    said = furnished("tag", "remove", "gallery/ui", "v1")
    assert said.status == 1
    assert "immutable (pattern v*)" in said.err


def test_the_gateway_is_switched_to_read_only_and_back(furnished: Line) -> None:
    assert furnished.done("read-only", "show", "--json").json == {"read_only": False, "reason": "", "since": None}
    furnished.done("read-only", "on", "--reason", "a new disk")
    shown = furnished.done("read-only", "show", "--json").json
    assert (shown["read_only"], shown["reason"]) == (True, "a new disk")
    said = furnished("tag", "remove", "gallery/ui", "v1")
    assert (said.status, "The gateway is read-only: a new disk." in said.err) == (1, True)
    furnished.done("user", "add", "jane")
    furnished.done("read-only", "off")
    furnished.done("tag", "remove", "gallery/ui", "v1")
    kinds = [event["kind"] for event in furnished.events("--kind", "read_only.set")]
    assert kinds == ["read_only.set"] * 2


def test_read_only_wants_a_reason(line: Line) -> None:
    assert line("read-only", "on").status == 2
    assert line("read-only", "on", "--reason", "").status == 2
