"""What the gate says on a machine where it cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

GATE: Final = Path(__file__).parents[1] / ".ci" / "run"
OLD_PYTHON: Final = """#!/bin/sh
[ "$1" = --version ] && echo Python 3.9.18 && exit
exit 1
"""

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not GATE.exists() or not shutil.which("git"),
    reason="a shell script of the repository, which needs git",
)


@pytest.mark.parametrize(
    ("is_checkout", "words"),
    [(False, "needs git, and "), (True, "needs python3 of 3.11 or newer with ensurepip; ")],
)
def test_what_it_lacks_is_said_before_it_begins(
    is_checkout: bool, words: str, tmp_path: Path
) -> None:
    """One line, and nothing was cloned or installed."""
    gate, programs = tmp_path / "clone" / ".ci" / "run", tmp_path / "bin"
    gate.parent.mkdir(parents=True)
    shutil.copy(GATE, gate)
    programs.mkdir()
    (programs / "python3").write_text(OLD_PYTHON, encoding="utf-8")
    (programs / "python3").chmod(0o755)
    if is_checkout:
        git = ("git", "-C", str(gate.parents[1]), "-c", "user.name=x", "-c", "user.email=x@test")
        subprocess.run([*git, "init", "--quiet"], check=True)  # noqa: S603 - in a folder of our own
        subprocess.run(  # noqa: S603
            [*git, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True
        )
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(  # noqa: S603 - a script of our own
        [str(gate)], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines()[-1].startswith(f".ci/run: {words}")
    if is_checkout:
        assert "Python 3.9.18" in ran.stderr
