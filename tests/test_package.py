"""The package as others meet it: importing it, its metadata, its types."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Final

import pytest

import comet_resilience
from comet_resilience.cli import main

from .test_house import FLOORS

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final[dict[str, Any]] = tomllib.loads(
    (ROOT / "pyproject.toml").read_text(encoding="utf-8")
)["project"]

#: All that we use of `backoff`, and nothing of which may warn on any Python.
_BACKOFF = """
import itertools, backoff
from comet_resilience.config import Config
from comet_resilience.verdict.retry import backoff_ceiling
waits = backoff.expo(factor=0.5, max_value=30.0)
next(waits)
assert list(itertools.islice(waits, 8)) == [0.5, 1, 2, 4, 8, 16, 30.0, 30.0]
policy = Config().retry_policy
assert [backoff_ceiling(policy, retry) for retry in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
"""


def alone(code: str) -> None:
    """Run code in an interpreter of its own, where each warning is an error."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_backoffs_generators_warn_of_nothing() -> None:
    """The generators that we use work on this Python with every warning an error."""
    alone(_BACKOFF)


def test_importing_is_light() -> None:
    """Neither the command line, nor the test gateway, nor an extra is loaded by the door."""
    heavy = ["argparse", "h11", "matplotlib", "redis", "rich", "opentelemetry", "trio"]
    alone(
        "import sys, openai; before = set(sys.modules); import comet_resilience\n"
        f"loaded = (set(sys.modules) - before) & set({heavy})\n"
        "assert not loaded, loaded\n"
        "assert 'comet_resilience.testing' not in sys.modules"
    )


def test_types_are_published() -> None:
    """The marker for type checkers stands beside the code."""
    assert (Path(comet_resilience.__file__).parent / "py.typed").exists()


def test_the_typing_checks_know_every_name() -> None:
    """Whatever the door offers is used in `typing_api.py`, which mypy and pyright check."""
    text = (ROOT / "tests" / "typing_api.py").read_text(encoding="utf-8")
    unused = {
        name for name in comet_resilience.__all__ if len(re.findall(rf"\b{name}\b", text)) < 2
    }
    assert unused == set()


def test_the_installed_version_is_the_projects() -> None:
    """What is installed is what the sources say."""
    try:
        found = metadata("comet-resilience")
    except PackageNotFoundError:
        pytest.skip("the package is not installed, only on the path")
    assert found["Version"] == comet_resilience.__version__
    assert found["Requires-Python"] == PROJECT["requires-python"]


def test_the_command_line_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`comet-resilience --version` is the first thing that somebody who helps asks for."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"comet-resilience {comet_resilience.__version__}\n"


def test_the_changelog_knows_the_version_or_what_comes() -> None:
    """The newest section is this version's, or that of the one to come."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?([^\]\s]+)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] in ("Unreleased", comet_resilience.__version__)


def test_contributing_has_the_floor_plan_of_the_house() -> None:
    """Newcomers read the same floors that `test_house.py` checks, top floor first."""
    page = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| (.+?) \| ", page, re.MULTILINE)
    shown = [tuple(re.findall(r"`([\w.]+)`", row)) for row in rows]
    assert shown == list(reversed(FLOORS))
