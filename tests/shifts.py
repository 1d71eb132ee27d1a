"""Who runs which file of tests when several processes do: what takes long first, and a process stays where it began.

What a process has running for the tests of a folder (a registry, a gateway, an engine) serves the folder's next file.
"""

from __future__ import annotations

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

#: The folders that take longest, the longest first; most others come after them.
_LONG = (
    *("journey", "cli", "attacks", "faults", "browser", "test_wheel.py"),
    *("sweep", "administration", "contract", "records", "edge"),
)
#: Tests of some milliseconds each: they fill the end, when a file that takes long would keep one process only.
_SHORT = ("access", "oci", "gate", "audit")
#: Whoever is to be alone waits until every other test that runs has ended: not beside the long ones.
_ALONE = ("tests/attacks/test_timing.py", "tests/attacks/test_restarting.py", "tests/attacks/test_slow_clients.py")


class Shifts(LoadFileScheduling):
    """Gives a process the next file of the folder it is in, else of one that nobody is in, else of any."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._folders: dict[WorkerController, str] = {}

    def _assign_work_unit(self, node: WorkerController) -> None:
        own = self._folders.get(node, "")
        others = {folder for other, folder in self._folders.items() if other is not node}
        chosen = min(self.workqueue, key=lambda file: turn_of(file, own, others))
        self.workqueue.move_to_end(chosen, last=False)
        self._folders[node] = folder_of(chosen)
        super()._assign_work_unit(node)


def turn_of(file: str, own: str, others: set[str]) -> tuple[int, int, int]:
    """What sorts the files for a process in the folder *own* while others are in *others*: the smallest is next."""
    folder = folder_of(file)
    hour = 2 if folder in _SHORT else 1 if file in _ALONE else 0
    distance = 0 if folder == own else 2 if folder in others else 1
    return hour, distance, _LONG.index(folder) if folder in _LONG else len(_LONG)


def folder_of(file: str) -> str:
    """The folder below `tests` that *file* is in; its own name where it is in none."""
    return file.removeprefix("tests/").partition("/")[0]


def processes() -> int:
    """How many to run at a time: one more than there are cores, since tests also wait for what they started."""
    return len(os.sched_getaffinity(0)) + 1
