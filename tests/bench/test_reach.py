"""The files that a success passes are those that the page of ``call/`` names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import comet_resilience

from .reach import calls_by_file, doors_of

PAGE = Path(comet_resilience.__file__).parent / "call" / "README.md"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_page_names_the_files_that_a_success_passes() -> None:
    """A file more or less in the way of a request is a line more or less of the page."""
    calls = await calls_by_file(200)
    named = re.findall(r"^\| `([\w/.]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(door.removesuffix("/") for door in named) == sorted(doors_of(calls))
