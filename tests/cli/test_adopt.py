from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access import passwords
from gateway.settings import Settings
from tests.cli.line import PROGRAM, Line
from tests.services.distribution import PASSWORD, USER, Way, running_registry
from tests.services.filling import Filling

KEYS = {"url", "plan", "whole", "fault", "counts", "repositories", "users"}
REPOSITORY = {
    "repository",
    "project",
    "fate",
    "new_project",
    "tags",
    "manifests",
    "referrers",
    "tags_added",
    "tags_moved",
    "absent",
    "by_sha512",
    "left",
    "left_count",
    "fault",
}


@pytest.fixture(scope="module")
def filling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filling]:
    """A registry with a repository, that no test changes."""
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        filling = Filling(registry)
        filling.index("gallery/ui", [filling.image("gallery/ui", "v1")], "multi")
        yield filling


@pytest.fixture
def nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    """The command line on a data directory that does not exist yet."""
    return Line(tmp_path / "data", capsys)


def test_a_new_directory_is_made_and_stands_in_front_of_the_registry(nowhere: Line, filling: Filling) -> None:
    said = nowhere.done("adopt", filling.registry.url)
    assert re.search(r"^Administrator  admin$", said.out, re.MULTILINE)
    assert re.search(r"^Password       \S+ ", said.out, re.MULTILINE)
    assert "added      gallery/ui  project gallery (new): 2 tags, 2 new manifests" in said.out
    assert f"gateway --data {nowhere.folder} up" in said.out
    settings = Settings.for_data(nowhere.folder, {})
    assert (settings.engine.kind, settings.engine.url) == ("upstream", filling.registry.url)
    (row,) = nowhere.done("repository", "list", "--json").json
    assert (row["name"], row["tags"], row["manifests"]) == ("gallery/ui", 2, 2)
    kinds = [event["kind"] for event in nowhere.events("--kind", "repository.adopt")]
    assert kinds == ["repository.adopt"] * 2


def test_a_second_run_is_silent_about_passwords_and_finds_nothing_new(nowhere: Line, filling: Filling) -> None:
    nowhere.done("adopt", filling.registry.url)
    kept = (nowhere.folder / "gateway.toml").read_text()
    said = nowhere.done("adopt", f"{filling.registry.url}/")
    assert "Password" not in said.out
    assert "unchanged  gallery/ui  project gallery: 2 tags, 0 new manifests" in said.out
    assert (nowhere.folder / "gateway.toml").read_text() == kept


def test_a_plan_leaves_nothing_behind(nowhere: Line, filling: Filling) -> None:
    said = nowhere.done("adopt", filling.registry.url, "--plan")
    assert "added      gallery/ui  project gallery (new)" in said.out
    assert "Would take over 2 manifests" in said.out
    assert not nowhere.folder.exists()


def test_a_plan_on_records_writes_none(line: Line, filling: Filling) -> None:
    before = len(line.events())
    line.done("adopt", filling.registry.url, "--plan")
    assert len(line.events()) == before + 1  # the listing itself
    assert not (line.folder / "gateway.toml").exists()
    assert line.done("project", "list", "--json").json == []


def test_an_empty_gateway_is_put_in_front_and_keeps_its_other_settings(line: Line, filling: Filling) -> None:
    file = line.folder / "gateway.toml"
    file.write_text("# mine\n[server]\nport = 5443")
    file.chmod(0o640)
    line.done("adopt", filling.registry.url)
    settings = Settings.for_data(line.folder, {})
    assert (settings.server.port, settings.engine.url) == (5443, filling.registry.url)
    assert file.read_text().startswith("# mine\n[server]\nport = 5443\n")
    assert file.stat().st_mode & 0o777 == 0o640
    assert not list(line.folder.glob(".gateway.toml-*"))


def test_a_gateway_that_keeps_content_of_its_own_is_left_alone(furnished: Line, filling: Filling) -> None:
    for plan in ((), ("--plan",)):
        said = furnished("adopt", filling.registry.url, *plan)
        assert said.status == 4
        assert "--data OTHER" in said.err
    assert not (furnished.folder / "gateway.toml").exists()
    assert [row["name"] for row in furnished.done("repository", "list", "--json").json] == ["gallery/ui"]


@pytest.mark.parametrize("section", ['kind = "embedded"', 'kind = "upstream"\nurl = "http://127.0.0.1:1"'])
def test_a_section_that_says_otherwise_is_not_rewritten_but_told(line: Line, filling: Filling, section: str) -> None:
    text = f"[engine]\n{section}\n"
    (line.folder / "gateway.toml").write_text(text)
    said = line("adopt", filling.registry.url)
    assert said.status == 4
    assert said.out == f'[engine]\nkind = "upstream"\nurl = "{filling.registry.url}"\n'
    assert (line.folder / "gateway.toml").read_text() == text


def test_a_settings_file_of_its_own_has_to_name_the_registry(
    tmp_path: Path, filling: Filling, capsys: pytest.CaptureFixture[str]
) -> None:
    from gateway.cli.entry import run

    config = tmp_path / "my.toml"
    config.write_text('[server]\nport = 5443\n[engine]\nroot = "data"\n')
    assert run(["--config", str(config), "adopt", filling.registry.url]) == 4
    lines = capsys.readouterr().out
    assert not (tmp_path / "data").exists()
    config.write_text(f'[server]\nport = 5443\n{lines}root = "data"\n')
    assert run(["--config", str(config), "adopt", filling.registry.url]) == 0
    assert f"gateway --config {config} up" in capsys.readouterr().out


def test_what_is_no_registry_leaves_nothing_behind(nowhere: Line) -> None:
    said = nowhere("adopt", "http://127.0.0.1:9")
    assert said.status == 5
    assert not nowhere.folder.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("http://user:hunter2@127.0.0.1:9",),
        ("127.0.0.1:5000",),
        ("http://127.0.0.1:9", "--username", "alice"),
        ("http://127.0.0.1:9", "--ca-file", "ca.crt"),
        ("http://127.0.0.1:9", "--htpasswd", "/nonexistent"),
    ],
    ids=lambda words: words[-2] if len(words) > 2 else words[0],
)
def test_wrong_words_are_refused_before_anything_is_made(nowhere: Line, words: tuple[str, ...]) -> None:
    said = nowhere("adopt", *words)
    assert said.status == 2, said
    assert "hunter2" not in said.out + said.err
    assert not nowhere.folder.exists()


def test_a_file_that_holds_no_users_is_refused_before_anything_is_made(
    nowhere: Line, filling: Filling, tmp_path: Path
) -> None:
    (tmp_path / "htpasswd").write_text("alice\n")
    assert nowhere("adopt", filling.registry.url, "--htpasswd", str(tmp_path / "htpasswd")).status == 2
    assert not nowhere.folder.exists()


def test_what_fails_is_told_and_ends_with_one(nowhere: Line, tmp_path: Path) -> None:
    directory = tmp_path / "registry"
    directory.mkdir()
    with running_registry(directory) as registry:
        Filling(registry).image("gallery/ui", "v1")
        nowhere.done("adopt", registry.url)
        registry.forget()
        emptied = nowhere("adopt", registry.url)
    gone = nowhere("adopt", registry.url)
    for said in (emptied, gone):
        assert said.status == 1
        assert "failed     gallery/ui" in said.out
        assert "Nothing that is on record was removed." in said.out
    assert "The registry lists no repositories" in emptied.out
    (row,) = nowhere.done("repository", "list", "--json").json
    assert (row["name"], row["tags"]) == ("gallery/ui", 1)


def test_all_of_it_is_one_json_value(nowhere: Line, filling: Filling, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(f"alice:{passwords.hash_password('correct horse', 4)}\nold:x\n")
    said = nowhere.done("adopt", filling.registry.url, "--json", "--htpasswd", str(tmp_path / "htpasswd"))
    assert set(said.json) == KEYS
    (repository,) = said.json["repositories"]
    assert set(repository) == REPOSITORY
    assert [(user["name"], user["arrival"]) for user in said.json["users"]] == [
        ("alice", "added"),
        ("old", "needs a password"),
    ]
    assert "Password" in said.err


def test_users_are_told_what_becomes_of_them(nowhere: Line, filling: Filling, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(f"alice:{passwords.hash_password('correct horse', 4)}\nold:x\nBob:x\n")
    words = ("adopt", filling.registry.url, "--htpasswd", str(tmp_path / "htpasswd"))
    said = nowhere.done(*words)
    assert "user alice  added" in said.out
    assert f"gateway --data {nowhere.folder} user password old" in said.out
    assert "user Bob  illegal name" in said.out
    assert nowhere.done("user", "password", "old").status == 0
    assert "user alice  exists" in nowhere.done(*words).out


def test_a_credential_is_kept_as_the_name_of_its_file(nowhere: Line, tmp_path: Path) -> None:
    directory = tmp_path / "registry"
    directory.mkdir()
    with running_registry(directory) as registry:
        Filling(registry).image("gallery/ui", "v1")
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    with running_registry(directory, Way.HTPASSWD) as registry:
        words = ("adopt", registry.url, "--username", USER, "--password-file", str(secret))
        secret.chmod(0o644)
        assert nowhere(*words).status == 2
        secret.chmod(0o600)
        assert nowhere("adopt", registry.url).status == 1
        assert not nowhere.folder.exists()
        nowhere.done(*words)
        text = (nowhere.folder / "gateway.toml").read_text()
        assert PASSWORD not in text
        assert f'password_file = "{secret}"' in text
        # Said once, it need not be said again.
        nowhere.done("adopt", registry.url)
        nowhere.done(*words)


def test_a_terminal_is_shown_a_bar(nowhere: Line, filling: Filling) -> None:
    ours, theirs = pty.openpty()
    command = [str(PROGRAM), "--data", str(nowhere.folder), "adopt", filling.registry.url]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Reading" in shown
    assert "━".encode() in shown
    assert b"1/1" in shown
    assert said.count(b"added      gallery/ui") == 1


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
