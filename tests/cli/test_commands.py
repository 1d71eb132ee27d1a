from __future__ import annotations

import csv
import json
import os
import pwd
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from gateway.administration import FIELDS
from tests.cli.line import PROGRAM, Line, an_offline_token_in

ME = f"operator:{pwd.getpwuid(os.getuid()).pw_name}"

USER = {"id", "name", "kind", "enabled", "administrator", "auditor", "created", "password_changed", "expires"}
ROBOT = {"id", "name", "project", "enabled", "created", "secret_changed", "expires", "used"}
ROBOT |= {"old_secret_until", "old_secret_used"}
PROJECT = {"id", "name", "public", "created", "used_bytes", "quota_bytes", "immutable", "read_only"}
GRANT = {"id", "principal", "role", "reach", "created", "expires"}
TOKEN = {"id", "principal", "service", "client", "address", "created", "used"}
KEY = {"kid", "state", "created", "retires"}
REPOSITORY = {"name", "project", "tags", "manifests", "size_bytes", "created"}
TAG = {"name", "digest", "media_type", "size_bytes", "moved", "moved_by"}


def spelled(value: object) -> str:
    """A parameter as a test's name shows it."""
    return " ".join(value) if isinstance(value, tuple) else "-"


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("user", "list"), USER),
        (("project", "list"), PROJECT),
        (("grant", "list", "--project", "gallery"), GRANT),
        (("grant", "list", "--principal", "gallery/ci"), GRANT),
        (("robot", "list"), ROBOT),
        (("robot", "list", "gallery"), ROBOT),
        (("token", "list"), TOKEN),
        (("token", "list", "writer"), TOKEN),
        (("repository", "list"), REPOSITORY),
        (("repository", "list", "gallery"), REPOSITORY),
        (("tag", "list", "gallery/ui"), TAG),
        (("key", "list"), KEY),
    ],
    ids=spelled,
)
def test_every_listing_has_a_table_and_json_with_stable_keys(
    furnished: Line, words: tuple[str, ...], keys: set[str]
) -> None:
    rows = furnished.done(*words, "--json").json
    assert rows
    assert all(set(row) == keys for row in rows)
    table = furnished.done(*words).out.splitlines()
    assert len(table) == len(rows) + 1
    assert table[0].isupper()


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("user", "show", "writer"), {*USER, "grants", "offline_tokens"}),
        (("project", "show", "gallery"), {*PROJECT, "repositories", "size_bytes", "grants", "robots"}),
        (("repository", "show", "gallery/ui"), REPOSITORY),
        (("can", "writer", "pull", "gallery/ui"), {"allowed", "why"}),
        (
            ("audit", "verify"),
            {"whole", "count", "head", "fault", "event", "sealed", "purged", "checkpoints", "uncompared"},
        ),
    ],
    ids=spelled,
)
def test_one_thing_is_shown_as_lines_or_as_one_object(furnished: Line, words: tuple[str, ...], keys: set[str]) -> None:
    assert set(furnished.done(*words, "--json").json) == keys
    assert furnished.done(*words).out.strip()


def test_an_event_has_at_least_the_promised_keys(line: Line) -> None:
    names = "id time kind outcome principal project repository reference digest address reason request_id"
    promised = names.split()
    assert set(promised) <= set(line.events()[0])
    assert set(promised) <= set(line.done("audit", "show", "1", "--json").json)


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "show"),
        ("audit", "list", "--before"),
        ("review", "show"),
        ("review", "mark", "1"),
        ("token", "revoke"),
        ("token", "revoke", "--personal"),
        ("leak",),
    ],
    ids=spelled,
)
def test_a_number_that_no_database_has_room_for_is_one_line(line: Line, words: tuple[str, ...]) -> None:
    more = ("fine",) if words[1:2] == ("mark",) else ()
    said = line(*words, "9" * 30, *more)
    assert said.status in {2, 3}, said.err
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_a_user_without_password_gets_one_shown_once(line: Line) -> None:
    made = line.done("user", "add", "writer", "--json").json
    assert set(made) == {"name", "password"}
    again = line.done("user", "add", "reader").out
    assert "Added user reader." in again
    secret = again.splitlines()[1].removeprefix("Password, shown this once: ")
    assert len(secret) >= 20
    everything = line.done("audit", "export").out + line.done("user", "list", "--json").out
    assert made["password"] not in everything
    assert secret not in everything


def test_a_password_comes_by_standard_input_and_is_not_repeated(line: Line) -> None:
    said = line.program("user", "add", "writer", "--password-stdin", "--json", stdin=b"correct horse battery\n")
    assert (said.status, said.json) == (0, {"name": "writer"})
    assert line.program("user", "password", "writer", "--password-stdin", stdin=b"another horse battery").status == 0
    assert "horse" not in line.done("audit", "export").out


@pytest.mark.parametrize(
    ("stdin", "says"),
    [(b"", "No password"), (b"\n", "No password"), (b"\xff\xfe12345678\n", "not UTF-8"), (b"x" * 73, "72 bytes")],
)
def test_a_password_that_cannot_be_is_refused(line: Line, stdin: bytes, says: str) -> None:
    said = line.program("user", "add", "writer", "--password-stdin", stdin=stdin)
    assert said.status == 2
    assert says in said.err
    assert [user["name"] for user in line.done("user", "list", "--json").json] == ["admin"]


def test_roles_are_given_and_taken(line: Line) -> None:
    line.done("user", "add", "jane", "--auditor")
    line.done("user", "set", "jane", "--admin", "--no-auditor")
    jane = next(user for user in line.done("user", "list", "--json").json if user["name"] == "jane")
    assert (jane["administrator"], jane["auditor"]) == (True, False)


def test_disabling_and_enabling_a_user_and_a_robot(furnished: Line) -> None:
    for name in ("writer", "gallery/ci"):
        furnished.done("user", "disable", name)
        assert furnished("can", name, "push", "gallery/ui").status == 1
        furnished.done("user", "enable", name)
        assert furnished("can", name, "push", "gallery/ui").status == 0


def test_can_says_yes_or_no_and_the_grant_that_decided(furnished: Line) -> None:
    yes = furnished("can", "reader", "pull", "gallery/ui:v1")
    assert (yes.status, yes.out) == (0, "yes: puller on gallery/ui*\n")
    no = furnished("can", "reader", "push", "gallery/ui:v1")
    assert no.status == 1
    assert no.out.startswith("no: push on gallery/ui is missing")
    assert furnished("can", "reader", "pull", "gallery/other").status == 1
    assert furnished("can", "anonymous", "pull", "gallery/ui").status == 1
    furnished.done("project", "set", "gallery", "--public")
    assert furnished("can", "anonymous", "pull", "gallery/ui", "--json").json["why"] == "public project"


def test_a_grant_is_taken_back_exactly(furnished: Line) -> None:
    assert furnished("revoke", "writer", "gallery/ui").status == 3
    furnished.done("revoke", "writer", "gallery")
    assert furnished("can", "writer", "pull", "gallery/ui").status == 1


def test_a_user_may_be_called_list(line: Line) -> None:
    line.done("user", "add", "list")
    line.done("project", "add", "gallery")
    line.done("grant", "list", "puller", "gallery")
    assert [grant["principal"] for grant in line.done("grant", "list", "--project", "gallery", "--json").json] == [
        "list"
    ]


def test_options_of_grant_may_come_first(furnished: Line) -> None:
    furnished.done("grant", "--expires", "2w", "writer", "maintainer", "gallery")
    grant = next(
        row
        for row in furnished.done("grant", "list", "--json", "--principal", "writer").json
        if row["reach"] == "gallery"
    )
    assert grant["role"] == "maintainer"
    assert grant["expires"] > grant["created"]


def test_a_robot_goes_by_both_spellings_and_its_secret_is_shown_once(furnished: Line) -> None:
    made = furnished.done("robot", "add", "gallery/deploy", "puller", "--expires", "12h", "--json").json
    assert set(made) == {"name", "secret", "expires"}
    assert made["name"] == "gallery+deploy"
    renewed = furnished.done("robot", "rotate", "gallery+deploy", "--json").json
    assert set(renewed) == {"name", "secret", "expires"}
    assert renewed["secret"] != made["secret"]
    assert renewed["expires"] > made["expires"]
    assert made["secret"] not in furnished.done("audit", "export").out
    furnished.done("robot", "remove", "gallery/deploy")
    assert [robot["name"] for robot in furnished.done("robot", "list", "--json").json] == ["gallery+ci"]


def test_offline_tokens_are_revoked_by_number_or_all(furnished: Line) -> None:
    number = furnished.done("token", "list", "--json").json[0]["id"]
    assert furnished.done("token", "revoke", str(number)).out == f"Revoked offline token {number} of writer.\n"
    an_offline_token_in(furnished.folder, account=2)
    assert furnished.done("token", "revoke", "--all", "writer").out == (
        "Revoked 1 offline token of writer.\nRevoked 0 personal tokens of writer.\n"
    )
    assert furnished.done("token", "list", "--json").json == []


@pytest.mark.parametrize("words", [(), ("1", "--all", "writer")])
def test_token_revoke_wants_one_of_both(furnished: Line, words: tuple[str, ...]) -> None:
    assert furnished("token", "revoke", *words).status == 2


@pytest.mark.parametrize("words", [("gallery/ui:v1",), ("gallery/ui", "v1")])
def test_a_tag_is_removed_by_either_spelling(furnished: Line, words: tuple[str, ...]) -> None:
    furnished.done("tag", "remove", *words)
    assert furnished.done("tag", "list", "gallery/ui", "--json").json == []


def test_a_project_that_holds_content_is_removed_only_by_force(furnished: Line) -> None:
    refused = furnished("project", "remove", "gallery")
    assert refused.status == 4
    assert "--force" in refused.err
    said = furnished.done("project", "remove", "gallery", "--force").out
    assert said == "Removed project gallery with 1 repository, 1 robot and 3 grants.\n"
    assert furnished.done("repository", "list", "--json").json == []


def test_a_project_without_content_is_removed_with_a_word_on_what_went_along(line: Line) -> None:
    for name in ("gallery", "attic"):
        line.done("project", "add", name)
    line.done("robot", "add", "gallery/ci", "pusher")
    assert line.done("project", "remove", "gallery").out == "Removed project gallery with 1 robot and 1 grant.\n"
    assert line.done("project", "remove", "attic").out == "Removed project attic.\n"


def test_a_project_is_set_public_or_private_and_not_both(furnished: Line) -> None:
    both = furnished("project", "set", "gallery", "--public", "--private")
    assert (both.status, both.err) == (2, "gateway: Give --public or --private, not both.\n")
    for option, public in (("--public", True), ("--private", False)):
        furnished.done("project", "set", "gallery", option)
        assert furnished.done("project", "show", "gallery", "--json").json["public"] is public
    furnished.done("project", "set", "gallery", "--public")
    furnished.done("project", "set", "gallery", "--quota", "1GiB")
    assert furnished.done("project", "show", "gallery", "--json").json["public"] is True


def test_one_of_a_thing_is_told_as_one(furnished: Line, tmp_path: Path) -> None:
    said = furnished.done("audit", "checkpoint", "--output", str(tmp_path / "checkpoint")).out
    assert said.startswith("Wrote 1 checkpoint to ")
    furnished.done("retention", "set", "gallery", "--matching", "none*")
    assert furnished.done("retention", "apply", "gallery").out == "gallery/ui: removed v1; 1 manifest went with them.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("audit", "show", "x"), "Invalid value for 'ID': write a whole number;"),
        (("token", "revoke", "abc"), "Invalid value for '[ID]': write a whole number;"),
        (("audit", "export", "--format", "xml"), "Invalid value for '--format': 'xml' is not one of 'jsonl', 'csv';"),
        (("audit", "list", "--limit", "0"), "Invalid value for '--limit': it has to be at least 1;"),
        (("up", "--port", "99999"), "Invalid value for '--port': it has to be at most 65535;"),
    ],
)
def test_wrong_usage_is_told_without_the_words_of_a_library(line: Line, words: tuple[str, ...], told: str) -> None:
    said = line(*words)
    assert said.status == 2
    assert said.err.startswith(f"gateway: {told} see gateway {words[0]}")


def test_a_repository_is_removed(furnished: Line) -> None:
    furnished.done("repository", "remove", "gallery/ui")
    assert furnished("repository", "show", "gallery/ui").status == 3


def test_keys_rotate_and_are_revoked(line: Line) -> None:
    before = {key["state"]: key["kid"] for key in line.done("key", "list", "--json").json}
    assert line.done("key", "rotate", "--json").json["kid"] == before["next"]
    line.done("key", "revoke", before["current"])
    states = {key["kid"]: key["state"] for key in line.done("key", "list", "--json").json}
    assert states[before["current"]] == "revoked"
    assert states[before["next"]] == "current"


def test_the_id_of_a_key_may_begin_with_a_dash(line: Line) -> None:
    for kid in ("-nothing", "--nothing", "-hello", "-_x"):
        refused = line("key", "revoke", kid)
        assert (refused.status, "key" in refused.err) == (3, True), refused.err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("user", "add", "jane+doe"), 2),
        (("user", "add", "jane:doe"), 2),
        (("user", "add", "admin"), 4),
        (("user", "show", "nobody"), 3),
        (("user", "remove", "nobody"), 3),
        (("user", "remove", "admin"), 4),
        (("user", "disable", "admin"), 4),
        (("user", "set", "reader"), 2),
        (("project", "add", "Gallery"), 2),
        (("project", "add", "gallery/ui"), 2),
        (("project", "add", "gallery"), 4),
        (("project", "show", "nothing"), 3),
        (("grant", "nobody", "puller", "gallery"), 3),
        (("grant", "reader", "puller", "nothing"), 3),
        (("grant", "reader", "king", "gallery"), 2),
        (("grant", "reader", "puller", "gallery/**"), 2),
        (("grant", "reader", "puller", "gallery", "--expires", "tomorrow"), 2),
        (("grant", "reader", "puller", "gallery", "--expires", "0d"), 2),
        (("grant", "reader", "puller"), 2),
        (("robot", "add", "gallery", "puller"), 2),
        (("robot", "add", "nothing/ci", "puller"), 3),
        (("robot", "add", "gallery/ci", "puller"), 4),
        (("can", "nobody", "pull", "gallery/ui"), 3),
        (("can", "reader", "fly", "gallery/ui"), 2),
        (("can", "reader", "pull", "Gallery/ui"), 2),
        (("tag", "remove", "gallery/ui"), 2),
        (("tag", "remove", "gallery/ui:-x"), 2),
        (("tag", "remove", "gallery/ui:v9"), 3),
        (("tag", "list", "gallery/none"), 3),
        (("repository", "remove", "gallery/none"), 3),
        (("token", "revoke", "99"), 3),
        (("token", "revoke", "many"), 2),
        (("key", "revoke", "nothing"), 3),
        (("audit", "show", "9999"), 3),
        (("audit", "list", "--kind", "manifest.fly"), 2),
        (("audit", "list", "--outcome", "perhaps"), 2),
        (("audit", "list", "--since", "yesterday"), 2),
        (("audit", "list", "--limit", "0"), 2),
        (("audit", "list", "--limit", "1001"), 2),
        (("audit", "export", "--format", "xml"), 2),
        (("audit", "export", "--output", "/nowhere/at/all"), 2),
        (("frobnicate",), 2),
        (("user", "list", "--frobnicate"), 2),
        (("up", "--port", "0"), 2),
        (("up", "--port", "many"), 2),
    ],
    ids=spelled,
)
def test_what_is_wrong_is_one_line_and_the_right_status(furnished: Line, words: tuple[str, ...], status: int) -> None:
    said = furnished(*words)
    assert (said.status, said.out) == (status, "")
    assert said.err.startswith("gateway: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err


def test_every_act_is_in_the_trail_as_the_real_user(furnished: Line) -> None:
    furnished("user", "show", "nobody")
    newest = furnished.events("--principal", ME)
    kinds = {event["kind"] for event in newest}
    assert {"account.add", "project.add", "grant.add", "robot.add", "account.show"} <= kinds
    failed = next(event for event in newest if event["kind"] == "account.show")
    assert (failed["outcome"], failed["reason"], failed["address"]) == ("failed", "unknown", "local")
    assert failed["principal_id"] == os.getuid()
    assert len({event["request_id"] for event in newest}) == len(newest)


def test_events_are_filtered_and_the_newest_comes_first(furnished: Line) -> None:
    kinds = [event["kind"] for event in furnished.events("--kind", "grant.*")]
    assert kinds == ["grant.add", "grant.add"]
    assert furnished.events("--since", "1h", "--kind", "project.add")[0]["project"] == "gallery"
    assert furnished.events("--until", "1h") == []
    assert furnished.events("--repository", "gallery/none") == []
    assert furnished.events("--outcome", "denied") == []
    assert furnished.events("--address", "192.0.2.1") == []
    assert furnished.events("--principal", "writer") == []
    assert furnished.events("--digest", "sha256:" + "0" * 64) == []
    pages = furnished.events("--limit", "2")
    assert pages[0]["id"] == pages[1]["id"] + 1
    older = furnished.events("--limit", "1", "--before", str(pages[1]["id"]))
    assert older[0]["id"] == pages[1]["id"] - 1


def test_the_table_of_events_says_who_did_what_to_what(furnished: Line) -> None:
    heading, *rows = furnished.done("audit", "list", "--project", "gallery", "--kind", "grant.add").out.splitlines()
    assert heading.split() == ["TIME", "OUTCOME", "KIND", "PRINCIPAL", "TARGET", "ADDRESS", "REASON", "ID"]
    assert f"{ME}  reader puller gallery/ui*" in rows[0]
    assert f"{ME}  writer pusher gallery" in rows[1]


def test_an_export_holds_every_event_oldest_first(furnished: Line, tmp_path: Path) -> None:
    exported = [json.loads(row) for row in furnished.done("audit", "export").out.splitlines()]
    assert [event["id"] for event in exported] == list(range(1, len(exported) + 1))
    assert exported[-1]["kind"] == "audit.export"
    target = tmp_path / "out.csv"
    said = furnished.done("audit", "export", "--format", "csv", "--output", str(target), "--kind", "robot.add")
    assert said.out == f"Wrote 1 event to {target}.\n"
    with target.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["kind"] for row in rows] == ["robot.add"]
    assert set(FIELDS) <= set(rows[0])
    assert [entry.name for entry in tmp_path.iterdir() if "out.csv" in entry.name] == ["out.csv"]


def test_an_export_follows_a_link_and_never_replaces_a_device(line: Line, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    line.done("audit", "export", "--output", str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text(encoding="utf-8").count("\n") >= 1
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    line.done("audit", "export", "--output", str(tmp_path / "pipe"))
    assert b"audit.export" in reader.communicate(timeout=30)[0]
    assert (tmp_path / "pipe").is_fifo()
    assert line("audit", "export", "--output", str(tmp_path)).status == 2


def test_a_reader_that_leaves_early_is_no_fault(furnished: Line) -> None:
    command = f"{PROGRAM} --data {furnished.folder} audit export | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert ended.stderr == b""


def test_a_damaged_trail_is_named_by_its_first_bad_event(furnished: Line) -> None:
    assert "is whole" in furnished.done("audit", "verify").out
    with closing(sqlite3.connect(furnished.folder / "gateway.db")) as database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f'drop trigger "{name}"')
        database.execute("update events set body = replace(body, 'writer', 'wr1ter') where seq = 2")
        database.commit()
    said = furnished("audit", "verify")
    assert said.status == 1
    assert said.err.startswith("gateway: the trail is damaged: event 2 ")
    assert furnished("audit", "verify", "--json").json["event"] == 2
