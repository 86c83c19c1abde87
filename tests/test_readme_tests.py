"""The examples of tests in the READMEs run as they stand."""

from __future__ import annotations

import re
import sys

import pytest

from .snippets import PAGES, ROOT

pytest_plugins = ["pytester"]

PLUGIN = "comet_resilience.testing.pytest_plugin"
_BLOCK = re.compile(
    r"<!-- the tests run this block with pytest -->\n```python\n(.*?)```", re.DOTALL
)


def blocks_of(text: str) -> list[str]:
    """The examples that are marked so."""
    return _BLOCK.findall(text)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("block", [block for page in PAGES.values() for block in blocks_of(page)])
def test_examples_of_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    """Each is a test file that passes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(block)
    done = pytester.run(
        sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:asyncio", timeout=100
    )
    done.assert_outcomes(passed=1)
