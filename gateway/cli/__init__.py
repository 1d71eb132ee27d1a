"""The edge for operators: `gateway …`, a module for each noun of it."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from types import FrameType

STOPPED = 130


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    # Ctrl-C ends it without a word while there is nothing to clean up; who started it may have it ignore that.
    stoppable = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if stoppable:
        signal.signal(signal.SIGINT, _end)
    # What is loaded stays: looking through it for garbage, over and over, takes a sixth of the time.
    gc.disable()
    from gateway.cli.entry import run  # importing a noun alone needs not all of them

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character is told its code instead of a fault.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if stoppable:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run(sys.argv[1:])
        if stoppable:
            signal.signal(signal.SIGINT, _end)
    except KeyboardInterrupt:
        status = STOPPED
    # Nor at the end, when all is given back anyhow: that takes a tenth of a second.
    gc.freeze()
    sys.exit(status)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED)
