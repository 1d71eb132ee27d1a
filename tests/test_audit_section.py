"""The section [audit]: sinks of each kind, and whatever is wrong with one said with its file, line and name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.audit_section import SinkKind, secret_of
from gateway.errors import Invalid
from gateway.settings import Settings

EVERY = """
[audit]
retain_months = 13
purge_months = 84

[audit.sinks.disk]
kind = "file"
path = "logs/audit.jsonl"
rotate_bytes = 1048576
keep = 12

[audit.sinks.siem]
kind = "syslog"
host = "logs.company.com"
ca_file = "ca.pem"

[audit.sinks.hook]
kind = "webhook"
url = "https://siem.company.com/hook?tenant=1"
secret_file = "hook.secret"
batch = 100
"""


def loaded(folder: Path, text: str) -> Settings:
    (folder / "hook.secret").write_text("0123456789abcdef\n")
    (folder / "hook.secret").chmod(0o600)
    (folder / "gateway.toml").write_text(text)
    return Settings.load(folder / "gateway.toml", {})


def test_sinks_of_each_kind_are_read_with_absolute_paths(tmp_path: Path) -> None:
    audit = loaded(tmp_path, EVERY).audit

    assert {name: sink.kind for name, sink in audit.sinks.items()} == {
        "disk": SinkKind.FILE,
        "siem": SinkKind.SYSLOG,
        "hook": SinkKind.WEBHOOK,
    }
    assert audit.sinks["disk"].path == tmp_path / "logs/audit.jsonl"
    assert (audit.sinks["siem"].port, audit.sinks["siem"].place) == (6514, "logs.company.com:6514")
    assert (audit.sinks["hook"].batch, secret_of(audit.sinks["hook"])) == (100, "0123456789abcdef")
    assert (audit.retain_months, audit.purge_months) == (13, 84)


def test_settings_as_shown_tell_the_sinks_and_no_secret(tmp_path: Path) -> None:
    shown = json.dumps(loaded(tmp_path, EVERY).shown())

    assert "siem.company.com" in shown
    assert "0123456789abcdef" not in shown


def test_what_a_webhook_s_address_holds_after_its_question_mark_is_used_and_never_shown(tmp_path: Path) -> None:
    settings = loaded(tmp_path, EVERY.replace("tenant=1", "token=HECSECRET"))
    sink = settings.audit.sinks["hook"]

    assert sink.url == "https://siem.company.com/hook?token=HECSECRET"
    assert sink.place == "https://siem.company.com/hook?***"
    assert "HECSECRET" not in f"{json.dumps(settings.shown())} {settings!r} {settings} {settings.audit}"
    assert json.loads(json.dumps(settings.shown()))["audit"]["sinks"]["hook"]["url"] == sink.place


X = "[audit.sinks.x]\nkind = "


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("[audit.sinks.x]\npath = 'a'", 'line 1: [audit.sinks.x] needs kind: "file", "syslog" or "webhook"'),
        (X + "'kafka'", 'line 2: [audit.sinks.x] kind must be "file", "syslog" or "webhook"'),
        (X + "'file'", 'line 1: [audit.sinks.x] of kind = "file" needs path'),
        (X + "'file'\npath = 'a'\nurl = 'b'", 'line 4: [audit.sinks.x] url is not for kind = "file"'),
        (X + "'file'\npath = 'a'\nsize = 1", "line 4: [audit.sinks.x] size is no setting of a sink"),
        (X + "'file'\npath = 'a'\nkeep = -1", "line 4: [audit.sinks.x] keep must be a number of files"),
        (X + "'file'\npath = 1", "line 3: [audit.sinks.x] path must be a path in quotes"),
        ("[audit.sinks.X]\nkind = 'file'\npath = 'a'", "must be named in small letters"),
        ("[audit]\nsinks = 3", "sinks must be sections named"),
        ("[audit.sinks]\nx = 3", "[audit.sinks.x] must be a section of its own"),
        (X + "'syslog'\nhost = 'a:1'", "line 3: [audit.sinks.x] host must be a host name"),
        (X + "'syslog'\nhost = 'a'\nkey = 'k'", "line 4: [audit.sinks.x] key needs the other"),
        (X + "'webhook'\nurl = 'http://a/'\nsecret_file = 'hook.secret'", "must begin with https://"),
        (X + "'webhook'\nurl = 'https://u:p@a/'\nsecret_file = 'hook.secret'", "hold no name"),
        (X + "'webhook'\nurl = 'https://a/'\nsecret_file = 'none'", "which cannot be read"),
        ("[audit]\npurge_months = 84", "line 2: [audit] purge_months needs retain_months beside it, 1 or more"),
        ("[audit]\nretain_months = 12\npurge_months = 12", "purge_months must be more than retain_months"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_sink_is_said_where_it_is(tmp_path: Path, section: str, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        loaded(tmp_path, section)
    assert said in refused.value.message
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize("url", ["http://localhost:9/x", "http://127.0.0.1/", "http://[::1]:8/", "https://a.b/c"])
def test_plain_http_is_for_this_machine_only(tmp_path: Path, url: str) -> None:
    section = f"[audit.sinks.x]\nkind = 'webhook'\nurl = '{url}'\nsecret_file = 'hook.secret'"
    assert loaded(tmp_path, section).audit.sinks["x"].place == url


def test_a_secret_that_others_may_read_or_that_is_too_short_is_refused(tmp_path: Path) -> None:
    section = "[audit.sinks.x]\nkind = 'webhook'\nurl = 'https://a/'\nsecret_file = 'other.secret'"
    (tmp_path / "other.secret").write_text("0123456789abcdef")
    (tmp_path / "other.secret").chmod(0o644)
    with pytest.raises(Invalid, match="chmod 600"):
        loaded(tmp_path, section)
    (tmp_path / "other.secret").write_text("short")
    (tmp_path / "other.secret").chmod(0o600)
    with pytest.raises(Invalid, match="less than 16 characters"):
        loaded(tmp_path, section)
