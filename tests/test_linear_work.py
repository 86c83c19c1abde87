"""No text costs more than linear work, whatever a server sends.

Every pattern of the package is found, not listed: a new one is tested as soon as it is written.
Steps are counted by ``pattern_work``, so that no machine is too slow or too fast for this file.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import math
import pkgutil
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import comet_resilience
from comet_resilience.cli.doctor.settings import parse_dotenv
from comet_resilience.cli.pasted import clues_in
from comet_resilience.diagnosis.content import as_json, shown_answer
from comet_resilience.diagnosis.hints import SentRequest, hints
from comet_resilience.diagnosis.redaction import redactor, unusual
from comet_resilience.escaping import escaped, harmless
from comet_resilience.verdict.answer import is_answer, is_transcript
from comet_resilience.verdict.envelope import parse_envelope
from comet_resilience.verdict.retry_after import parse_hint_in_message, parse_retry_after
from comet_resilience.verdict.rules import RULES, classify
from comet_resilience.verdict.vocabulary import FailureKind, Observation, Operation
from comet_resilience.wire.response import ResponseHead, observe
from comet_resilience.wire.sse import TERMINALS, EventWatch, FirstEvent

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
                    pattern: Any = argument.value
                    yield re.compile(pattern, flags)


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


HEAD, TEXT = ResponseHead(429, {}), Operation.TEXT
KNOWN = redactor(
    ["sk-proj-0123456789abcdefghijklmnop", "org-abcdefgh12345678"], "once upon a time, " * 3_000
)
#: Everything that reads what a server has sent, or what a person has pasted.
READERS: dict[str, Callable[[str], object]] = {
    "line": KNOWN.line,
    "scrub": KNOWN.scrub,
    "harmless": harmless,
    "escaped": escaped,
    "envelope": lambda text: parse_envelope(text.encode("utf-8", "replace")),
    "transcript": lambda text: is_transcript(text.encode("utf-8", "replace")),
    "answer": lambda text: is_answer(text.encode("utf-8", "replace"), ("choices",)),
    "shown answer": lambda text: shown_answer(text.encode("utf-8", "replace"), KNOWN),
    "verdict": lambda text: classify(observe(HEAD, text.encode("utf-8", "replace"), TEXT)),
    "hint": parse_hint_in_message,
    "retry-after": lambda text: parse_retry_after({"retry-after": text, "date": text}, 0.0),
    "hints": lambda text: hints(
        FailureKind.INVALID_REQUEST, Observation(message=text), SentRequest(authorization=text,
        body=b"{}")),
    "key hints": lambda text: hints(
        FailureKind.AUTHENTICATION, Observation(message=text),
        SentRequest(authorization=f"Bearer {text}", body=b"{}")),
    "first event": lambda text: FirstEvent().feed(text.encode("utf-8", "replace")),
    "event watch": lambda text: EventWatch(TERMINALS["/chat/completions"], 1).feed(
        text.encode("utf-8", "replace")),
    "secrets": lambda text: redactor([text, *unusual(text)], text).line(text),
    "dotenv": parse_dotenv,
    "pasted": clues_in,
}  # fmt: skip
#: Shapes that no pattern has: an echo of the prompt, comments, nested and wrapped bodies.
SHAPES = (
    "once upon a time, ", "<!-- -->", "[", "{", '{"error":', "\\", "%25", "&#45;", "\0", "\u202e",
    "\u200b", "\ufdfa", "a" * 199 + " ", " ", "\n", "\r", "data:\n", '"', "pk-.", "key-..", "eyJ-",
    "Error code: 500 - {", "429 {", "\n{",
)  # fmt: skip
SIZE = 65_536
#: Seconds of CPU that 64 KB may cost: a hundred times what most of them do, a tenth of what
#: looking twice at each character does.
ENOUGH = 1.0


def wrapped(text: str) -> Iterator[str]:
    """A text as a body, as a message, and as a message within a message."""
    yield text
    inside = json.dumps({"error": {"message": text[: SIZE // 4]}})
    yield inside
    yield json.dumps({"error": {"message": inside, "code": text[:100]}})


def seconds_of(read: Callable[[str], object], text: str) -> float:
    """The CPU time of one reading, the least of three where a busy machine disturbs."""
    least = math.inf
    for _ in range(3):
        begun = time.thread_time()
        read(text)
        least = min(least, time.thread_time() - begun)
        if least < ENOUGH:
            break
    return least


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_reader_looks_again_and_again(name: str, shape: str) -> None:
    """64 KB of anything is read in no time, whatever wraps it."""
    for text in wrapped((shape * (SIZE // len(shape) + 1))[:SIZE]):
        assert seconds_of(READERS[name], text) < ENOUGH, text[:60]


def nested(depth: int) -> object:
    """Two children to each node, and words at the leaves."""
    return {"error": [nested(depth - 1)] * 2, "message": "hello"} if depth else "leaf leaf"


def test_what_is_looked_at_of_a_body_is_bounded() -> None:
    """Many small texts cost more than a long one: so many are shown, and the rest is counted."""
    looked_at = []

    class Counting:
        def __getattr__(self, name: str) -> Callable[[str], str]:
            return lambda text: looked_at.append(text) or text  # type: ignore[func-returns-value]

    known: Any = Counting()
    for data in (nested(12), {"error": [["a"] * 200] * 80}, [{f"k{i}": "x"} for i in range(9_999)]):
        looked_at.clear()
        assert json.loads(as_json(data, known, content=True, answer=True))
        assert len(looked_at) <= 4_100
