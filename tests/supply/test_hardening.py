"""The unit and the container file: what they promise, and the gateway run as they say, as far as one machine can."""

from __future__ import annotations

import configparser
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.protocol.harness import basic, sha256
from tests.services.daemon import Daemon, free_port, scratch

ROOT = Path(__file__).parent.parent.parent
UNIT = ROOT / "config" / "gateway.service"
CONTAINER = ROOT / "config" / "Containerfile"
PROGRAM = Path(sys.executable).with_name("gateway")
#: systemd counts exposure from 0 (none) to 100; a plain unit has 96.
EXPOSURE = 15
NOBODY = 65534


def service() -> dict[str, list[str]]:
    """The settings of the unit's service, each with all its values."""
    found: dict[str, list[str]] = {}
    section = UNIT.read_text().partition("[Service]\n")[2].partition("\n[")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container file's last stage, in order."""
    text = re.sub(r"\\\n\s*", "", CONTAINER.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = max(place for place, line in enumerate(lines) if line.startswith("FROM "))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines[last:]]


def of(name: str) -> str:
    return [value for instruction, value in instructions() if instruction == name][-1]


# the unit


def test_systemd_reads_the_unit_without_a_complaint(tmp_path: Path) -> None:
    unit = tmp_path / "gateway.service"
    unit.write_text(
        re.sub(r"/opt/gateway/bin/gateway", str(PROGRAM), UNIT.read_text()).replace("User=gateway", "User=daemon")
    )
    ended = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (ended.returncode, [line for line in ended.stderr.splitlines() if "gateway.service" in line]) == (0, [])


def test_systemd_finds_the_unit_little_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", UNIT]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_the_unit_holds_no_privilege_and_writes_to_its_data_alone() -> None:
    told = service()
    assert told["User"] == ["gateway"]
    assert told["ProtectSystem"] == ["strict"]
    assert told["CapabilityBoundingSet"] == told["AmbientCapabilities"] == [""]
    assert told["NoNewPrivileges"] == ["yes"]
    assert not {"ReadWritePaths", "ReadWriteDirectories", "BindPaths", "PermissionsStartOnly"} & set(told)
    [command] = told["ExecStart"]
    assert command.split()[1:] == ["--data", f"/var/lib/{told['StateDirectory'][0]}", "serve"]
    assert not [name for name in told if name.startswith("Exec") and name != "ExecStart"]
    configparser.ConfigParser(strict=False, interpolation=None).read_string(UNIT.read_text())


# the container


def test_the_container_is_nobody_s_and_has_one_volume() -> None:
    assert re.fullmatch(r"[1-9][0-9]{3,}:[1-9][0-9]{3,}", of("USER"))
    names = [name for name, _ in instructions()]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert [value for name, value in instructions() if name == "VOLUME"] == ["/data"]
    assert "ADD" not in names
    assert json.loads(of("ENTRYPOINT")) + json.loads(of("CMD")) == [
        "/opt/gateway/bin/gateway",
        "--data",
        "/data",
        "serve",
    ]
    assert not re.search(r"(?i)(password|secret|token)\s*=", CONTAINER.read_text())


def test_everything_in_the_container_is_installed_by_its_hash_or_built_from_this_tree() -> None:
    text = re.sub(r"\\\n\s*", "", CONTAINER.read_text())
    installs = re.findall(r"pip install[^&\n]*", text)
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-index /wheels" in each for each in installs)
    assert not re.search(r"(?m)^FROM [^\n]*:latest", text)
    assert "curl" not in text
    for line in re.findall(r"(?m)^COPY ((?!--from)[^\n]+)$", text):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


# both, run


READ_ONLY = """
set -e
data=$1 closed=$2 aside=$3; shift 3
mount --bind "$data" "$data"
# Where Python and this tree lie in somebody's closed home, nobody sees these of it, and nothing else.
if [ -n "$closed" ]; then
    number=0
    for place in "$@"; do
        [ "$place" != -- ] || break
        number=$((number + 1)); mkdir "$aside/$number"; mount --bind "$place" "$aside/$number"
    done
    mount -t tmpfs -o mode=755 tmpfs "$closed"
fi
number=0
while [ "$1" != -- ]; do
    number=$((number + 1)); mkdir -p "$1"; mount --bind "$aside/$number" "$1"; shift
done
shift
for place in / /dev/shm /run $closed; do
    ! mountpoint -q "$place" || mount -o remount,ro,bind "$place"
done
cd "$data"
exec "$@"
"""


def closed_folder() -> tuple[str, list[str]]:
    """The folder that keeps nobody from Python or this tree, "" if none does; and which of them lie in it."""
    needed = [Path(sys.base_prefix), Path(sys.prefix), ROOT]
    for place in needed:
        for folder in reversed(place.parents):
            if not folder.stat().st_mode & 0o001:
                return str(folder), [str(each) for each in needed if each.is_relative_to(folder)]
    return "", []


@pytest.fixture(scope="module")
def hardened() -> Iterator[tuple[Daemon, Path, int]]:
    """A gateway without privileges on a root that cannot be written to, with the container's environment."""
    port = free_port()
    environment = dict(pair.split("=", 1) for pair in of("ENV").split())
    # All that could be done with the address here is to open it to others.
    environment |= {"PATH": os.environ["PATH"], "GATEWAY_SERVER__BIND": "127.0.0.1", "GATEWAY_SERVER__WORKERS": "2"}
    with scratch("hardened") as folder:
        data = folder / "data"
        data.mkdir(mode=0o700)
        root = os.getuid() == 0
        if root:
            os.chown(data, NOBODY, NOBODY)
            folder.chmod(0o755)
        privileges = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []
        inside = ["setpriv", *who, *privileges, "--", str(PROGRAM), "--data", str(data), "up", "--port", str(port)]
        closed, places = closed_folder() if root else ("", [])
        outside = ["unshare", "--mount", *([] if root else ["--map-root-user"]), "sh", "-c", READ_ONLY, "sh", str(data)]
        daemon = Daemon(
            [*outside, closed, str(folder), *places, "--", *inside], folder / "log", environment=environment
        )
        try:
            daemon.start(lambda: b"Ready: " in (folder / "log").read_bytes(), timeout_seconds=60)
            yield daemon, data, port
        finally:
            daemon.stop()


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        found += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
    return found


def test_it_serves_without_privileges_on_a_read_only_root(hardened: tuple[Daemon, Path, int]) -> None:
    daemon, data, port = hardened
    log = (data.parent / "log").read_text()
    password = re.search(r"(?m)^\s*Password:?\s+(\S+)", log)
    assert password is not None, log
    trust = ssl.create_default_context(cafile=str(data / "tls" / "ca.crt"))

    def ask(method: str, path: str, authorization: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"Authorization": authorization}
        request = Request(f"https://localhost:{port}{path}", body, headers, method=method)
        with urlopen(request, context=trust, timeout=20) as reply:
            return reply.status, reply.read()

    scope = "repository:gallery/ui:pull,push"
    _, told = ask("GET", f"/token?scope={scope}", basic("admin", password[1]))
    bearer = f"Bearer {json.loads(told)['token']}"
    digest = sha256(b"from a read-only root")
    place = f"/v2/gallery/ui/blobs/uploads/?digest={digest}"
    assert ask("POST", place, bearer, b"from a read-only root")[0] == 201
    assert ask("GET", f"/v2/gallery/ui/blobs/{digest}", bearer) == (200, b"from a read-only root")
    assert len(family(daemon.pid)) >= 3


def test_every_process_is_nobody_s_and_can_gain_nothing(hardened: tuple[Daemon, Path, int]) -> None:
    daemon, data, _ = hardened
    for pid in family(daemon.pid):
        told = status_of(pid)
        if os.getuid() == 0:
            assert set(told["Uid"].split()) == set(told["Gid"].split()) == {str(NOBODY)}
            assert told["CapEff"] == told["CapPrm"] == "0" * 16
        assert told["CapBnd"] == told["CapInh"] == told["CapAmb"] == "0" * 16
        assert told["NoNewPrivs"] == "1"
        mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        writable = {fields[4] for fields in mounts if fields[5].split(",")[0] == "rw"}
        assert "/" not in writable
        assert str(data.resolve()) in writable
    assert not Path("/tmp/written").exists()
