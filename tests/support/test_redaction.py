"""Foreign texts, made harmless."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.support.redaction import MESSAGE_SHOWN, printable


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    """Control and bidi characters are escaped, long texts cut."""
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= MESSAGE_SHOWN * 10 + 1


def test_ordinary_words_stay() -> None:
    """Letters of any script pass unchanged."""
    assert printable("field messages is required 上游负载") == "field messages is required 上游负载"
    assert printable("\x1b[31mred\u202e\n") == "\\x1b[31mred\\u202e "
