"""A real systemd as the first process of a machine of its own: this one's files, with what it writes kept in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.engines import ENVIRONMENT

# A new root over this machine's, pivoted into: below a mere chroot no user namespace can be made, as units ask for.
# None of Debian's own units is started but the journal: udev and sysctl would reach for this machine's devices.
_BOOT = """
set -eu
over=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$over"
mkdir "$over/upper" "$over/work" "$over/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$over/upper,workdir=$over/work" "$over/root"
cd "$over/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $place; done
chmod 1777 tmp
for device in null zero full random urandom tty; do cp -a /dev/$device dev/; done
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
ip link set lo up
rm -rf etc/systemd/system/*.wants lib/systemd/system/*.wants
mkdir lib/systemd/system/sockets.target.wants
ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket lib/systemd/system/sockets.target.wants/
mkdir old
pivot_root . old
umount -l /old
container=test exec /lib/systemd/systemd --system --unit=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that systemd runs; its files below *root*, as seen from here."""

    pid: int

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.pid}/root")

    def does(self, script: str, *, typed: str = "", fails: bool = False) -> str:
        """All that the shell prints of the script, run as root on that machine; it must end well, or must not."""
        argv = ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd", "/bin/sh", "-ec", script]
        ended = subprocess.run(
            argv,
            env=ENVIRONMENT,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert (ended.returncode != 0) == fails, f"{script}\n{ended.stdout}"
        return ended.stdout


@contextmanager
def running_systemd(directory: Path) -> Iterator[Machine]:
    """A machine with a network of its own, for as long as the block lasts; wants root."""
    over = directory / "over"
    over.mkdir()
    spaces = ["--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--kill-child=SIGKILL", "--fork"]
    with (directory / "systemd.log").open("wb") as log:
        outer = subprocess.Popen(
            ["unshare", *spaces, "sh", "-c", _BOOT, "sh", str(over)], stdout=log, stderr=log, env=ENVIRONMENT
        )
    try:
        machine = Machine(_child(outer.pid))
        until = time.monotonic() + 30
        while _state(machine) not in {"running", "degraded"}:
            said = (directory / "systemd.log").read_text()
            assert outer.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.1)
        yield machine
    finally:
        os.kill(outer.pid, signal.SIGKILL)
        outer.wait(timeout=20)


def _child(parent: int) -> int:
    until = time.monotonic() + 10
    while not (found := Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        assert time.monotonic() < until, "unshare has begun nothing"
        time.sleep(0.02)
    return int(found[0])


def _state(machine: Machine) -> str:
    argv = ["nsenter", f"--target={machine.pid}", "--all", "--root", "--wd", "systemctl", "is-system-running"]
    return subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, timeout=20).stdout.strip()
