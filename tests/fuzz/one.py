"""One target under the fuzzer, in this process: `python -m tests.fuzz.one NAME [libFuzzer's options] FOLDER`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gateway", "httptools", "jwt", "json"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
