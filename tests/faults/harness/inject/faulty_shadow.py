"""What would be left of a directory after a loss of power: what was synced, and not a byte or a name more.

SHADOW/files/<inode>      the bytes of a file when it was last synced
SHADOW/folders/at <path>  the names in a folder when it was last synced, as JSON: {name: [inode, is a folder]}
SHADOW/database           which copy of the database, taken at its last commit, is the one that counts

The database does its own writing, out of sight; it syncs at each commit, and what it said it had committed is kept.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

#: What lies at the top of a data directory, and is not written through the store.
APART = frozenset({"gateway.db", "gateway.db-wal", "gateway.db-shm", "lock", "versions", "tls", "keys", "gateway.toml"})

_fsync, _replace, _unlink, _open, _close = os.fsync, os.replace, os.unlink, os.open, os.close


class Shadow:
    """The shadow of the directory *root*, kept in *place* by the process that writes and by the harness."""

    def __init__(self, root: Path, place: Path) -> None:
        self.root = root
        self._place = place
        self._guard = threading.Lock()
        self._commits = 0
        for folder in ("files", "folders"):
            (place / folder).mkdir(parents=True, exist_ok=True)

    # in the process that writes

    def seen(self, descriptor: int, path: str) -> tuple[Path, bytes]:
        """What a sync of this file or folder would make durable now."""
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            return self._folder(path), _names(Path(path))
        # Not by its name, which it may not have any more.
        reader = _open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
        with open(reader, "rb") as file:
            return self._file(status.st_ino), file.read()

    def keep(self, seen: tuple[Path, bytes]) -> None:
        """Notes that it was synced."""
        place, content = seen
        with self._guard:
            fresh = place.with_name(place.name + ".new")
            fresh.write_bytes(content)
            _replace(fresh, place)

    def made(self, descriptor: int) -> None:
        """Notes a new file, whose number may have been another's."""
        self._file(os.fstat(descriptor).st_ino).unlink(missing_ok=True)

    def committed(self, database: str) -> None:
        """Copies the database as it is just after a commit; whoever writes to it next has to wait for the caller."""
        with self._guard:
            self._commits += 1
            copy = self._place / f"database.{os.getpid()}.{self._commits}"
            copy.mkdir()
            # By another process: when this one closes any descriptor of the database, SQLite's locks on it are gone.
            there = [name for name in (database, f"{database}-wal") if os.path.exists(name)]
            subprocess.run(["cp", "--", *there, str(copy)], check=True)
            before = self._current()
            # Of this process alone: a check may commit what it has mended while a gateway does.
            fresh = self._place / f"database.{os.getpid()}.new"
            fresh.write_text(copy.name)
            _replace(fresh, self._place / "database")
            if before is not None:
                shutil.rmtree(before, ignore_errors=True)

    # in the harness, while nobody writes

    def settle(self) -> None:
        """Every file and folder that is there now is on the disk."""
        for folder in ("files", "folders"):
            shutil.rmtree(self._place / folder)
            (self._place / folder).mkdir()
        for path, folders, files in os.walk(self.root):
            here = Path(path)
            apart = APART if here == self.root else frozenset()
            folders[:] = [name for name in folders if name not in apart]
            self._folder(path).write_bytes(_names(here))
            for name in set(files) - apart:
                status = os.stat(here / name, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    shutil.copyfile(here / name, self._file(status.st_ino))

    def lose_power(self) -> int:
        """Leaves in the directory only what was synced; says how many names and files that changed."""
        changed = self._restore(self.root)
        copy = self._current()
        if copy is not None:
            for name in ("gateway.db", "gateway.db-wal", "gateway.db-shm"):
                (self.root / name).unlink(missing_ok=True)
            for file in copy.iterdir():
                shutil.copyfile(file, self.root / file.name)
                (self.root / file.name).chmod(0o600)
            for each in self._place.glob("database*"):
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        self.settle()
        return changed

    def _restore(self, here: Path) -> int:
        known = self._folder(str(here))
        wanted: dict[str, tuple[int, bool]] = json.loads(known.read_bytes()) if known.exists() else {}
        changed = 0
        for name in os.listdir(here):
            if here == self.root and name in APART:
                continue
            status = os.stat(here / name, follow_symlinks=False)
            if name not in wanted or wanted[name][0] != status.st_ino:
                changed += 1
                shutil.rmtree(here / name) if stat.S_ISDIR(status.st_mode) else os.unlink(here / name)
        for name, (inode, folder) in wanted.items():
            if here == self.root and name in APART:
                continue
            if folder:
                (here / name).mkdir(mode=0o700, exist_ok=True)
                changed += self._restore(here / name)
            else:
                changed += self._give_back(here / name, inode)
        return changed

    def _give_back(self, path: Path, inode: int) -> int:
        kept = self._file(inode)
        content = kept.read_bytes() if kept.exists() else b""
        if path.exists() and path.read_bytes() == content:
            return 0
        path.write_bytes(content)
        path.chmod(0o600)
        return 1

    def _current(self) -> Path | None:
        pointer = self._place / "database"
        return self._place / pointer.read_text() if pointer.exists() else None

    def _file(self, inode: int) -> Path:
        return self._place / "files" / str(inode)

    def _folder(self, path: str) -> Path:
        return self._place / "folders" / f"at {quote(os.path.relpath(path, self.root), safe='')}"


def _names(folder: Path) -> bytes:
    with os.scandir(folder) as entries:
        found = {each.name: [each.inode(), each.is_dir(follow_symlinks=False)] for each in entries}
    return json.dumps(found).encode()
