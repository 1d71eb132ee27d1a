from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import gateway
from gateway.cli import entry
from gateway.settings import LOCAL_NAMES, Settings
from tests.cli.line import PROGRAM, Line
from tests.services.daemon import free_port

NOBODY = 65534
MAKE_CA = Path(__file__).parents[2] / "certs" / "make-ca.sh"
ME = f"operator:{pwd.getpwuid(os.getuid()).pw_name}"


@dataclass
class Running:
    """A gateway in the foreground of somebody else's terminal."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def until_ready(self) -> str:
        """Everything it said until it was ready."""
        assert self.process.stdout is not None
        for row in self.process.stdout:
            self.said.append(row)
            if row.startswith("Ready: "):
                return "".join(self.said)
        raise AssertionError(f"it ended before it was ready: {self.said}")

    def stopped(self) -> int:
        """Its exit status after a SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode


@contextlib.contextmanager
def running(*words: str) -> Iterator[Running]:
    command = [str(PROGRAM), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_up_ends_without_a_word_when_nobody_reads_that_it_is_ready(line: Line, workers: str) -> None:
    command = [str(PROGRAM), "--data", str(line.folder), "up", "--port", str(free_port()), "--workers", workers]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    while not process.stdout.readline().startswith("Commands"):
        assert process.poll() is None
    assert process.stdout.readline() == "\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
    assert line.events()[0]["kind"] == "gateway.stop"


def interrupted(line: Line, tmp_path: Path, module: str, content: str) -> tuple[int, str]:
    """The exit status and the output of a gateway that a terminal interrupts when *content*, run in it, says so."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / module).write_text(content, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "slow"), str(Path(gateway.__file__).parents[1])])
    command = [str(PROGRAM), "--data", str(line.folder), "up", "--port", str(free_port()), "--workers", "2"]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A shell that has started us in the background has us ignore it, and whoever we start with us.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, **told, env={**os.environ, "PYTHONPATH": path}, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        while process.stdout.readline() not in ("loading\n", ""):
            pass
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


#: In one piece, for others may say it at the same moment.
LOADING = "import os, time\nos.write(1, b'loading\\n')\ntime.sleep(3)\n"


def test_ctrl_c_while_the_command_line_is_loaded_ends_it_without_a_word(line: Line, tmp_path: Path) -> None:
    assert interrupted(line, tmp_path, "typer.py", LOADING) == (130, "")


def test_ctrl_c_while_the_workers_are_loaded_stops_the_gateway_without_a_word_of_theirs(
    line: Line, tmp_path: Path
) -> None:
    load = LOADING.replace("\n", "\n    ")
    content = f"import sys\nif '--multiprocessing-fork' in sys.orig_argv:\n    {load}pass\n"
    status, said = interrupted(line, tmp_path, "sitecustomize.py", content)
    assert (status, "Traceback" in said, "KeyboardInterrupt" in said) == (0, False, False)
    assert line.events()[0]["kind"] == "gateway.stop"


def test_up_makes_everything_serves_and_finds_it_again(tmp_path: Path) -> None:
    folder, port = tmp_path / "data", free_port()
    words = ("--data", str(folder), "up")
    with running(*words, "--port", str(port), "--host", "hub.example", "--workers", "1") as first:
        said = first.until_ready()
        password = re.search(r"^Password +(\S+) ", said, re.MULTILINE)
        assert password is not None
        assert f"https://hub.example:{port}" in said
        assert "docker login hub.example" in said
        trust = ssl.create_default_context(cafile=str(folder / "tls" / "ca.crt"))
        with socket.create_connection(("127.0.0.1", port)) as raw:
            trust.wrap_socket(raw, server_hostname="hub.example").close()
        assert first.stopped() == 0
    kept = Settings.for_data(folder, {})
    assert (kept.server.port, kept.server.names) == (port, ("hub.example", *LOCAL_NAMES))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    authority = (folder / "tls" / "ca.crt").read_bytes()
    with running(*words) as second:
        said = second.until_ready()
        assert "Password" not in said
        assert password[1] not in said
        assert len(said.partition("Ready: ")[0].strip().splitlines()) <= 4
        assert f"https://hub.example:{port}" in said
        assert second.stopped() == 0
    assert (folder / "tls" / "ca.crt").read_bytes() == authority


def test_commands_work_while_the_gateway_runs(line: Line) -> None:
    with running("--data", str(line.folder), "up", "--port", str(free_port()), "--workers", "1") as gateway:
        gateway.until_ready()
        line.done("user", "add", "writer")
        assert "is whole" in line.done("audit", "verify").out
        assert gateway.stopped() == 0
    assert {"gateway.start", "gateway.stop", "account.add"} <= {event["kind"] for event in line.events()}


def test_flags_of_a_later_run_are_for_that_run(line: Line) -> None:
    port = free_port()
    with running("--data", str(line.folder), "up", "--port", str(port), "--workers", "1") as gateway:
        assert f":{port}" in gateway.until_ready()
        assert gateway.stopped() == 0
    assert not (line.folder / "gateway.toml").exists()


def test_a_port_that_is_taken_is_said_in_one_line(line: Line) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = line.program("up", "--port", str(taken.getsockname()[1]), "--workers", "1")
    assert said.status == 4
    assert said.err.startswith("gateway: ")
    assert said.err.count("\n") == 1
    assert str(taken) not in said.err


@pytest.mark.parametrize("command", ["up", "serve"])
def test_what_others_could_do_to_it_is_warned_of_before_it_serves(line: Line, command: str) -> None:
    line.folder.chmod(0o777)
    toml = line.folder / "gateway.toml"
    toml.write_text(f"[server]\nport = {free_port()}\nworkers = 1\n", encoding="utf-8")
    with running("--data", str(line.folder), command) as gateway:
        warnings = [row for row in gateway.until_ready().splitlines() if row.startswith("gateway: warning: ")]
        assert gateway.stopped() == 0
    assert warnings == [
        f"gateway: warning: The data directory {line.folder} is writable by everybody (mode 0777). "
        f"Run: chmod 700 {line.folder}"
    ]


@pytest.mark.parametrize("words", [("serve",), ("migrate",), ("user", "list")], ids=" ".join)
def test_nothing_but_up_makes_a_data_directory(tmp_path: Path, line: Line, words: tuple[str, ...]) -> None:
    said = Line(tmp_path / "none", line.capsys)(*words)
    assert said.status == 2
    assert f"gateway --data {tmp_path}/none up" in said.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("words", [("serve",), ("user", "list")], ids=" ".join)
def test_an_empty_directory_is_not_initialised(tmp_path: Path, line: Line, words: tuple[str, ...]) -> None:
    (tmp_path / "empty").mkdir()
    said = Line(tmp_path / "empty", line.capsys)(*words)
    assert said.status == 4
    assert "not initialised" in said.err
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_wrong_setting_stops_every_command_with_its_line(line: Line) -> None:
    (line.folder / "gateway.toml").write_text("[server]\nprot = 5000\n", encoding="utf-8")
    for words in (("up",), ("serve",), ("user", "list")):
        said = line(*words)
        assert said.status == 2
        assert f"{line.folder}/gateway.toml, line 2: [server] prot" in said.err


def test_a_settings_file_names_the_data_directory(line: Line, tmp_path: Path) -> None:
    config = tmp_path / "production.toml"
    config.write_text(f'[engine]\nroot = "{line.folder.name}"\n', encoding="utf-8")
    assert entry.run(["--config", str(config), "project", "add", "gallery"]) == 0
    assert [project["name"] for project in line.done("project", "list", "--json").json] == ["gallery"]
    assert entry.run(["--config", str(config), "--data", "x", "project", "list"]) == 2


def test_the_data_directory_is_data_unless_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert entry.run(["user", "list"]) == 2
    assert f"There is no data directory {tmp_path}/data" in capsys.readouterr().err


def given_to_nobody(folder: Path) -> None:
    assert os.getuid() == 0, "the tests of real clients run as root, and so do these"
    for parent in folder.parents:
        if "pytest" in str(parent):
            parent.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


def owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in (folder, *folder.rglob("*"))}


def test_an_unwritable_data_directory_is_refused(line: Line) -> None:
    given_to_nobody(line.folder)
    line.folder.chmod(0o555)
    for words in (("user", "list"), ("serve",), ("up",)):
        said = line.program(*words)
        assert said.status == 2
        assert said.err == (
            f"gateway: The data directory {line.folder} cannot be written to; run as its owner, or choose another.\n"
        )


def test_a_database_that_may_not_be_written_to_is_named_with_what_to_do(line: Line) -> None:
    given_to_nobody(line.folder)
    file = line.folder / "gateway.db"
    file.chmod(0o400)
    told = f"{file} cannot be read and written (nobody's, mode 0400). Run: chmod 600 {file}"
    for words in (
        ("user", "add", "writer"),
        ("audit", "verify"),
        ("backup", str(line.folder.parent / "copy")),
        ("migrate",),
        ("serve",),
        ("up",),
    ):
        said = line.program(*words)
        assert (said.status, said.err) == (2, f"gateway: {told}\n"), words
    found = line.program("doctor")
    assert found.status == 1
    assert f"bad   data directory: {told}\n" in found.out
    file.chmod(0o600)
    assert line.program("user", "add", "writer").status == 0


def test_a_file_of_another_owner_beside_the_database_is_named(line: Line) -> None:
    given_to_nobody(line.folder)
    for name in ("gateway.db-wal", "gateway.db-shm", "lock", "versions"):
        file = line.folder / name
        file.touch(mode=0o600)
        os.chown(file, 0, 0)
        said = line.program("user", "list")
        assert said.status == 2
        assert f"{file} cannot be read and written (root's, mode 0600). It has to be nobody's" in said.err
        assert said.err.endswith(f"Run as root: chown nobody {file}\n")
        os.chown(file, NOBODY, NOBODY)


def test_a_database_server_that_does_not_answer_is_told_of_in_one_line(line: Line) -> None:
    url = f"postgresql://gateway@127.0.0.1:{free_port()}/gateway"
    (line.folder / "gateway.toml").write_text(f'[database]\nurl = "{url}"\n', encoding="utf-8")
    told = "The database does not answer; try again, and check that it runs and that [database] url is right."
    for words in (("user", "list"), ("migrate",)):
        said = line.program(*words)
        assert (said.status, said.out, said.err) == (5, "", f"gateway: {told}\n")


def test_a_command_run_as_root_leaves_everything_its_owners(line: Line, tmp_path: Path) -> None:
    given_to_nobody(line.folder)
    assert line.program("user", "add", "writer").status == 0
    assert line.program("audit", "export", "--output", str(tmp_path / "out.jsonl")).status == 0
    assert line.program("migrate").status == 0
    assert owners(line.folder) == {NOBODY}
    assert (tmp_path / "out.jsonl").stat().st_uid == 0
    listed = line.program("audit", "list", "--json", "--kind", "account.add").json
    assert (listed[0]["principal"], listed[0]["principal_id"]) == (ME, 0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_gateway_on_a_directory_says_that_it_is_not_alone_and_a_later_one_does_not(
    line: Line, workers: str
) -> None:
    warning = f"gateway: warning: Another gateway serves {line.folder} already.\n"

    def up() -> contextlib.AbstractContextManager[Running]:
        return running("--data", str(line.folder), "up", "--port", str(free_port()), "--workers", workers)

    with up() as first:
        assert warning not in first.until_ready()
        for _ in range(2):
            with up() as second:
                assert warning in second.until_ready()
                assert second.stopped() == 0
        assert line.done("user", "list").err == ""
        first.process.kill()
        first.process.wait()
    with up() as later:
        assert warning not in later.until_ready()
        assert later.stopped() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_run_as_root_is_the_owners_process(line: Line, workers: str) -> None:
    given_to_nobody(line.folder)
    words = ("--data", str(line.folder), "up", "--port", str(free_port()), "--workers", workers)
    with running(*words) as gateway:
        gateway.until_ready()
        status = Path(f"/proc/{gateway.process.pid}/status").read_text(encoding="utf-8")
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert gateway.stopped() == 0
    assert owners(line.folder) == {NOBODY}


def test_migrate_says_that_there_was_nothing_to_do(line: Line) -> None:
    assert line.done("migrate").out == "The schema is up to date already.\n"


def test_certificate_is_shown_and_warned_about(line: Line, tmp_path: Path) -> None:
    none = line("cert", "show", "--json")
    assert (none.status, none.json["usable"]) == (1, False)
    with running("--data", str(line.folder), "up", "--port", str(free_port()), "--workers", "1") as gateway:
        gateway.until_ready()
        assert gateway.stopped() == 0
    shown = line.done("cert", "show", "--json").json
    assert set(shown["names"]) == set(LOCAL_NAMES)
    assert 80 <= shown["days_left"] <= 90
    assert shown["warning"] is None
    assert re.fullmatch(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", shown["authority_fingerprint"])
    (line.folder / "gateway.toml").write_text('[server]\nnames = ["other.example"]\n', encoding="utf-8")
    assert "does not name other.example" in line.done("cert", "show").err
    (line.folder / "tls" / "leaf.key").chmod(0o644)
    refused = line("cert", "show")
    assert refused.status == 1
    assert "chmod 600" in refused.err
    assert line.events("--kind", "certificate.show")[0]["outcome"] == "allowed"


def test_a_certificate_that_the_running_gateway_refused_is_shown_as_refused_beside_the_one_it_serves(
    line: Line, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    for place, name in ((folder, "registry.example"), (tmp_path / "other", "other.example")):
        subprocess.run([str(MAKE_CA), str(place), name], check=True, capture_output=True, timeout=60)
    pair = f'certificate = "{folder}/gateway.crt"\nkey = "{folder}/gateway.key"\n'
    names = f'[server]\nnames = ["registry.example"]\n{pair}'
    (line.folder / "gateway.toml").write_text(names, encoding="utf-8")
    before = line.done("cert", "show", "--json").json
    own = {name: (folder / name).read_bytes() for name in ("gateway.crt", "gateway.key")}

    def put(content: dict[str, bytes], kind: str) -> None:
        for name, value in content.items():
            (folder / name).write_bytes(value)
        end = time.monotonic() + 30
        while not line.events("--kind", kind) and time.monotonic() < end:
            time.sleep(0.2)

    with running("--data", str(line.folder), "up", "--port", str(free_port()), "--workers", "1") as gateway:
        gateway.until_ready()
        assert line.done("cert", "show", "--json").json == before
        put({name: (tmp_path / "other" / name).read_bytes() for name in own}, "certificate.rejected")
        refused = line("cert", "show")
        shown = line("cert", "show", "--json").json
        assert (refused.status, "refused and the old one stays: " in refused.err) == (1, True)
        assert "names none of registry.example" in refused.err
        assert (shown["usable"], shown["served"]) == (False, before["fingerprint"])
        assert shown["fingerprint"] != before["fingerprint"]
        put(own, "certificate.accepted")
        assert line.done("cert", "show", "--json").json == before
        put({name: (tmp_path / "other" / name).read_bytes() for name in own}, "certificate.rejected")
        assert gateway.stopped() == 0
    # The next one begins with what is there.
    assert "does not name registry.example" in line.done("cert", "show").err


def test_a_fault_is_one_line_and_a_traceback_only_when_asked(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("it broke")

    monkeypatch.setattr("gateway.cli.session.operator", broken)
    said = line("user", "list")
    assert said.status == 70
    assert said.err == (
        "gateway: a fault of the gateway's own: ZeroDivisionError: it broke; run gateway --debug … to see where\n"
    )
    asked = line("--debug", "user", "list")
    assert asked.status == 70
    assert "Traceback" in asked.err


def test_a_terminal_that_knows_few_letters_is_no_fault(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with running("--data", str(line.folder), "up", "--workers", "1", "--port", str(free_port())) as gateway:
        assert "\\u2026" in gateway.until_ready()


def test_help_and_version_need_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["--version"]) == 0
    assert capsys.readouterr().out == "gateway 0.1.0\n"
    assert entry.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "Exit status: 0 done; 1 refused" in shown
    for noun in ("up", "serve", "migrate", "user", "project", "grant", "revoke", "robot", "token", "can"):
        assert f"  {noun} " in shown
    for noun in ("backup", "restore"):
        assert f"  {noun} " in shown
    assert entry.run(["user"]) == 2
    assert "password" in capsys.readouterr().err
