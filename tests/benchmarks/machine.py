"""The machine and the programs that figures were measured with: without them a figure means little."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import ssl
import subprocess
from importlib.metadata import version
from pathlib import Path


def described(scratch: Path) -> dict[str, str]:
    """What there is to know, name by name."""
    return {
        "processor": _from("/proc/cpuinfo", r"model name\s*: (.*)"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.1f} GiB",
        "disk": _disk(scratch),
        "kernel": platform.release(),
        "system": _from("/etc/os-release", r'PRETTY_NAME="(.*)"'),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "gateway": version("registry-gateway"),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "OpenSSL": ssl.OPENSSL_VERSION,
        "uvicorn": version("uvicorn"),
        "uvloop": version("uvloop"),
        "Distribution": _said(["docker-registry", "--version"], r"(\d+\.\d+\.\d+\S*)"),
        "nginx": _said(["nginx", "-v"], r"nginx/(\S+)"),
        "wrk": _said(["wrk", "-v"], r"wrk (\S+)"),
        "curl": _said(["curl", "--version"], r"curl (\S+)"),
        "skopeo": _said(["skopeo", "--version"], r"version (\S+)"),
    }


def missing() -> list[str]:
    """The programs that a run needs and this machine has not."""
    return [each for each in ("docker-registry", "nginx", "wrk", "curl", "skopeo") if shutil.which(each) is None]


def _from(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text())
    return found.group(1).strip() if found else "unknown"


def _disk(scratch: Path) -> str:
    ended = subprocess.run(["df", "--output=source,fstype", str(scratch)], capture_output=True, text=True)
    return " ".join(ended.stdout.splitlines()[-1].split())


def _said(argv: list[str], pattern: str) -> str:
    ended = subprocess.run(argv, capture_output=True, text=True)
    found = re.search(pattern, ended.stdout + ended.stderr)
    return found.group(1) if found else "unknown"
