"""The calls of `os` with which the gateway changes its data directory, each of them a step that can be struck."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from faulty_plan import PLAN, step
from faulty_shadow import Shadow

ROOT = os.environ.get("FAULTS_ROOT", "")
SHADOW = Shadow(Path(ROOT), Path(os.environ["FAULTS_SHADOW"])) if os.environ.get("FAULTS_SHADOW") else None

_readlink, _lexists, _open, _fsync, _pwritev, _write = (
    os.readlink,
    os.path.lexists,
    os.open,
    os.fsync,
    os.pwritev,
    os.write,
)


def _of(path: Any) -> str:
    """Where below the data directory a path or a descriptor is; "" if it is elsewhere."""
    if isinstance(path, int):
        try:
            path = _readlink(f"/proc/self/fd/{path}")
        except OSError:
            return ""
    text = os.fsdecode(path)
    return text[len(ROOT) + 1 :] or "." if text == ROOT or text.startswith(f"{ROOT}/") else ""


def _error(what: str) -> Callable[[int], Exception]:
    return lambda number: OSError(number, os.strerror(number), what)


def _wrap(name: str, kind: str, place: int = 0) -> None:
    real = getattr(os, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        what = _of(args[place])
        if not what:
            return real(*args, **kwargs)
        return step(kind, what, partial(real, *args, **kwargs), _error(what))

    setattr(os, name, wrapped)


def _open_or_make(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
    what = _of(path)
    if not what:
        return _open(path, flags, *args, **kwargs)
    if not flags & os.O_CREAT or _lexists(path):
        return step("open", what, lambda: _open(path, flags, *args, **kwargs), _error(what))

    def make() -> int:
        descriptor = _open(path, flags, *args, **kwargs)
        if SHADOW is not None:
            SHADOW.made(descriptor)
        return descriptor

    return step("create", what, make, _error(what))


def _sync(descriptor: int) -> None:
    what = _of(descriptor)
    if not what:
        return _fsync(descriptor)

    def sync() -> None:
        kept = SHADOW.seen(descriptor, os.path.join(ROOT, what)) if SHADOW is not None else None
        _fsync(descriptor)
        lie = "directories" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "files"
        if SHADOW is not None and kept is not None and PLAN.lie != lie:
            SHADOW.keep(kept)

    return step("sync", what, sync, _error(what))


def _write_vector(descriptor: int, buffers: Any, offset: int, *flags: int) -> int:
    what = _of(descriptor)

    def tear() -> None:
        first = bytes(buffers[0])
        _pwritev(descriptor, [first[: len(first) // 2]], offset)

    real = partial(_pwritev, descriptor, buffers, offset, *flags)
    return step("write", what, real, _error(what), tear) if what else real()


def _write_bytes(descriptor: int, content: Any) -> int:
    what = _of(descriptor)

    def tear() -> None:
        _write(descriptor, bytes(content)[: len(content) // 2])

    real = partial(_write, descriptor, content)
    return step("write", what, real, _error(what), tear) if what else real()


def install() -> None:
    """Puts the steps in the place of the calls."""
    os.open = _open_or_make
    os.fsync = _sync
    os.pwritev = _write_vector
    os.write = _write_bytes
    _wrap("rename", "rename")
    _wrap("replace", "rename")
    _wrap("link", "link", 1)
    _wrap("unlink", "unlink")
    _wrap("remove", "unlink")
    _wrap("mkdir", "mkdir")
    _wrap("ftruncate", "truncate")
    _wrap("copy_file_range", "write", 1)
    _wrap("pread", "read")
    _wrap("preadv", "read")
