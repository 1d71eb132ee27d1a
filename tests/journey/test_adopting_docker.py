"""docs/adopt.md, typed from its first line to its last into one shell, with a real docker and a registry in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.journey.test_adopting import GUIDE, lines_of
from tests.services.daemon import Daemon, accepts_connections, scratch
from tests.services.engines import Engine, running_containerd, running_docker
from tests.services.machine import known_hosts, trusted

IMAGE = "registry.local:5000/gallery/ui:v1"
CONFIGURATION = """\
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000"}
"""


class Terminal:
    """One shell, as somebody who follows the guide has it: what a line sets, later ones know."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self.home = home
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "DOCKER_HOST": f"unix://{engine.socket}",
        }
        self._known: list[str] = []

    def types(self, line: str, *, fails: bool = False, typed: str = "") -> str:
        """Everything that the line prints; it must end well, or must not."""
        script = "\n".join([*self._known, line])
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self.home,
            env=self.environment,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert (ended.returncode != 0) == fails, f"{line}\n{ended.stdout}"
        if found := re.match(r"([A-Z]+)=", line):
            # Later on something else answers to the question that was asked.
            value = subprocess.run(
                ["bash", "-c", f'{line}; printf %s "${found[1]}"'],
                cwd=self.home,
                env=self.environment,
                capture_output=True,
                text=True,
                check=True,
            )
            self._known.append(f"{found[1]}={value.stdout}")
        return ended.stdout

    @contextmanager
    def serves(self, line: str) -> Iterator[None]:
        """The line that goes on in a terminal of its own."""
        log = self.home / "log"
        program, *arguments = line.split()
        argv = [str(Path(sys.executable).parent / program), *arguments]
        gateway = Daemon(argv, log, environment=self.environment, directory=self.home)
        gateway.start(lambda: "\nReady: " in log.read_text(), timeout_seconds=60)
        try:
            yield
        finally:
            gateway.stop(timeout_seconds=60)


def make_registry_image(terminal: Terminal) -> None:
    """What `registry:2` is, from this machine's own CNCF Distribution."""
    program = shutil.which("docker-registry")
    assert program is not None
    root = terminal.home / "image"
    for place, source in (("bin/registry", program), *((found, found) for found in _libraries(program))):
        target = root / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (root / "etc/docker/registry").mkdir(parents=True)
    (root / "etc/docker/registry/config.yml").write_text(CONFIGURATION)
    for folder in ("tmp", "var/lib/registry"):
        (root / folder).mkdir(parents=True)
    said = ('ENTRYPOINT ["registry"]', 'CMD ["serve", "/etc/docker/registry/config.yml"]', "EXPOSE 5000")
    changes = " ".join(f"--change '{change}'" for change in (*said, 'VOLUME ["/var/lib/registry"]', "ENV PATH=/bin"))
    terminal.types(f"tar -C image -c . | docker import {changes} - registry:2")


def _libraries(program: str) -> list[str]:
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"/\S+", found)


def answers(port: int) -> None:
    """Returns when something listens on the port."""
    until = time.monotonic() + 20
    while not accepts_connections(port):
        assert time.monotonic() < until, f"nothing listens on port {port}"
        time.sleep(0.05)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    for port in (5000, 5001):
        assert not accepts_connections(port), f"the guide is about port {port}, and something else listens there"
    with (
        known_hosts("registry.local"),
        scratch("guide") as home,
        running_containerd() as containerd,
        running_docker(containerd, "--bip=172.29.7.1/24") as engine,
    ):
        terminal = Terminal(home, engine)
        make_registry_image(terminal)
        yield terminal
        terminal.types("docker container rm --force --volumes $(docker container ls --all --quiet)")


def passwords(said: str) -> str:
    found = re.search(r"\b(?:[a-z0-9]{4}-){6}[a-z0-9]{4}\b", said)
    assert found is not None, said
    return found[0]


@pytest.mark.long
@pytest.mark.journey
def test_every_line_of_the_guide_is_typed_into_docker(terminal: Terminal) -> None:
    lines = lines_of(GUIDE.read_text())
    begin = lines.index("docker container run -d -p 5000:5000 --restart always registry:2")
    terminal.types(lines[begin])
    answers(5000)
    terminal.types("docker tag registry:2 localhost:5000/gallery/ui:v1 && docker push localhost:5000/gallery/ui:v1")
    given: dict[str, str] = {}
    rest = iter(lines[begin + 1 :])
    for line in rest:
        if line == "gateway up":
            break
        if line.startswith(("gateway", "docker", "OLD=")):
            terminal.types(line)
        if "registry-behind" in line:
            answers(5001)
    with terminal.serves("gateway up"), trusted("registry.local:5000", terminal.home / "data/tls/ca.crt"):
        # The gateway listens where the guide says; the name leads there.
        _behind_the_gateway(terminal, rest, given)
    for line in rest:
        terminal.types(line)
        if line.startswith("sed "):
            assert "ok    upstream volume" in terminal.types("gateway doctor")
    answers(5000)
    assert "v1" in terminal.types("curl --silent --fail http://127.0.0.1:5000/v2/gallery/ui/tags/list")


def _behind_the_gateway(terminal: Terminal, rest: Iterator[str], given: dict[str, str]) -> None:
    for line in rest:
        if line.startswith("gateway user add"):
            given[line.split()[-1]] = passwords(terminal.types(line))
        elif line.startswith("docker login"):
            terminal.types(f"{line} --password-stdin", typed=given["writer"])
        else:
            said = terminal.types(line)
            assert "way around: No registry was found" in said or line != "gateway doctor", said
        if line.startswith("gateway audit list"):
            break
    terminal.types("docker login registry.local:5000 -u reader --password-stdin", typed=given["reader"])
    refused = terminal.types(f"docker push {IMAGE}", fails=True)
    assert "push on gallery/ui is missing" in refused
    terminal.types(f"docker pull {IMAGE}")
