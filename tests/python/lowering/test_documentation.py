"""The tables of docs/python.md: every row names tests that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT = (HERE.parents[2] / "docs" / "python.md").read_text()
ROWS = [line for line in TEXT[TEXT.index("## What compiles") :].split("\n## ")[0].splitlines() if line.startswith("| ")]


def listed_tests() -> set[str]:
    """All tests beside this file, as the tables name them: test_x, or test_x[case]."""
    found = set()
    for path in HERE.glob("test_*.py"):
        for name, function in vars(import_module(f"{__package__}.{path.stem}")).items():
            if name.startswith("test_"):
                found.add(name)
                for mark in getattr(function, "pytestmark", []):
                    if mark.name == "parametrize" and isinstance(mark.args[1], (list, dict)):
                        found |= {f"{name}[{case}]" for case in mark.args[1]}
    return found


def test_every_row_names_tests_that_exist():
    rows = [row for row in ROWS if not row.startswith(("| family", "| |"))]
    known = listed_tests()
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_[^`]+)`", row.split("|")[-2])
        assert named, row
        assert set(named) <= known, set(named) - known


def test_every_family_and_refusal_has_a_row():
    listed = set(re.findall(r"`(test_[^`]+)`", "\n".join(ROWS)))
    cases = {test for test in listed_tests() if test.startswith(("test_family[", "test_refused[", "test_recorded["))}
    assert cases <= listed, cases - listed
