"""The table of environments."""

from __future__ import annotations

import re

import pytest

from tests.ecosystem.environments import ENVIRONMENTS
from tests.matrix.environments import Environment
from tests.programs import ROOT


def test_every_file_has_an_environment() -> None:
    """What needs a framework runs somewhere."""
    named = {file for environment in ENVIRONMENTS for file in environment.tests}
    there = {f"tests/ecosystem/{path.name}" for path in (ROOT / "tests/ecosystem").glob("test_*")}
    assert there - named == {"tests/ecosystem/test_environments.py"}
    assert named <= there


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda each: each.name)
def test_every_version_is_exact(environment: Environment) -> None:
    """One version of each package that is named, openai among them."""
    pinned = [
        re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?==[\d.]+", r) for r in environment.requirements
    ]
    assert all(pinned)
    assert "openai" in [match[1] for match in pinned if match]
