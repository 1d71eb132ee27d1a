"""Run as root on somebody else's data: what is made there stays theirs, and the program stays able to run.

    a command    the effective user is the owner; the real one stays, and with it the name in the trail
    the server   the process is the owner's altogether, and so are its workers

Both keep the right to read, for the program and its certificate's key may be root's alone; the server keeps the right
to listen below port 1024. Nothing else of root's is kept in effect.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

# linux/capability.h, linux/prctl.h
_DAC_READ_SEARCH, _NET_BIND_SERVICE = 2, 10
_VERSION = 0x20080522
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def act_as_owner(folder: Path) -> None:
    """Makes this command act as the owner of *folder*, if root runs it on somebody else's; call before any thread."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    os.setgroups(_groups(owner))
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    _keep((_DAC_READ_SEARCH,), inherit=False)


def become_owner(folder: Path) -> None:
    """Makes this process, and those it starts, the owner's of *folder*, if root runs it on somebody else's."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups(_groups(owner))
    os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
    os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
    for kept in _keep((_DAC_READ_SEARCH, _NET_BIND_SERVICE), inherit=True):
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, kept, 0, 0)


def _groups(owner: os.stat_result) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:
        return [owner.st_gid]


def _keep(wanted: Iterable[int], *, inherit: bool) -> list[int]:
    """Puts what of *wanted* this process may have into effect, and nothing else; returns that."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = _Header(_VERSION, 0), (_Word * 2)()
    if libc.capget(ctypes.byref(header), words) != 0:
        return []
    kept = [number for number in wanted if words[0].permitted & (1 << number)]
    mask = sum(1 << number for number in kept)
    words[0].effective, words[1].effective = mask, 0
    if inherit:
        words[0].permitted = words[0].inheritable = mask
        words[1].permitted = words[1].inheritable = 0
    return kept if libc.capset(ctypes.byref(header), words) == 0 else []
