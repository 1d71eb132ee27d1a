"""One target under the fuzzer, in this process: `python -m tests.fuzz.one NAME COUNT [libFuzzer's options] FOLDER`."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable

import atheris

from tests.fuzz.count import COUNT

# Where it gets in what is ours is what it looks at; what else it goes through only costs time.
with atheris.instrument_imports(include=["gateway"]):
    from tests.fuzz.targets import TARGETS


class Counted:
    """*one*, and how often it was tried, at the head of a file: whatever ends the process, that stays."""

    def __init__(self, one: Callable[[bytes], None], file: str) -> None:
        self._one = one
        self._number = 0
        with open(file, "wb+") as opened:
            opened.truncate(mmap.PAGESIZE)
            self._written = mmap.mmap(opened.fileno(), mmap.PAGESIZE)

    def __call__(self, content: bytes) -> None:
        self._number += 1
        COUNT.pack_into(self._written, 0, self._number)
        self._one(content)


def main() -> None:
    name, file = sys.argv.pop(1), sys.argv.pop(1)
    atheris.Setup(sys.argv, Counted(TARGETS[name].one, file))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
