"""The edge for operators: `gateway …`, a module for each noun of it."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    from gateway.cli.entry import run  # importing a noun alone needs not all of them

    sys.exit(run(sys.argv[1:]))
