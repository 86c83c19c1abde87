"""The READMEs say what the code does, and lead where they say."""

from __future__ import annotations

import re
from typing import Final

import pytest

from comet_resilience.config import keywords_table
from comet_resilience.verdict.table import failures_table

from .snippets import PAGES, ROOT

FRONT: Final = "README.md"
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("page", "name", "table"),
    [
        (FRONT, "keywords", keywords_table()),
        ("comet_resilience/verdict/README.md", "failures", failures_table()),
    ],
)
def test_tables_are_those_of_the_code(page: str, name: str, table: str) -> None:
    """Each generated table stands in its page letter for letter."""
    found = re.search(rf"<!-- {name}: .*? -->\n(.*?)\n?<!-- /{name} -->", PAGES[page], re.DOTALL)
    assert found
    assert found.group(1).strip() == table


def test_the_front_page_is_short() -> None:
    """What takes more room has a page of its own."""
    assert len(PAGES[FRONT].splitlines()) <= 260


def test_the_front_page_leads_to_every_other() -> None:
    """No page is found by chance alone."""
    assert set(PAGES) - {FRONT} <= set(_LINK.findall(PAGES[FRONT]))


def anchors_of(page: str) -> set[str]:
    """Return the anchors that forges give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", PAGES[page]), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link and picture is a file of ours, and its anchor a heading there."""
    for link in _LINK.findall(_FENCED.sub("", PAGES[page])):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.relative_to(ROOT).as_posix()), link


def test_what_security_promises_is_tested() -> None:
    """Each test that SECURITY.md names is there, and each promise names one."""
    page = (ROOT / ".github" / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 10
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{path}::{test}"
    promises = re.findall(r"^\* .*?(?=^\* |^\n|\Z)", page, re.MULTILINE | re.DOTALL)
    assert promises
    assert all("::" in promise for promise in promises)
