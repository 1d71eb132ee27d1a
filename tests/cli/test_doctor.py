"""`gateway doctor`: what is well, what is not and how to mend it, with real registries in front of it and around it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.administration import State
from gateway.certificates import ensure_development_pair
from gateway.cli.doctor import unguarded
from gateway.settings import LOCAL_NAMES
from tests.cli.line import PROGRAM, Line, Said
from tests.services.authority import Authority
from tests.services.daemon import Daemon, accepts_connections, free_port
from tests.services.distribution import Registry, Way, running_registry
from tests.services.machine import own_address

#: Of a range that is nobody's (RFC 5737).
ADDRESS = "198.51.100.11"

NAMES = {"settings", "data directory", "secrets", "file system", "disk space", "certificate"}
RECORDS = {"trail", "durability", "clock", "search", "unsettled acts"}


@pytest.fixture
def healthy(line: Line) -> Line:
    """A data directory in which nothing is to be mended."""
    ensure_development_pair(line.folder / "tls", LOCAL_NAMES)
    return line


def findings(line: Line, status: int) -> dict[str, dict[str, Any]]:
    """What it finds by name, after the exit status that it must have."""
    said = line("doctor", "--json")
    assert said.status == status, said
    return {each["name"]: each for each in said.json["findings"]}


def the_bad_one(line: Line, name: str) -> str:
    """The text and remedy of the one finding that is bad, which must be *name*'s."""
    found = findings(line, 1)
    assert [each["name"] for each in found.values() if each["state"] == "bad"] == [name]
    return f"{found[name]['text']} {found[name]['mend']}"


def test_a_gateway_that_is_well_is_said_to_be(healthy: Line) -> None:
    said = healthy.done("doctor")
    rows = said.out.splitlines()
    assert all(row.startswith("ok    ") for row in rows)
    assert len(rows) == len(NAMES | RECORDS)
    assert said.err == ""


def test_the_json_form_says_the_same(healthy: Line) -> None:
    told = healthy.done("doctor", "--json").json
    assert set(told) == {"well", "findings"}
    assert told["well"] is True
    assert {each["name"] for each in told["findings"]} == NAMES | RECORDS
    assert all(set(each) == {"name", "state", "text", "mend"} for each in told["findings"])
    healthy.folder.chmod(0o777)
    said = healthy("doctor", "--json")
    assert (said.status, said.json["well"]) == (1, False)


def test_an_examination_is_an_event_of_the_operators(healthy: Line) -> None:
    healthy.folder.chmod(0o777)
    assert healthy("doctor").status == 1
    event = healthy.events("--kind", "gateway.doctor")[0]
    assert event["outcome"] == "allowed"
    assert event["principal"].startswith("operator:")
    assert event["detail"] == {"bad": ["data directory"], "warn": []}


def test_each_thing_to_mend_is_one_line_that_says_how(healthy: Line) -> None:
    healthy.folder.chmod(0o777)
    said = healthy("doctor")
    rows = [row for row in said.out.splitlines() if not row.startswith("ok ")]
    assert said.status == 1
    assert rows == [
        f"bad   data directory: The data directory {healthy.folder} is writable by everybody (mode 0777). "
        f"Run: chmod 700 {healthy.folder}"
    ]


def test_a_folder_within_that_everybody_may_write_to_is_bad(healthy: Line) -> None:
    (healthy.folder / "tls").chmod(0o777)
    assert f"{healthy.folder}/tls" in the_bad_one(healthy, "data directory")


@pytest.mark.parametrize("file", ["tls/ca.key", "keys/copy-of-the-secret"])
def test_a_secret_that_others_may_read_is_bad(healthy: Line, file: str) -> None:
    (healthy.folder / file).touch(0o600)
    (healthy.folder / file).chmod(0o640)
    said = the_bad_one(healthy, "secrets")
    assert f"{healthy.folder}/{file}" in said
    assert "chmod 600" in said


def test_a_secret_so_open_that_nothing_opens_is_told_with_all_the_rest(healthy: Line) -> None:
    (healthy.folder / "keys" / "secret").chmod(0o644)
    found = findings(healthy, 1)
    assert set(found) == NAMES | {"records"}
    assert {name for name, each in found.items() if each["state"] == "bad"} == {"secrets", "records"}
    assert "chmod 600" in found["records"]["text"]


def test_a_password_that_everybody_may_read_is_bad(healthy: Line) -> None:
    toml = healthy.folder / "gateway.toml"
    # Nothing listens there: the records cannot be opened, and the settings are looked at all the same.
    url = "postgresql://keeper:hunter2@127.0.0.1:1/gateway"
    toml.write_text(f'[database]\nurl = "{url}"\n', encoding="utf-8")
    toml.chmod(0o644)
    said = healthy("doctor")
    assert said.status == 1
    assert f"bad   settings: {toml} holds a password (url)" in said.out
    assert "bad   records: " in said.out
    assert "hunter2" not in said.out + said.err
    toml.chmod(0o600)
    assert f"ok    settings: {toml}" in healthy("doctor").out


def test_a_network_file_system_is_bad(healthy: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"1 0 0:1 / {healthy.folder} rw - nfs4 server:/export rw\n"
    monkeypatch.setattr("gateway.folder._mountinfo", lambda: mounts)
    found = findings(healthy, 1)
    assert found["file system"]["state"] == found["records"]["state"] == "bad"
    assert "nfs4" in found["file system"]["text"]


@pytest.mark.parametrize(
    ("bytes_", "files", "says"), [(4, 100, "4.0% of the space"), (90, 4, "4.0% of the file entries")]
)
def test_a_disk_that_is_nearly_full_is_bad(
    healthy: Line, monkeypatch: pytest.MonkeyPatch, bytes_: int, files: int, says: str
) -> None:
    full = os.statvfs_result((4096, 4096, 100, bytes_, bytes_, 100, files, files, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda folder: full)
    assert says in the_bad_one(healthy, "disk space")


def test_a_certificate_is_looked_at(line: Line, tmp_path: Path) -> None:
    assert "Start the gateway" in the_bad_one(line, "certificate")
    authority = Authority(tmp_path)

    def configured(names: tuple[str, ...], days: float) -> None:
        pair = authority.issue(*names, days=days)
        (line.folder / "gateway.toml").write_text(
            f'[server]\nnames = ["hub.example"]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n',
            encoding="utf-8",
        )

    configured(("hub.example",), -1)
    assert "expired on" in the_bad_one(line, "certificate")
    for names, days, says in (
        (("hub.example",), 3, "expires in"),
        (("other.example",), 30, "does not name hub.example"),
    ):
        configured(names, days)
        certificate = findings(line, 0)["certificate"]
        assert certificate["state"] == "warn"
        assert says in certificate["text"]
    configured(("hub.example",), 30)
    assert findings(line, 0)["certificate"]["state"] == "ok"


def test_a_clock_behind_the_trail_is_bad(healthy: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(UTC) - timedelta(hours=2)

    monkeypatch.setattr("gateway.administration.doctor.datetime", Stopped)
    assert "behind the newest event" in the_bad_one(healthy, "clock")


def test_a_directory_that_is_not_initialised_is_bad_and_a_missing_one_is_wrong_usage(
    line: Line, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    found = findings(Line(tmp_path / "empty", line.capsys), 1)
    assert "is not initialised; run: gateway" in found["records"]["text"]
    said: Said = Line(tmp_path / "none", line.capsys)("doctor")
    assert said.status == 2
    assert "There is no data directory" in said.err


# in front of a registry


@contextmanager
def before(healthy: Line, registry: Registry, *names: str) -> Iterator[Line]:
    """The line, with a gateway called *names* in front of *registry*."""
    known = (*names, *LOCAL_NAMES)
    ensure_development_pair(healthy.folder / "tls", known)
    text = [f"[server]\nnames = {list(known)}", f'[engine]\nkind = "upstream"\nurl = "{registry.url}"']
    if registry.username:
        secret = healthy.folder / "upstream-password"
        secret.touch(0o600)
        secret.write_text(registry.password, encoding="utf-8")
        text.append(f'username = "{registry.username}"\npassword_file = "{secret}"')
    if registry.ca_file is not None:
        text.append(f'ca_file = "{registry.ca_file}"')
    (healthy.folder / "gateway.toml").write_text("\n".join(text).replace("'", '"') + "\n", encoding="utf-8")
    yield healthy


UPSTREAM = {"upstream", "upstream deletes", "way around"}


@pytest.mark.parametrize("way", list(Way))
def test_a_registry_that_only_this_machine_reaches_is_well(healthy: Line, tmp_path: Path, way: Way) -> None:
    with running_registry(tmp_path, way) as registry, before(healthy, registry, "127.0.0.2") as line:
        found = findings(line, 0)
    assert set(found) == NAMES | RECORDS | UPSTREAM
    assert {each["state"] for each in found.values()} == {"ok"}


@pytest.mark.parametrize(("way", "asks"), [(Way.HTTP, "no password"), (Way.TLS, "no password"), (Way.HTPASSWD, "asks")])
def test_a_registry_that_can_be_reached_around_the_gateway_is_bad(
    healthy: Line, tmp_path: Path, way: Way, asks: str
) -> None:
    with running_registry(tmp_path, way, bind="0.0.0.0") as registry, before(healthy, registry, "127.0.0.2") as line:
        said = the_bad_one(line, "way around")
        scheme = registry.url.partition(":")[0]
        assert f"{scheme}://127.0.0.2:{registry.port} ({asks}" in said
        # Nothing but loopback is spared.
        assert "//127.0.0.1:" not in said
        assert "//localhost:" not in said
        for remedy in ("-p 127.0.0.1:5001:5000", "http.addr", "firewall"):
            assert remedy in said
        assert registry.password == "" or registry.password not in said


@pytest.mark.parametrize(("way", "state"), [(Way.HTTP, "warn"), (Way.HTPASSWD, "ok")])
def test_a_registry_behind_that_others_on_the_network_reach_wants_a_password(
    healthy: Line, tmp_path: Path, way: Way, state: str
) -> None:
    with own_address(ADDRESS), running_registry(tmp_path, way, bind=ADDRESS) as registry:
        elsewhere = replace(registry, url=f"http://{ADDRESS}:{registry.port}")
        with before(healthy, elsewhere) as line:
            assert findings(line, 0)["way around"]["state"] == state


def test_on_the_open_internet_it_must() -> None:
    assert unguarded("http://hub.example", ["10.0.0.7", "fd00::1"]).state is State.WARN
    assert unguarded("http://hub.example", ["10.0.0.7", "2606:4700::1"]).state is State.BAD


def test_another_registry_at_the_usual_port_is_bad(
    healthy: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with (
        running_registry(tmp_path / "one") as registry,
        running_registry(tmp_path / "other", bind="127.0.0.2") as forgotten,
        before(healthy, registry, "127.0.0.2") as line,
    ):
        monkeypatch.setattr("gateway.cli.doctor.USUAL_PORT", forgotten.port)
        assert f"http://127.0.0.2:{forgotten.port} (no password)" in the_bad_one(line, "way around")


def test_the_gateway_itself_is_no_way_around(healthy: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with running_registry(tmp_path) as registry, before(healthy, registry, "127.0.0.2") as line:
        toml = line.folder / "gateway.toml"
        served = f'[server]\nbind = "127.0.0.2"\nport = {port}\nworkers = 1\n'
        toml.write_text(toml.read_text(encoding="utf-8").replace("[server]\n", served), encoding="utf-8")
        gateway = Daemon([str(PROGRAM), "--data", str(line.folder), "serve"], tmp_path / "log-of-the-gateway")
        gateway.start(lambda: accepts_connections(port, "127.0.0.2"))
        try:
            monkeypatch.setattr("gateway.cli.doctor.USUAL_PORT", port)
            assert findings(line, 0)["way around"]["state"] == "ok"
        finally:
            gateway.stop()


def test_a_registry_that_deletes_nothing_is_a_warning(healthy: Line, tmp_path: Path) -> None:
    with running_registry(tmp_path, deletes=False) as registry, before(healthy, registry) as line:
        found = findings(line, 0)
        assert found["upstream deletes"]["state"] == "warn"
        assert "storage.delete.enabled" in found["upstream deletes"]["mend"]
        assert line.events("--kind", "gateway.doctor")[0]["detail"]["warn"] == ["upstream deletes"]


def test_asking_whether_it_deletes_leaves_nothing_there(healthy: Line, tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry, before(healthy, registry) as line:
        assert findings(line, 0)["upstream deletes"]["state"] == "ok"
        assert not registry.content.exists()


def test_files_of_the_registry_that_can_be_read_are_well(healthy: Line, tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry, before(healthy, registry) as line:
        blob = registry.content / "docker/registry/v2/blobs/sha256/00/00ff/data"
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"a blob")
        name_volume(line, registry.content)
        found = findings(line, 0)
        assert set(found) == NAMES | RECORDS | UPSTREAM | {"upstream volume"}
        assert found["upstream volume"]["state"] == "ok"


@pytest.mark.parametrize("there", ["blobs/sha256", "docker/registry/v2/blobs/sha256/00/00ff/data/none"])
def test_files_of_the_registry_that_cannot_be_read_are_a_warning(healthy: Line, tmp_path: Path, there: str) -> None:
    """The folder may be the wrong one, or no blob in it be a file that can be opened."""
    with running_registry(tmp_path) as registry, before(healthy, registry) as line:
        (registry.content / there).mkdir(parents=True)
        name_volume(line, registry.content)
        found = findings(line, 0)["upstream volume"]
    assert found["state"] == "warn"
    assert "but all through the registry" in found["text"]
    assert "rootdirectory" in found["mend"]


def name_volume(line: Line, volume: Path) -> None:
    toml = line.folder / "gateway.toml"
    toml.write_text(f'{toml.read_text(encoding="utf-8")}volume = "{volume}"\n', encoding="utf-8")


def test_a_registry_that_is_down_is_bad(healthy: Line, tmp_path: Path) -> None:
    with running_registry(tmp_path) as registry, before(healthy, registry) as line:
        registry.daemon.stop()
        said = the_bad_one(line, "upstream")
    assert "[engine] url" in said
    assert set(findings(line, 1)) == NAMES | RECORDS | {"upstream", "way around"}


def test_a_registry_that_does_not_let_the_gateway_in_is_bad(healthy: Line, tmp_path: Path) -> None:
    with running_registry(tmp_path, Way.HTPASSWD) as registry, before(healthy, registry) as line:
        (line.folder / "upstream-password").write_text("wrong", encoding="utf-8")
        assert "credential" in the_bad_one(line, "upstream")
