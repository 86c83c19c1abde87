"""The index of the failure modes and the tests agree."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import tests.failure_modes

HERE = Path(__file__).parent
ROW = re.compile(r"^(\d+) {2,3}\S.*? {2,}([\w, ]+)$", re.MULTILINE)


def files_by_mode() -> dict[int, set[str]]:
    """The numbers that tests carry in their names, and the files where they stand."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                named = re.match(r"test_fm(\d\d)_\w{4}", node.name)
                if named:
                    found[int(named.group(1))].add(path.stem.removeprefix("test_"))
    return found


def test_every_mode_has_its_tests_where_the_index_says() -> None:
    """Twenty-eight modes, each with a test of its number in each of the files named."""
    rows = {
        int(number): {name.strip() for name in files.split(",")}
        for number, files in ROW.findall(tests.failure_modes.__doc__ or "")
    }
    assert sorted(rows) == list(range(1, 29))
    shortened = {"by_hand": "cancelled_by_hand", "on_loops": "cancelled_on_loops"}
    shown = {n: {shortened.get(name, name) for name in files} for n, files in rows.items()}
    assert shown == files_by_mode()
