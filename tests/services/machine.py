"""What a test changes on the machine itself, and puts back: names it knows, authorities its engines trust."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CERTIFICATES = Path("/etc/docker/certs.d")
HOSTS = Path("/etc/hosts")
# Of a range that is nobody's (RFC 5737). docker does not check certificates of whatever leads to 127.0.0.0/8.
ADDRESS = "198.51.100.10"
_MARK = "# added by a test, process"


@contextmanager
def trusted(registry: str, ca: Path) -> Iterator[None]:
    """Docker, podman, skopeo and buildah trust the CA for `registry` (HOST, or HOST:PORT unless 443) in the block."""
    directory = CERTIFICATES / registry
    ours = directory / "made-by-a-test"
    if ours.exists():
        shutil.rmtree(directory)
    assert not directory.exists(), f"{directory} is there already, and is not ours to replace: remove it by hand"
    directory.mkdir(parents=True)
    try:
        ours.touch()
        shutil.copyfile(ca, directory / "ca.crt")
        yield
    finally:
        shutil.rmtree(directory)


@contextmanager
def known_hosts(*names: str, address: str = "127.0.0.1") -> Iterator[None]:
    """This machine resolves the names to `address` in the block, by a line in /etc/hosts.

    A program written in Go looks at the file every five seconds only: enter the block before a daemon is started.
    """
    line = f"{address} {' '.join(names)} {_MARK} {os.getpid()}"
    _edit_hosts(add=line)
    try:
        yield
    finally:
        _edit_hosts(remove=line)


def _edit_hosts(*, add: str = "", remove: str = "") -> None:
    """Changes lines of our own in /etc/hosts, beside other runs that do so, and clears away those of dead ones."""
    # Written in place, under a lock: in a container the file is a mount and cannot be replaced.
    with HOSTS.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = [line for line in file.read().splitlines() if line not in {add, remove} and not _is_stale(line)]
        text = "\n".join([*lines, add] if add else lines) + "\n"
        file.seek(0)
        file.write(text)
        file.truncate()


def _is_stale(line: str) -> bool:
    _, mark, process = line.partition(_MARK)
    return bool(mark) and not Path(f"/proc/{process.strip()}").exists()


@contextmanager
def own_address(address: str = ADDRESS) -> Iterator[None]:
    """
    This machine, and nobody else, reaches itself by `address` in the block; wants root.

    It stays for as long as a name leads to it.
    """
    added = subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], capture_output=True, text=True)
    assert added.returncode == 0 or "exists" in added.stderr or "assigned" in added.stderr, added.stderr
    try:
        yield
    finally:
        if address not in HOSTS.read_text():
            subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], capture_output=True)
