"""What an installation is made of, laid out for tests that install without a network: Python, libraries, wheels."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
VERSION = f"python3.{sys.version_info.minor}"
#: For pip: what `lay_wheels` laid at /wheels, and nothing else.
WHEELS_ALONE = "[global]\nno-index = true\nfind-links = /wheels\n"
_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
# What wheels expect of every Debian, though this machine's Python itself does without.
_ALSO_THERE = ("stdc++.so.6", "gcc_s.so.1", "pthread.so.0", "dl.so.2", "rt.so.1", "util.so.1", "nss_files.so.2")


def lay_python(root: Path, *, with_libraries: bool = True) -> None:
    """This machine's Python without what was installed into it, at /usr/local below *root*."""
    home = Path(sys.base_prefix) / "lib" / VERSION
    left_out = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__", "config-*")
    shutil.copytree(home, root / "usr/local/lib" / VERSION, ignore=left_out)
    (root / "usr/local/lib" / VERSION / "site-packages").mkdir()
    (root / "usr/local/bin").mkdir(parents=True)
    program = Path(sys.executable).resolve()
    shutil.copy(program, root / "usr/local/bin" / VERSION)
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to(VERSION)
    if with_libraries:
        lay_libraries(root, program, *(home / "lib-dynload").glob("*.so"))
    else:
        for library in libraries(program):
            if library.is_relative_to(sys.base_prefix):
                shutil.copy(library, root / "usr/local/lib")


def lay_libraries(root: Path, *programs: Path) -> None:
    """The libraries that the programs are linked with, where every loader looks for them."""
    for folder in ("lib64", "lib/x86_64-linux-gnu"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for library in {*libraries(*programs), *(_LIBRARIES / f"lib{name}" for name in _ALSO_THERE)}:
        place = "lib64" if library.name.startswith("ld-linux") else "lib/x86_64-linux-gnu"
        shutil.copy(library, root / place / library.name)


def libraries(*programs: Path) -> set[Path]:
    """The files that the loader finds for the programs."""
    found: set[Path] = set()
    for program in programs:
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        found |= {Path(each) for each in re.findall(r"(/\S+) \(", said)}
    return found


def lay_wheels(folder: Path) -> None:
    """Every file that the lock files of what runs name, checked by its hash."""
    locks = [part for name in ("requirements.lock", "requirements-build.lock") for part in ("-r", ROOT / name)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "-d", folder]
    subprocess.run([*pip, "--no-deps", "--only-binary", ":all:", "--require-hashes", *locks], check=True)
