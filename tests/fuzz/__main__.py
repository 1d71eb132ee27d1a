"""Fuzzes the targets one after the other and says what was reached: `python -m tests.fuzz [NAME…] [--runs N]`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.count import read_count
from tests.fuzz.targets import TARGETS

RUNS = 1_000_000
#: A megabyte of noise teaches a parser nothing that four kilobytes do not.
LONGEST_BYTES = 4096
#: What libFuzzer ends with when it is told to, by SIGINT or SIGTERM.
INTERRUPTED = 72
ROOT = Path(__file__).parent.parent.parent


def fuzz(name: str, runs: int, seconds: int, kept: Path) -> tuple[bool, str]:
    """Whether the target stood, and a line of what was done; what broke it is left in *kept*."""
    corpus, count = kept / name, kept / f"{name}-count"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-atheris_runs={runs}", f"-max_len={LONGEST_BYTES}", "-timeout=20", "-rss_limit_mb=2048"]
    if seconds:
        options.append(f"-max_total_time={seconds}")
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.one",
        name,
        str(count),
        *options,
        f"-artifact_prefix={kept}/{name}-",
        str(corpus),
    ]
    begun = time.monotonic()
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = read_count(count)
    covered = re.findall(r"cov: (\d+)", ended.stdout)
    told = (
        f"{name:10} {done:>9,} executions  {time.monotonic() - begun:>5.0f} s"
        f"  {covered[-1] if covered else '?':>5} edges"
    )
    if ended.returncode in (0, INTERRUPTED):
        return True, f"{told}  no crash{', broken off' if ended.returncode else ''}"
    print(ended.stdout[-4000:], file=sys.stderr)
    return False, f"{told}  CRASHED, see {kept}/{name}-*"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TARGETS)}; all of them by default")
    parser.add_argument("--runs", type=int, default=RUNS, help="executions of each target (default: a million)")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long for each target")
    parser.add_argument(
        "--keep", type=Path, default=None, help="a folder for what was found worth trying, and for crashes"
    )
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    stood = True
    kept = asked.keep or Path(tempfile.mkdtemp(prefix="gateway-fuzz-"))
    for name in asked.names or TARGETS:
        good, told = fuzz(name, asked.runs, asked.seconds, kept.resolve())
        stood = stood and good
        print(told, flush=True)
    return 0 if stood else 1


if __name__ == "__main__":
    sys.exit(main())
