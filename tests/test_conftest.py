"""Leftovers of a test are reported where they were made, and harm no other test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
INNOCENT = """
import gc

def test_innocent():
    gc.collect()
"""
LEAKY = """
import socket

class Cycle:
    def __init__(self):
        self.itself, self.left_open = self, socket.socket()

def test_leaky():
    cycle = Cycle()
    assert {outcome}
"""


@pytest.mark.parametrize("outcome", [True, False])
def test_a_leak_is_no_later_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, outcome: bool
) -> None:
    """Of a test that passes it is an error of its file; one that fails has failed already."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(test_first=LEAKY.format(outcome=outcome), test_second=INNOCENT)
    command = (sys.executable, "-m", "pytest", "-v", "-p", "tests.conftest", "-W", "error")
    done = pytester.run(*command, "-p", "no:cacheprovider", "-p", "no:asyncio", timeout=100)
    done.stdout.fnmatch_lines(["*test_innocent PASSED*"])
    if outcome:
        done.assert_outcomes(passed=2, errors=1)
        done.stdout.fnmatch_lines(["*ERROR at teardown of test_leaky*", "*unclosed*"])
    else:
        done.assert_outcomes(passed=1, failed=1)
