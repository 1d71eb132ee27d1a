"""The edge for operators: `gateway …`, a module for each noun of it."""

from __future__ import annotations

import gc
import io
import sys


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    # What is loaded stays: looking through it for garbage, over and over, takes a sixth of the time.
    gc.disable()
    from gateway.cli.entry import run  # importing a noun alone needs not all of them

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character is told its code instead of a fault.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = run(sys.argv[1:])
    # Nor at the end, when all is given back anyhow: that takes a tenth of a second.
    gc.freeze()
    sys.exit(status)
