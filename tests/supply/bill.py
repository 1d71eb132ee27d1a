"""The bill of materials of the wheel, CycloneDX: `python -m tests.supply.bill FILE`; what runs, with its hashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def write(to: Path, *, validated: bool = True) -> None:
    """
    Writes the bill of what `requirements.lock` names, with the project as what it is about.

    The same lock gives the same bytes. That they are *validated* against the schema takes most of the time.
    Raises `CalledProcessError` if there is no cyclonedx-bom, or it refuses.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(ROOT / "requirements.lock")]
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application", "--output-reproducible"]
    form = ["--output-format", "JSON", "--spec-version", "1.6", "--output-file", str(to)]
    if not validated:
        form.append("--no-validate")
    to.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, *options, *form], check=True, capture_output=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(sys.argv[1])
