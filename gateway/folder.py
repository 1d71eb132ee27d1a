"""The data directory, before anything is kept in it: a directory on a local disk that may be written to.

What others of this machine could do to it, or read in the settings beside it, is a weakness: warned of, not refused.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shlex
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import Invalid

#: File systems on which locks, shared memory or fsync do not mean what the records rest on.
_NETWORK = re.compile(
    r"nfs|nfs4|cifs|smb[23]?|smbfs|ncpfs|coda|afs|ceph|lustre|gpfs|beegfs|orangefs|ocfs2|gfs2|9p|vboxsf|davfs"
    r"|fuse\.(?:sshfs|s3fs|gcsfuse|rclone|glusterfs|ceph.*|goofys|mount-s3|davfs2?|smbnetfs|juicefs|.*-s3)"
)
#: Settings that are secrets themselves, with what a message calls them.
_SECRETS = {"password": "a password", "token": "a token"}
#: A URL with a password before its host, or in its query.
_PASSWORD = re.compile(r"://[^/@:]*:[^@]+@|[?&]password=[^&]")


@contextmanager
def served(folder: Path) -> Iterator[bool]:
    """
    Holds *folder*, which exists, as one that is served, and tells whether another process, on this host, does so too.

    What is held ends with the process, however that ends.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        others = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            others = True
        # Together with others, so that whoever comes later finds any of them.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield others
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Weakness:
    """What others may do who should not, and how to stop it: a sentence each."""

    text: str
    mend: str

    def __str__(self) -> str:
        return f"{self.text} {self.mend}"


def open_to_all(folder: Path) -> Weakness | None:
    """That *folder*, which exists, is writable by everybody, if so."""
    mode = _mode(folder)
    if not mode & stat.S_IWOTH:
        return None
    return Weakness(
        f"The data directory {folder} is writable by everybody (mode {mode:04o}).",
        f"Run: chmod 700 {folder}",
    )


def exposed_secret(file: Path) -> Weakness | None:
    """That *file*, which is TOML, holds a password or token and is readable by everybody, if so."""
    mode = _mode(file)
    if not mode & stat.S_IROTH:
        return None
    for name, value in _texts(tomllib.loads(file.read_text(encoding="utf-8"))):
        held = _SECRETS.get(name, "") if value else ""
        if held or _PASSWORD.search(value):
            return Weakness(
                f"{file} holds {held or 'a password'} ({name}) and is readable by everybody (mode {mode:04o}).",
                f"Run: chmod 600 {file}; or keep it in a file of its own, named by {name}_file.",
            )
    return None


def unwritable(folder: Path, url: str) -> Weakness | None:
    """That a file of the records may not be written to by this process, if so: of *folder*, or the SQLite at *url*."""
    files = [folder / "lock", folder / "versions"]
    if url.startswith("sqlite:///"):
        files += [Path(url.removeprefix("sqlite:///") + end) for end in ("", "-wal", "-shm")]
    for file in files:
        if os.path.exists(file) and not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
            return _withheld(file, _owner(folder))
    return None


def _withheld(file: Path, owner: str) -> Weakness:
    holder, mode = _owner(file), _mode(file)
    text = f"{file} cannot be read and written ({holder}'s, mode {mode:04o})."
    if holder != owner:
        return Weakness(text, f"It has to be {owner}'s, like the data directory. Run as root: chown {owner} {file}")
    if mode & 0o600 != 0o600:
        return Weakness(text, f"Run: chmod 600 {file}")
    return Weakness(text, f"Run as {owner}; if that is so, see that nothing else keeps it from being changed (lsattr).")


def weaknesses(folder: Path, file: Path | None) -> tuple[Weakness, ...]:
    """Those of the data directory *folder* and of the settings file, if there is one."""
    found = (open_to_all(folder), exposed_secret(file) if file is not None else None)
    return tuple(weakness for weakness in found if weakness is not None)


def local_disk(folder: Path, mounts: str | None = None) -> str:
    """
    Why *folder*, which need not exist yet, cannot hold the data, if it lies on a network file system; "" if it can.

    *mounts* is the text of `/proc/self/mountinfo`, read when it is not given.
    """
    kind = _file_system(Path(os.path.realpath(folder)), _mountinfo() if mounts is None else mounts)
    if _NETWORK.fullmatch(kind) is None:
        return ""
    return (
        f"{folder} is on a network file system ({kind}), where the database is not safe; "
        "choose a data directory on a local disk with --data."
    )


def require_folder(folder: Path, *, make: bool, command: str = "") -> None:
    """
    Returns when *folder* is a directory on a local disk that this process may write to; raises `Invalid` otherwise.

    With *make* a missing one is made, readable by its owner only. *command* is `gateway` with the options in use.
    """
    reason = local_disk(folder)
    if reason:
        raise Invalid(reason)
    try:
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not folder.exists():
            command = command or shlex.join(("gateway", "--data", str(folder)))
            raise Invalid(f"There is no data directory {folder}; make one with: {command} up")
    except FileExistsError:
        pass
    except OSError as error:
        raise Invalid(f"The data directory {folder} cannot be {'made' if make else 'read'}: {_why(error)}.") from error
    if not folder.is_dir():
        raise Invalid(f"{folder} is not a directory; choose another with --data.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise Invalid(f"The data directory {folder} cannot be written to; run as its owner, or choose another.")


def require_writable(folder: Path, url: str) -> None:
    """Returns when this process may write to the records, as far as they are there: see `unwritable`; `Invalid`."""
    weakness = unwritable(folder, url)
    if weakness is not None:
        raise Invalid(str(weakness))


def _owner(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _texts(values: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Every text in the document *values*, with the key it stands under."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _texts(value)
        elif isinstance(value, str):
            yield key, value


def _mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _file_system(place: Path, mounts: str) -> str:
    """The type of the file system that *place* is on: that of the deepest mount above it, of the last of those."""
    deepest, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, types = left.split(" "), right.split(" ")
        if len(fields) < 5:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if place.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, kind = len(point.parts), types[0]
    return kind


def _why(error: OSError) -> str:
    return (error.strerror or "unknown reason").lower()
