"""The real clients: skopeo, podman, docker and ctr, each with its own credentials and its own store.

Each is made with a directory that nobody else uses; what it remembers, it remembers there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.engines import ENVIRONMENT, Engine
from tests.services.images import Layout

# Debian's, and the newer one that a machine may have beside it.
DOCKER_PROGRAMS = tuple(path for path in (Path("/usr/bin/docker"), Path("/usr/local/bin/docker")) if path.exists())

_STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{home}/graph"
runroot = "{home}/run"
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a client did and said."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.code == 0

    @property
    def output(self) -> str:
        """All that it said."""
        return self.stdout + self.stderr

    def must(self) -> Result:
        """This very result; fails the test, with all that the client said, when it did not succeed."""
        assert self.ok, f"{' '.join(self.argv)}\nended with {self.code}:\n{self.output}"
        return self

    def json(self) -> Any:
        """What it printed, as JSON; the client must have succeeded."""
        return json.loads(self.must().stdout)


class _Client:
    """One program, run again and again with the same first arguments and the same environment."""

    def __init__(self, home: Path, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.argv = tuple(argv)
        self.environment = {**ENVIRONMENT, "HOME": str(home), "TMPDIR": str(home), **environment}

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120) -> Result:
        """Run it with these arguments and wait; a client that hangs fails the test."""
        argv = (*self.argv, *arguments)
        ended = subprocess.run(
            argv, input=stdin or "", capture_output=True, text=True, env=self.environment, timeout=timeout_seconds
        )
        return Result(argv, ended.returncode, ended.stdout, ended.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run it with these arguments beside the test, which must wait for it."""
        argv = (*self.argv, *arguments)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=self.environment
        )

    def login(self, registry: str, user: str, password: str) -> Result:
        """Sign in and remember it."""
        return self.run("login", "-u", user, "--password-stdin", registry, stdin=password)

    def logout(self, registry: str) -> Result:
        """Forget the credentials."""
        return self.run("logout", registry)

    def version(self) -> str:
        """What it says of its own version."""
        return self.run("--version").must().stdout.strip()


class Skopeo(_Client):
    """skopeo; credentials lie in `auth_file`."""

    def __init__(self, home: Path) -> None:
        self.auth_file = home / "auth.json"
        super().__init__(home, ["skopeo"], {"REGISTRY_AUTH_FILE": str(self.auth_file)})

    def copy(self, source: str, destination: str, *options: str, timeout_seconds: float = 300) -> Result:
        """Copy between two places in skopeo's own notation."""
        return self.run("copy", *options, source, destination, timeout_seconds=timeout_seconds)

    def push(self, source: str, reference: str, *options: str) -> Result:
        """Push from a layout; `--all` takes a whole index along."""
        return self.copy(source, f"docker://{reference}", *options)

    def pull(self, reference: str, destination: str, *options: str) -> Result:
        """Pull into a layout (`oci:DIR:TAG`) or a directory (`dir:DIR`)."""
        return self.copy(f"docker://{reference}", destination, *options)

    def inspect(self, reference: str, *options: str) -> Result:
        """Say what a reference is; `--raw` prints the manifest's bytes."""
        return self.run("inspect", *options, f"docker://{reference}")

    def delete(self, reference: str) -> Result:
        """Delete the manifest that a reference names."""
        return self.run("delete", f"docker://{reference}")

    def list_tags(self, repository: str) -> Result:
        """List a repository's tags, as JSON."""
        return self.run("list-tags", f"docker://{repository}")


class Podman(_Client):
    """podman with a store of its own; credentials lie in `auth_file`. It cannot run containers everywhere."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.auth_file = home / "auth.json"
        # podman wants the file that it is pointed at to exist.
        self.auth_file.write_text("{}")
        configuration = home / "containers.conf"
        configuration.write_text('[network]\nnetwork_backend = "netavark"\n')
        storage = home / "storage.conf"
        storage.write_text(_STORAGE.format(home=home))
        environment = {
            "REGISTRY_AUTH_FILE": str(self.auth_file),
            "CONTAINERS_STORAGE_CONF": str(storage),
            "CONTAINERS_CONF": str(configuration),
        }
        argv = ["podman", "--cgroup-manager=cgroupfs", "--events-backend=none", f"--tmpdir={home}/tmp"]
        super().__init__(home, argv, environment)

    def load(self, layout: Layout, tag: str, name: str) -> Result:
        """Take an image from a layout and name it."""
        loaded = self.run("pull", "-q", layout.source(tag)).must()
        return self.tag(loaded.stdout.strip(), name)

    def tag(self, image: str, name: str) -> Result:
        """Give an image another name."""
        return self.run("tag", image, name)

    def push(self, name: str, *options: str) -> Result:
        """Push an image under its name."""
        return self.run("push", *options, name, timeout_seconds=300)

    def pull(self, name: str, *options: str) -> Result:
        """Pull an image."""
        return self.run("pull", *options, name, timeout_seconds=300)

    def remove(self, *images: str) -> Result:
        """Forget images."""
        return self.run("rmi", "-f", *images)

    def inspect(self, image: str) -> Result:
        """Say what an image is, as JSON."""
        return self.run("image", "inspect", image)


class Docker(_Client):
    """One docker program, talking to an engine; credentials lie in `config.json` below `home`."""

    def __init__(self, home: Path, engine: Engine, program: Path = DOCKER_PROGRAMS[0]) -> None:
        environment = {"DOCKER_CONFIG": str(home), "DOCKER_HOST": f"unix://{engine.socket}"}
        super().__init__(home, [str(program)], {**environment, "DOCKER_CLI_HINTS": "false"})
        self.auth_file = home / "config.json"

    def load(self, layout: Layout, tag: str, name: str) -> Result:
        """Take an image from a layout and name it."""
        archive = layout.docker_archive(tag, name, self.home / "load.tar")
        try:
            return self.run("load", "-q", "-i", str(archive))
        finally:
            archive.unlink()

    def tag(self, image: str, name: str) -> Result:
        """Give an image another name."""
        return self.run("tag", image, name)

    def push(self, name: str, *options: str) -> Result:
        """Push an image under its name; the engine compresses the layers first."""
        return self.run("push", *options, name, timeout_seconds=300)

    def pull(self, name: str, *options: str) -> Result:
        """Pull an image."""
        return self.run("pull", *options, name, timeout_seconds=300)

    def remove(self, *images: str) -> Result:
        """Forget images."""
        return self.run("rmi", "-f", *images)

    def inspect(self, image: str) -> Result:
        """Say what an image is, as JSON."""
        return self.run("image", "inspect", image)

    def run_container(self, image: str) -> Result:
        """Run an image's command in a container without a network, and give what it printed."""
        return self.run("run", "--rm", "--network=none", image)


class Ctr(_Client):
    """containerd's own client; it remembers no credentials: they are given with each push and pull."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self._hosts = home / "hosts"
        super().__init__(home, ["ctr", "--address", str(engine.socket)], {})

    def trust(self, registry: str, ca: Path) -> None:
        """Have the CA trusted for HOST:PORT."""
        directory = self._hosts / registry
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(
            f'server = "https://{registry}"\n[host."https://{registry}"]\n'
            f'capabilities = ["pull", "resolve", "push"]\nca = "{ca}"\n'
        )

    def login(self, registry: str, user: str, password: str) -> Result:
        """ctr has no such command."""
        raise NotImplementedError("ctr remembers no credentials: pass them to push and pull")

    def load(self, layout: Layout, tag: str, name: str, *options: str) -> Result:
        """Take every image of a layout, then name one; `--all-platforms` takes an index whole."""
        archive = layout.archive(self.home / "load.tar")
        try:
            self.run("images", "import", *options, "--base-name", "loaded", str(archive), timeout_seconds=300).must()
        finally:
            archive.unlink()
        return self.run("images", "tag", "--force", f"loaded:{tag}", name)

    def push(self, name: str, credentials: tuple[str, str] | None = None, *options: str) -> Result:
        """Push an image under its name."""
        return self._move(["images", "push"], name, credentials, options)

    def pull(self, name: str, credentials: tuple[str, str] | None = None, *options: str) -> Result:
        """Pull an image for this machine's platform, and unpack it."""
        return self._move(["images", "pull"], name, credentials, options)

    def fetch(self, name: str, credentials: tuple[str, str] | None = None) -> Result:
        """Pull an index whole, attestations too, without unpacking any of it."""
        return self._move(["content", "fetch", "--all-platforms"], name, credentials, ())

    def remove(self, *images: str) -> Result:
        """Forget images, and at once what nothing else names."""
        return self.run("images", "remove", "--sync", *images)

    def _move(
        self, way: Sequence[str], name: str, credentials: tuple[str, str] | None, options: Sequence[str]
    ) -> Result:
        who = ("-u", ":".join(credentials)) if credentials else ()
        return self.run(*way, *who, "--hosts-dir", str(self._hosts), *options, name, timeout_seconds=300)
