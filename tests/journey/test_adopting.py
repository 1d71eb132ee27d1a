"""docs/adopt.md, followed: every line of it that begins with `gateway`, as it stands there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.clients import Result
from tests.services.daemon import Daemon, free_port, scratch
from tests.services.distribution import Registry, running_registry
from tests.services.filling import OCI_CONFIG, OCI_MANIFEST, Filling
from tests.services.wire import Wire

GUIDE = Path(__file__).parents[2] / "docs/adopt.md"
REPOSITORY = "gallery/ui"


@dataclass
class Follower:
    """Somebody with a terminal, who types what the guide says; *places* are the ports that its ports stand for."""

    home: Path
    port: int
    places: dict[str, str]
    said: dict[str, list[Result]] = field(default_factory=dict)

    def types(self, line: str) -> Result:
        """One line of the guide, in a shell."""
        for written, meant in self.places.items():
            line = line.replace(written, meant)
        ended = subprocess.run(
            ["sh", "-c", line], cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=120
        )
        result = Result(("sh", "-c", line), ended.returncode, ended.stdout, ended.stderr)
        self.said.setdefault(" ".join(line.split()[:2]), []).append(result)
        return result

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        # The one thing that is not as in the guide: the ports of this machine are not the test's to choose.
        path = f"{Path(sys.executable).parent}:{kept['PATH']}"
        return {**kept, "PATH": path, "GATEWAY_SERVER__PORT": str(self.port)}

    @contextmanager
    def serves(self, line: str) -> Iterator[Wire]:
        """The line that goes on until it is stopped."""
        log = self.home / "log"
        gateway = Daemon(
            [str(Path(sys.executable).parent / line.split()[0]), *shlex.split(line)[1:]],
            log,
            environment=self.environment,
            directory=self.home,
        )
        gateway.start(lambda: "\nReady: " in log.read_text(), timeout_seconds=60)
        try:
            yield Wire("registry.local", self.port, self.home / "data/tls/ca.crt", "127.0.0.1")
        finally:
            gateway.stop(timeout_seconds=60)

    def password(self, name: str) -> str:
        """What was printed when the user was added."""
        shown = next(result.output for result in self.said["gateway user"] if name in result.argv[-1].split())
        found = re.search(r"\b(?:[a-z0-9]{4}-){6}[a-z0-9]{4}\b", shown)
        assert found is not None, shown
        return found[0]


def lines_of(guide: str) -> list[str]:
    """The lines to be typed, continued ones joined."""
    blocks = re.findall(r"^```\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def push(wire: Wire, token: str, tag: str) -> None:
    config = b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    wire.push_blob(REPOSITORY, token, config, digest)
    described = {"mediaType": OCI_CONFIG, "digest": digest, "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": []}
    kind = {"Content-Type": OCI_MANIFEST}
    path = f"/v2/{REPOSITORY}/manifests/{tag}"
    wire.ask("PUT", path, token=token, body=json.dumps(manifest).encode(), headers=kind).must(201)


def test_the_guide_is_followed_to_its_end_and_back() -> None:
    lines = lines_of(GUIDE.read_text())
    assert sum(line.startswith("gateway ") for line in lines) >= 10
    with scratch("adopting") as home, ExitStack() as running:
        content = home / "registry"
        content.mkdir()
        old = running.enter_context(running_registry(content))
        image = Filling(old).image(REPOSITORY, "v1")
        signature = Filling(old).about(REPOSITORY, image, "signature")
        new = running.enter_context(running_registry(content))
        _follow(running, lines, home, old, new, signature.digest, image.digest)
        running.close()
        with running_registry(content) as again:
            for reference in ("pushed", "v1", image.digest):
                path = f"/v2/{REPOSITORY}/manifests/{reference}"
                assert Filling(again).request("GET", path, headers={"Accept": OCI_MANIFEST})[0] == 200


def _follow(
    running: ExitStack, lines: list[str], home: Path, old: Registry, new: Registry, signature: str, subject: str
) -> None:
    places = {"127.0.0.1:5000": f"127.0.0.1:{old.port}", "127.0.0.1:5001": f"127.0.0.1:{new.port}"}
    follower = Follower(home, free_port(), places)
    wire: Wire | None = None
    for line in lines:
        if line == "docker container stop $OLD":
            Filling(old).image(REPOSITORY, "late", "pushed to the old port while it was still open")
            old.daemon.stop()
        elif line == "gateway up":
            wire = running.enter_context(follower.serves(line))
        elif line.startswith("docker login"):
            assert wire is not None
            writer, reader = (
                wire.token((name, follower.password(name)), f"repository:{REPOSITORY}:pull,push")
                for name in ("writer", "reader")
            )
            for tag in ("v1", "late"):
                wire.ask("GET", f"/v2/{REPOSITORY}/manifests/{tag}").must(401)
                wire.ask("GET", f"/v2/{REPOSITORY}/manifests/{tag}", token=reader).must(200)
            listed = wire.ask("GET", f"/v2/{REPOSITORY}/referrers/{subject}", token=reader).must(200).json
            assert [each["digest"] for each in listed["manifests"]] == [signature]
            push(wire, writer, "pushed")
            kind = {"Content-Type": OCI_MANIFEST}
            path = f"/v2/{REPOSITORY}/manifests/v1"
            wire.ask("PUT", path, token=reader, body=b"{}", headers=kind).must(401)
        elif line == "gateway doctor":
            # It looks at the whole machine, of which other things may be wrong.
            assert re.search(r"^ok +way around: ", follower.types(line).stdout, re.MULTILINE)
        elif line.startswith("gateway "):
            follower.types(line).must()
        if line.startswith("gateway ") and "--plan" in line:
            assert not (home / "data").exists()
    assert "added      gallery/ui" in follower.said["gateway adopt"][0].stdout
    assert "late" not in follower.said["gateway adopt"][1].stdout
    assert "changed    gallery/ui" in follower.said["gateway adopt"][2].stdout
    outcomes = {row.split()[1] for row in follower.said["gateway audit"][0].stdout.splitlines()[1:]}
    assert {"allowed", "denied"} <= outcomes
