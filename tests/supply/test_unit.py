"""config/gateway.service, installed as its first lines say and started by a real systemd."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.test_adopting_docker import passwords
from tests.services.daemon import scratch
from tests.services.systemd import Machine, running_systemd
from tests.supply.parts import ROOT, WHEELS_ALONE, lay_python, lay_wheels

UNIT = ROOT / "config" / "gateway.service"
TRUST = "--cacert /var/lib/gateway/tls/ca.crt"
PATIENT = "--retry 60 --retry-delay 1 --retry-all-errors"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with scratch("unit") as folder:
        lay_python(folder / "base", with_libraries=False)
        lay_wheels(folder / "wheels")
        with running_systemd(folder) as machine:
            shutil.copytree(folder / "base/usr/local", machine.root / "usr/local", symlinks=True, dirs_exist_ok=True)
            shutil.copytree(folder / "wheels", machine.root / "wheels")
            machine.does("ldconfig")
            (machine.root / "tmp/pip.conf").write_text(WHEELS_ALONE)
            yield machine


def first_lines() -> list[str]:
    """The commands in front of the unit, as they are told."""
    head = UNIT.read_text().partition("[Unit]")[0]
    return [line.removeprefix("#").strip() for line in head.splitlines() if line.startswith("#   ")]


@pytest.mark.long
def test_the_unit_is_installed_and_started_as_its_file_says(machine: Machine) -> None:
    deploy, *prepare, first, enable = first_lines()
    assert (deploy, enable) == ("make deploy", "systemctl enable --now gateway")
    here = f"cd {ROOT}; export PIP_CONFIG_FILE=/tmp/pip.conf HOME=/root;"
    machine.does(f"{here} {deploy} PYTHON=/usr/local/bin/python3")
    for line in prepare:
        machine.does(f"cd {ROOT}; {line}")
    # By hand, and stopped as by Ctrl-C once it is ready.
    machine.does(f"cd /; timeout --signal=INT 20 {first} --host localhost > /tmp/first 2>&1 || test $? = 124")
    password = passwords((machine.root / "tmp/first").read_text())

    machine.does(f"{enable} || {{ systemctl status gateway; journalctl --unit gateway --no-pager; exit 1; }}")
    machine.does(f"curl --silent --fail {TRUST} {PATIENT} https://localhost:5000/health/ready")
    _serves(machine, password)
    _is_held(machine)

    machine.does("systemctl stop gateway")
    assert _shown(machine, "Result") == "success"
    assert _shown(machine, "ExecMainStatus") == "0"


def _serves(machine: Machine, password: str) -> None:
    """A push and a pull, by the password of the first start; another one is refused."""
    scope = "scope=repository:gallery/ui:pull,push"
    ask = f"curl --silent {TRUST} --config - 'https://localhost:5000/token?{scope}'"
    token = json.loads(machine.does(ask, typed=f'user = "admin:{password}"'))["token"]
    assert "UNAUTHORIZED" in machine.does(ask, typed='user = "admin:not-it"')
    bearer = f'header = "Authorization: Bearer {token}"'
    machine.does("head -c 100000 /dev/urandom > /tmp/blob")
    digest = machine.does("sha256sum /tmp/blob").split()[0]
    place = f"https://localhost:5000/v2/gallery/ui/blobs/uploads/?digest=sha256:{digest}"
    push = f"curl --silent --fail {TRUST} --config - --data-binary @/tmp/blob"
    machine.does(f"{push} -H 'Content-Type: application/octet-stream' '{place}'", typed=bearer)
    pull = f"curl --silent --fail {TRUST} --config - https://localhost:5000/v2/gallery/ui/blobs/sha256:{digest}"
    machine.does(f"{pull} | cmp - /tmp/blob", typed=bearer)


def _is_held(machine: Machine) -> None:
    """No process of it is anybody's but its own account's, can gain anything, or sees a place to write but its own."""
    account = machine.does("id -u gateway").strip()
    pids = machine.does("cat /sys/fs/cgroup/system.slice/gateway.service/cgroup.procs").split()
    assert len(pids) >= 1
    for pid in pids:
        status = dict(re.findall(r"(?m)^(\w+):\s*(.*)$", machine.does(f"cat /proc/{pid}/status")))
        assert set(status["Uid"].split()) == {account}
        assert {status[each] for each in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        mounts = [line.split() for line in machine.does(f"cat /proc/{pid}/mountinfo").splitlines()]
        writable = {fields[4] for fields in mounts if fields[5].split(",")[0] == "rw"}
        assert "/" not in writable
        assert "/var/lib/gateway" in writable
        assert not any(
            Path(each).is_relative_to(place) for each in writable for place in ("/etc", "/usr", "/opt", "/home")
        )


def _shown(machine: Machine, what: str) -> str:
    return machine.does(f"systemctl show gateway --property={what} --value").strip()
