"""Foreign texts in our lines: whole, on one line, and without a character that steers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.escaping import (
    MESSAGE_SHOWN,
    escaped,
    escaped_traceback,
    harmless,
    printable,
)

# Two line separators, an escape sequence, and a character that turns the direction of writing.
HOSTILE = st.text(st.characters() | st.sampled_from("\n\r\t\x1b\x85\u2028\u2029\u202e\x00"))


@given(HOSTILE)
def test_an_escaped_text_is_one_printable_line(text: str) -> None:
    """What was printable before stays as it was."""
    assert escaped(text).isprintable()
    assert len(escaped(text)) >= len(text)
    assert escaped(escaped(text)) == escaped(text)
    assert escaped(text) == text or not text.isprintable()


@given(HOSTILE)
def test_a_harmless_text_keeps_its_lines_alone(text: str) -> None:
    """Each of its lines is what `escaped` makes of it."""
    assert harmless(text).split("\n") == [escaped(line) for line in text.split("\n")]


@pytest.mark.parametrize("length", [0, 1, MESSAGE_SHOWN, MESSAGE_SHOWN + 1, 1_000_000])
def test_a_long_text_is_cut(length: int) -> None:
    """An ellipsis says so, and stands only where something is missing."""
    shown = printable("a" * length)
    assert shown == "a" * min(length, MESSAGE_SHOWN) + ("\u2026" if length > MESSAGE_SHOWN else "")


def test_a_traceback_tells_every_cause_and_forges_no_line() -> None:
    """The texts of a chain and of a group are escaped, our own lines are not."""
    try:
        try:
            raise KeyError("first\nTraceback (most recent call last):")
        except KeyError as first:
            raise ExceptionGroup("several\x1b[2J", [ValueError("one\ntwo"), first]) from first
    except ExceptionGroup as error:
        shown = escaped_traceback(error)
    assert "ValueError: one two" in shown
    assert "which is the cause of" in shown
    assert "\x1b" not in shown
    assert shown.count("\nKeyError") == 2
    assert sum(line.startswith("Traceback") for line in shown.splitlines()) == 4


@pytest.mark.parametrize("length", [5, 300])
def test_a_chain_of_any_length_is_bounded(length: int) -> None:
    """Of a long one the last are shown."""
    error: Exception = ValueError("0")
    for number in range(1, length):
        error, cause = ValueError(str(number)), error
        error.__cause__ = cause
    assert escaped_traceback(error).count("ValueError") == min(length, 21)
