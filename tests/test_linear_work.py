"""No text costs more than linear work, whatever a server sends.

Every pattern of the package is found, not listed: a new one is tested as soon as it is written.
Steps are counted by ``pattern_work``, so that no machine is too slow or too fast for this file.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import comet_resilience
from comet_resilience.verdict.rules import RULES

from .pattern_work import StepCounter, TooManyStepsError, hard_texts

PACKAGE = Path(comet_resilience.__file__).parent
#: Sizes that are compared: linear work grows by four between them, quadratic by sixteen.
SMALL, LARGE = 300, 1_200
#: Steps for each character that are no reason to compare sizes.
PLENTY = 30
#: Modules that cannot be imported everywhere, or do something when they are.
_NOT_IMPORTED = ("__main__", "pytest_plugin")
_TAKE_A_PATTERN = frozenset(
    f"re.{name}"
    for name in ("compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub",
                 "subn")
)  # fmt: skip


def modules() -> Iterator[Any]:
    """Every module of the package that can be imported here."""
    for found in pkgutil.walk_packages([str(PACKAGE)], "comet_resilience."):
        if not found.name.endswith(_NOT_IMPORTED):
            try:
                yield importlib.import_module(found.name)
            except ImportError:
                continue


def patterns_in(value: object, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """The compiled patterns in a value, however deep in its tuples and mappings."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 4 and isinstance(value, Mapping):
        for item in value.values():
            yield from patterns_in(item, depth + 1)
    elif depth < 4 and isinstance(value, (tuple, list, frozenset, set)):
        for item in value:
            yield from patterns_in(item, depth + 1)
    elif depth < 4 and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from patterns_in(getattr(value, field.name, None), depth + 1)


def inline_patterns(path: Path) -> Iterator[re.Pattern[Any]]:
    """The patterns that a file gives to a function of ``re`` where it uses them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _TAKE_A_PATTERN:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    flags = 0
                    for name in ("IGNORECASE", "DOTALL", "ASCII", "MULTILINE", "VERBOSE"):
                        if f"re.{name}" in ast.unparse(node):
                            flags |= getattr(re, name)
                    yield re.compile(argument.value, flags)


def anchored_names() -> frozenset[str]:
    """The names of patterns that are only ever matched from the beginning of a text."""
    used: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.setdefault(node.value.id, set()).add(node.attr)
    return frozenset(name for name, uses in used.items() if uses <= {"match", "fullmatch"})


def all_patterns() -> dict[tuple[str | bytes, int], bool]:
    """Each pattern of the package with its flags, and whether it is always anchored."""
    anchored, found = anchored_names(), dict[tuple[Any, int], bool]()
    for module in modules():
        for name, value in vars(module).items():
            for pattern in patterns_in(value):
                key = (pattern.pattern, pattern.flags)
                found[key] = found.get(key, True) and name in anchored
    for path in PACKAGE.rglob("*.py"):
        for pattern in inline_patterns(path):
            found.setdefault((pattern.pattern, pattern.flags), False)
    for rule in RULES:
        if rule.message is not None:
            found[rule.message, (re.IGNORECASE | re.UNICODE).value] = False
    return found


PATTERNS = all_patterns()


def steps(counter: StepCounter, text: str, pattern: re.Pattern[Any], *, anchored: bool) -> int:
    """Count the steps of one search, whose outcome has to be that of ``re``."""
    found = counter.search(text, anchored=anchored)
    subject: Any = text
    if isinstance(pattern.pattern, bytes):
        subject = text.encode("latin-1")
    look = pattern.match if anchored else pattern.search
    assert found == (look(subject) is not None), f"the step counter is wrong on {text[:80]!r}"
    return counter.steps


def growth_of(pattern: re.Pattern[Any], *, anchored: bool) -> tuple[float, str]:
    """The greatest growth of a pattern's work when its text grows by four, and the text."""
    counter, worst = StepCounter(pattern), (0.0, "")
    for text in hard_texts(counter, LARGE):
        try:
            after = steps(counter, text, pattern, anchored=anchored)
            if after <= PLENTY * LARGE:
                continue
            quarter = text[: SMALL - 1] + text[-1]
            before = steps(counter, quarter, pattern, anchored=anchored)
        except TooManyStepsError:
            return float("inf"), text
        worst = max(worst, (after / before, text))
    return worst


@pytest.mark.parametrize(("pattern", "flags"), PATTERNS, ids=repr)
def test_no_pattern_works_more_than_linearly(pattern: str | bytes, flags: int) -> None:
    """A text of four times the size costs about four times the steps."""
    compiled = re.compile(pattern, flags)
    growth, text = growth_of(compiled, anchored=PATTERNS[pattern, flags])
    assert growth < 10, f"grows {growth:.1f}-fold on {text[:120]!r}"


def test_the_patterns_are_found() -> None:
    """Those of every kind: module level, in tables and rows, inline, as bytes."""
    texts = [str(pattern) for pattern, _ in PATTERNS]
    for part in ("ray id", "AIza", "finish_reason", "violat", "chat/completions", "<title"):
        assert any(part in text for text in texts), part


@pytest.mark.parametrize(
    "pattern",
    [
        r"\s*(?:<!--.*?-->\s*)*<(?:!doctype|html|head|body)",
        r"\b(?:pk|rk|key)-(?=[\w*.-]*\d)[\w*.-]{7,}[\w*]",
        r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?",
        r"<title[^>]*>([^<]{0,300})",
        r"(?:\n\n)\s*\Z",
        r"(a+)+b",
        r"\s+#.*",
    ],
)
def test_a_pattern_that_looks_twice_is_found(pattern: str) -> None:
    """Patterns of the kind that is not to come back are told from the others."""
    growth, _ = growth_of(re.compile(pattern, re.IGNORECASE), anchored=False)
    assert growth > 10
