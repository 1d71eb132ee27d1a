"""The bill of materials: everything that is locked to run, by version and hash, and nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from tests.supply.bill import ROOT, write


def test_the_bill_names_everything_that_runs_with_its_hashes(tmp_path: Path) -> None:
    write(tmp_path / "bill.json", validated=False)
    bill = json.loads((tmp_path / "bill.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = bill["metadata"]["component"]
    assert (about["name"], about["version"]) == (project["name"], project["version"])
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
    assert {each["name"]: each["version"] for each in bill["components"]} == pins
    told = {
        hashed["content"]
        for component in bill["components"]
        for reference in component["externalReferences"]
        for hashed in reference.get("hashes", ())
    }
    assert told == set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock))


def test_the_same_lock_gives_the_same_bill(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "bill.json", validated=False)
    assert (tmp_path / "one/bill.json").read_bytes() == (tmp_path / "two/bill.json").read_bytes()
