"""The page of promises: every promise is there, and every test it names exists and tests something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_all_fourteen_promises_are_there_each_with_a_test() -> None:
    rows = re.findall(r"^\| (P\d+) \| \*\*[^|]+\| ([^|]+) \|", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == [f"P{number}" for number in range(1, 15)]
    assert all("::test_" in tests for _, tests in rows)


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)), ids=lambda part: part.rpartition("/")[2])
def test_every_test_that_is_named_exists_and_asserts(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    found = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name]
    assert len(found) == 1, f"{path} has no test {name}"
    source = ast.unparse(found[0])
    assert "assert " in source or "pytest.raises" in source or re.search(r"\b(plain|worthless|must)\(", source)


def test_long_ones_are_said_to_be() -> None:
    for path, name in set(NAMED):
        source = (ROOT / path).read_text()
        marked = re.search(rf"@pytest\.mark\.long\n(?:@[^\n]+\n)*def {name}\(", source) is not None
        told = re.search(rf"::{name}` \(\*long\*\)", PAGE) is not None
        assert marked == told, name


def test_commands_on_the_page_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", PAGE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for module in re.findall(r"python -m ([\w.]+)", PAGE):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
