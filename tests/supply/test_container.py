"""config/Containerfile, built by a real docker and run as its first lines say: log in, push, pull, write nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.test_adopting_docker import Terminal, passwords
from tests.services.daemon import accepts_connections, scratch
from tests.services.engines import running_containerd, running_docker
from tests.services.machine import known_hosts, trusted
from tests.supply.parts import WHEELS_ALONE, lay_libraries, lay_python, lay_wheels

ROOT = Path(__file__).parent.parent.parent
CONTAINER = ROOT / "config" / "Containerfile"
BASE = "python:3.11-slim-bookworm"
NAME = "registry.local"
LOCKED = "--read-only --cap-drop=all --security-opt=no-new-privileges"


def make_base_image(terminal: Terminal) -> None:
    """Stands for the base that the file names: a shell, this machine's Python, and wheels to find without network."""
    root = terminal.home / "base"
    lay_python(root)
    for folder in ("bin", "etc", "root", "tmp", "proc", "sys", "dev"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    install = Path("/usr/bin/install")  # Debian's busybox has none.
    lay_libraries(root, install)
    shutil.copy(install, root / "bin/install")
    shutil.copy("/bin/busybox", root / "bin/busybox")
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in applets:
        if not (root / "bin" / name).exists():
            (root / "bin" / name).symlink_to("busybox")
    lay_wheels(root / "wheels")
    (root / "etc/pip.conf").write_text(WHEELS_ALONE)
    path = "ENV PATH=/usr/local/bin:/bin"
    terminal.types(f"tar -C base -c . | docker import --change '{path}' - {BASE}")


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    assert not accepts_connections(5000), "the container is published on port 5000, and something else listens there"
    with (
        known_hosts(NAME),
        scratch("container") as home,
        running_containerd() as containerd,
        running_docker(containerd, "--bip=172.29.8.1/24") as engine,
    ):
        terminal = Terminal(home, engine)
        make_base_image(terminal)
        yield terminal
        terminal.types("docker container ls --all --quiet | xargs --no-run-if-empty docker container rm --force")


def commands() -> dict[str, str]:
    """The commands that the file's first lines tell of, by their verb, for docker and this machine's name."""
    lines = [line.removeprefix("#").strip() for line in CONTAINER.read_text().partition("FROM ")[0].splitlines()]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    told = [line.replace("registry.example.com", NAME) for line in joined.splitlines() if line.startswith("podman ")]
    assert len(told) == 3
    build, first, serve = (line.replace("podman ", "docker ", 1) for line in told)
    return {"build": build, "first": first, "serve": serve}


@pytest.mark.long
@pytest.mark.journey
def test_the_container_is_built_and_run_as_its_file_says(terminal: Terminal) -> None:
    told = commands()
    assert all(LOCKED in told[each] for each in ("first", "serve"))
    terminal.types(f"cd {ROOT} && {told['build']}")

    # A test has no terminal; what is printed is read from the log of the container instead.
    terminal.types(told["first"].replace("--rm -it", "-d --name first"))
    password = _first_password(terminal)
    terminal.types("docker stop --time 60 first")
    assert terminal.types("docker inspect --format '{{.State.ExitCode}}' first").strip() == "0"

    terminal.types(told["serve"])
    terminal.types("docker cp gateway:/data/tls/ca.crt ca.crt")
    _is_ready(terminal)
    with trusted(f"{NAME}:5000", terminal.home / "ca.crt"):
        _works(terminal, password)
    assert _inside(terminal, "id -u").strip() == "10001"
    capabilities = dict(re.findall(r"(Cap\w+):\s*([0-9a-f]+)", _inside(terminal, "cat /proc/1/status")))
    assert {int(value, 16) for value in capabilities.values()} == {0}, capabilities
    for place in ("/", "/opt/gateway", "/tmp", "/etc"):
        said = terminal.types(f"docker exec gateway touch {place}/written", fails=True)
        assert "Read-only file system" in said
    terminal.types("docker stop --time 90 gateway")
    assert terminal.types("docker inspect --format '{{.State.ExitCode}}' gateway").strip() == "0"
    terminal.types("docker start gateway")
    _is_ready(terminal)
    with trusted(f"{NAME}:5000", terminal.home / "ca.crt"):
        terminal.types(f"docker pull {NAME}:5000/gallery/ui:v1")


def _first_password(terminal: Terminal) -> str:
    until = time.monotonic() + 60
    while "\nReady: " not in (said := terminal.types("docker logs first 2>&1")):
        assert time.monotonic() < until, said
        time.sleep(0.5)
    return passwords(said)


def _works(terminal: Terminal, password: str) -> None:
    image = f"{NAME}:5000/gallery/ui:v1"
    gateway = "docker exec gateway /opt/gateway/bin/gateway --data /data"
    terminal.types(f"docker login {NAME}:5000 -u admin --password-stdin", typed=password)
    terminal.types(f"docker tag {BASE} {image} && docker push {image}")
    terminal.types(f"docker rmi {image} && docker pull {image}")
    reader = passwords(terminal.types(f"{gateway} user add reader"))
    terminal.types(f"docker login {NAME}:5000 -u reader --password-stdin", typed=reader)
    assert "denied" in terminal.types(f"docker push {image}", fails=True)
    assert "denied" in terminal.types(f"{gateway} audit list --principal reader")
    terminal.types(f"docker login {NAME}:5000 -u admin --password-stdin", typed=password)


def _is_ready(terminal: Terminal) -> None:
    # docker itself listens on the port before anything in the container does.
    patient = "--retry 60 --retry-delay 1 --retry-all-errors"
    terminal.types(f"curl --silent --fail --cacert ca.crt {patient} https://{NAME}:5000/health/ready")


def _inside(terminal: Terminal, line: str) -> str:
    return terminal.types(f"docker exec gateway {line}")
