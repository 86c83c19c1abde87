"""The example runs as a user would run it: killed, gone on with, and nothing lost."""

from __future__ import annotations

import re
import sys

import pytest

from tests.programs import run_example


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.timeout(120)
def test_the_example_survives_being_killed() -> None:
    """Both runs together hand over everything; only what was in flight is answered twice."""
    done = run_example("bulk.py")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = re.fullmatch(
        r"killed after (\d+) results; answers of the gateway so far: \d+\n"
        r"resumed, and finished with (\d+) results; answers of the gateway so far: (\d+)\n"
        r"400 items: \1 \+ \2 results, \d+ answers paid for twice\n",
        done.stdout,
    )
    assert told, done.stdout
    first, second, answers = map(int, told.groups())
    assert 400 <= first + second <= 401
    assert 400 <= answers <= 412
