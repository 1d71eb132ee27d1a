"""How many attacks there are, by kind: `python -m tests.attacks.cases`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.attacks import test_hostile_requests, test_matrix

ROOT = Path(__file__).parent.parent.parent
PLACES = ("tests/attacks", "tests/edge/test_framing_edge.py", "tests/edge/test_connections_edge.py")


def counted() -> dict[str, int]:
    """The tests of each file of attacks, and the generated requests of those that make their own."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *PLACES]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = dict(Counter(line.partition("::")[0] for line in listed.splitlines() if "::" in line))
    found["the matrix: principal x row x project x credential"] = test_matrix.CASES
    found["paths that have another reading"] = 2 * len(test_hostile_requests.TRAVERSALS)
    return found


if __name__ == "__main__":
    cases = counted()
    for name, number in cases.items():
        print(f"{number:>6}  {name}")
    print(f"{sum(cases.values()):>6}  in all")
