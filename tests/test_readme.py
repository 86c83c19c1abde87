"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from comet_resilience.config import keywords_table
from comet_resilience.verdict.table import failures_table

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize(
    ("name", "table"), [("keywords", keywords_table()), ("failures", failures_table())]
)
def test_tables_are_those_of_the_code(name: str, table: str) -> None:
    """Each generated table stands in the README letter for letter."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}: .*? -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert found
    assert found.group(1).strip() == table
