"""The two daemons behind real clients, dockerd and containerd, each with directories of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.daemon import Daemon, scratch

# Nothing of the caller's environment: SSL_CERT_FILE, a proxy or a HOME would change what the engines do.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

_CONTAINERD = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{directory}/containerd.sock"
[ttrpc]
address = "{directory}/ttrpc.sock"
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine; clients reach it by its socket."""

    socket: Path
    daemon: Daemon


@contextmanager
def running_containerd() -> Iterator[Engine]:
    """A containerd for as long as the block lasts."""
    with scratch("ctd") as directory:
        configuration = directory / "config.toml"
        configuration.write_text(_CONTAINERD.format(directory=directory))
        daemon = Daemon(
            ["containerd", "--config", str(configuration)], directory / "log", environment=_environment(directory)
        )
        socket = directory / "containerd.sock"
        daemon.start(lambda: _answers("ctr", "--address", str(socket), "version"))
        try:
            yield Engine(socket, daemon)
        finally:
            daemon.stop()


@contextmanager
def running_docker(containerd: Engine, network: str = "--bridge=none") -> Iterator[Engine]:
    """
    A dockerd for as long as the block lasts; it touches no firewall, and has no network for containers.

    With "--bip=ADDRESS/BITS" as *network* there is one, and containers can publish ports; wants root.
    """
    with scratch("dkr") as directory:
        socket = directory / "docker.sock"
        argv = ["/usr/sbin/dockerd", "-H", f"unix://{socket}", "--containerd", str(containerd.socket)]
        argv += ["--data-root", str(directory / "root"), "--exec-root", str(directory / "exec")]
        argv += ["--pidfile", str(directory / "pid"), "--config-file", str(directory / "daemon.json")]
        argv += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", network]
        argv += ["--storage-driver=overlay2"]
        (directory / "daemon.json").write_text("{}")
        daemon = Daemon(argv, directory / "log", environment=_environment(directory))
        daemon.start(lambda: _answers("/usr/bin/docker", "-H", f"unix://{socket}", "version"))
        try:
            yield Engine(socket, daemon)
        finally:
            daemon.stop()
            _unmount_below(directory)


def _environment(home: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "HOME": str(home)}


def _answers(*argv: str) -> bool:
    return subprocess.run(argv, capture_output=True, env=ENVIRONMENT, timeout=20).returncode == 0


def _unmount_below(directory: Path) -> None:
    # A killed daemon leaves overlay mounts, without whose removal the directory cannot go.
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True, timeout=20)
