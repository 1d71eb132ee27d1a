"""The auditor's job by command line: look, trace, replay, review, sign, hand over, verify elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.records.database import Database
from gateway.records.trail import project_tail
from tests.cli.line import Line


def test_a_review_from_begin_to_a_pack_that_verifies_elsewhere(furnished: Line, tmp_path: Path) -> None:
    begun = furnished.done("review", "begin", "--since", "1d", "--json").json
    assert begun["review"] == 1
    assert begun["findings"]
    assert furnished("review", "sign-off", "1").status == 4
    assert furnished("review", "export", "1", "--output", str(tmp_path / "pack.zip")).status == 4
    for finding in begun["findings"]:
        furnished.done("review", "mark", "1", str(finding["finding"]), "fine")
    furnished.done("review", "mark", "1", "1", "follow-up", "--note", "ask the writer")
    shown = furnished.done("review", "show", "1").out
    assert "ask the writer" in shown
    assert "0 of" in shown
    assert furnished("review", "sign-off", "1", "--shown", begun["shown"]).status == 4, "it was marked since"
    now = furnished.done("review", "show", "1", "--json").json["shown"]
    assert now in shown
    said = furnished.done("review", "sign-off", "1", "--note", "looked through", "--shown", now).out
    assert "Signed off review 1" in said
    assert furnished("review", "mark", "1", "1", "fine").status == 4
    (listed,) = furnished.done("review", "list", "--json").json
    assert furnished.done("review", "list", "--every-project", "--json").json == [listed]
    assert furnished.done("review", "list", "--open", "--json").json == []
    assert listed["content"] in said

    pack = tmp_path / "pack.zip"
    assert "python3 verify.py" in furnished.done("review", "export", "1", "--output", str(pack)).out
    assert furnished("review", "export", "1", "--output", str(pack)).status == 2
    elsewhere = tmp_path / "elsewhere"
    with zipfile.ZipFile(pack) as archive:
        archive.extractall(elsewhere)
    verified = subprocess.run(
        [sys.executable, "-I", "-S", "verify.py"], cwd=elsewhere, capture_output=True, text=True, timeout=30
    )
    assert verified.returncode == 0, verified.stdout
    assert "Verified: review 1" in verified.stdout
    assert furnished.done("audit", "verify").status == 0


def test_searches_are_kept_and_used(line: Line) -> None:
    assert "keep no searches" in line.done("audit", "saved").err
    line.done("audit", "save", "starts", "--kind", "gateway.*", "--since", "24h")
    (kept,) = line.done("audit", "saved", "--json").json
    assert kept["filters"] == {"kind": "gateway.*", "since": "24h"}
    assert {event["kind"].partition(".")[0] for event in line.events("--saved", "starts")} == {"gateway"}
    overview = line.done("audit", "overview", "--saved", "starts", "--json").json
    assert overview["facets"]["whole"]
    line.done("audit", "forget", "starts")
    assert line("audit", "list", "--saved", "starts").status == 3
    assert line("audit", "save", "bad", "--since", "soon").status == 2


def test_an_overview_shows_when_and_who(furnished: Line) -> None:
    out = furnished.done("audit", "overview").out
    assert "PRINCIPALS" in out
    assert "every event from" in out


def test_an_overview_says_of_which_period_its_times_are(furnished: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.records.overview._LOOKED", 3)
    database = Database.open(f"sqlite:///{furnished.folder}/gateway.db", furnished.folder)
    with closing(database), database.lock(), database.engine.connect() as connection:
        while project_tail(database, connection):
            pass
    out = furnished.done("audit", "overview", "--since", "1h").out
    counted = re.search(r"^Counted \d+: every event from (\S+) to ", out, re.MULTILINE)
    shown = re.search(r"^The times show every event from (\S+) to ", out, re.MULTILINE)
    assert counted is not None
    assert counted[1].endswith("T00:00:00Z")
    if shown is None:
        # The times are told by the hour, the rest by the day: both begin at once where the hour is the day's first.
        assert (datetime.now(UTC) - timedelta(hours=1)).hour == 0
    else:
        assert counted[1] < shown[1]
        assert shown[1].endswith(":00:00Z")


@pytest.mark.parametrize(("since", "until"), [("0001-01-01", "0001-12-31"), ("9999-12-30", "9999-12-31")])
def test_an_overview_reaches_either_end_of_the_calendar(line: Line, since: str, until: str) -> None:
    assert "Counted 0" in line.done("audit", "overview", "--since", since, "--until", until).out


@pytest.mark.parametrize(
    "filters",
    [("--digest", "sha256:abc"), ("--address", "1.2.3"), ("--since", "2026-11-02", "--until", "2026-11-01")],
)
@pytest.mark.parametrize("command", ["list", "overview", "export"])
def test_a_filter_that_nothing_can_meet_is_refused_in_one_line(
    line: Line, command: str, filters: tuple[str, ...]
) -> None:
    refused = line("audit", command, *filters)
    assert (refused.status, refused.out, len(refused.err.splitlines())) == (2, "", 1)


def test_an_event_is_shown_with_its_place(line: Line) -> None:
    assert "sound: after event -, before event 2" in line.done("audit", "show", "1").out
    assert "chain" not in line.done("audit", "show", "1", "--json").json


def test_a_replay_changes_nothing_however_it_is_asked(furnished: Line) -> None:
    before = furnished.done("grant", "list", "--project", "gallery", "--json").json
    for words in (
        ("grant", "reader", "owner", "gallery", "--replay"),
        ("revoke", "writer", "gallery", "--replay"),
        ("audit", "replay", "--grant", "reader", "pusher", "gallery"),
        ("audit", "replay", "--revoke", "writer", "gallery", "--days", "7"),
    ):
        assert "would be decided differently" in furnished.done(*words).err
    assert furnished.done("grant", "list", "--project", "gallery", "--json").json == before
    assert furnished("audit", "replay").status == 2
    assert furnished("audit", "replay", "--grant", "nobody", "pusher", "gallery").status == 3


def test_tracing_says_who_pulled_and_what_is_no_content(furnished: Line) -> None:
    digest = "sha256:" + "b" * 64
    assert "Nobody pulled" in furnished.done("audit", "who-pulled", digest).err
    assert furnished.done("audit", "who-pulled", digest, "--json").json["pulls"] == []
    assert furnished("audit", "who-pulled", "gallery/ui:v9").status == 3
    assert furnished("audit", "who-pulled", "gallery").status == 2


def test_the_leak_switch_revokes_unless_it_is_a_plan(furnished: Line) -> None:
    planned = furnished.done("leak", "gallery/ci", "--since", "7d", "--plan")
    assert "Would revoke: robot gallery+ci." in planned.out
    secrets = {robot["name"]: robot["secret_changed"] for robot in furnished.done("robot", "list", "--json").json}
    done = furnished.done("leak", "gallery/ci", "--since", "7d", "--json").json
    assert (done["revoked"], done["touched"]) == (True, [])
    assert furnished.events("--kind", "credential.leak")[0]["outcome"] == "allowed"
    assert secrets
    assert furnished("leak", "nobody", "--since", "7d").status == 3
    assert furnished("leak", "writer", "--since", "soon").status == 2
