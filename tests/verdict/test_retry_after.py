"""The server's hint, in its three forms, and nothing else."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience.verdict.retry_after import (
    parse_hint_in_message,
    parse_moment,
    parse_reset,
    parse_retry_after,
)

NOW = 1_793_589_240.0  # Mon, 02 Nov 2026 03:14:00 GMT
DATE = formatdate(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("5", 5), (" 7 ", 7), ("1.5", 1.5), ("86400", 86_400), ("5, 20", 20), ("3,1", 3)],
)
def test_seconds(value: str, seconds: float) -> None:
    """A number is a hint, and the largest of several."""
    assert parse_retry_after({"retry-after": value}, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "-1", "+1", "NaN", "inf", "1e309", "1e3", "0x10", "1_0", "5s", "٣", "²", "5;", ",", "5,",
     "soon", "9" * 100_000, "1." + "0" * 50, "Wed, 99 Foo 2026 99:99:99 GMT", "5, soon",
     "Mon, 02 Nov 99999 03:14:00 GMT", "Mon, 02 Nov 2026 03:14:00 +99999999999"],
)  # fmt: skip
def test_nonsense_is_no_hint(value: str) -> None:
    """What is neither a number nor a date is ignored rather than repaired."""
    assert parse_retry_after({"retry-after": value, "date": DATE}, NOW) is None


def test_milliseconds_come_first() -> None:
    """The finer header wins; if it is nonsense the other one counts."""
    assert parse_retry_after({"retry-after-ms": "1250", "retry-after": "9"}, NOW) == 1.25
    assert parse_retry_after({"retry-after-ms": "x", "retry-after": "9"}, NOW) == 9


def test_hint_that_a_proxy_kept_from_the_provider() -> None:
    """Where a proxy sends no hint of its own, the provider's counts."""
    assert parse_retry_after({"llm_provider-retry-after": "11"}, NOW) == 11
    both = {"retry-after": "60", "llm_provider-retry-after": "11"}
    assert parse_retry_after(both, NOW) == 60


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 02 Nov 2026 03:14:30 GMT",
        "Monday, 02-Nov-26 03:14:30 GMT",
        "Mon Nov  2 03:14:30 2026",
    ],
)
@pytest.mark.parametrize("skew", [0, 86_400, -86_400])
def test_dates_are_read_against_the_server_clock(value: str, skew: float) -> None:
    """All three forms of an HTTP date work, however wrong the local clock is."""
    assert parse_retry_after({"retry-after": value, "date": DATE}, NOW + skew) == 30


def test_date_without_a_server_clock() -> None:
    """Without a Date header, or with a broken one, the local clock has to do."""
    value = formatdate(NOW + 12, usegmt=True)
    assert parse_retry_after({"retry-after": value}, NOW) == 12
    assert parse_retry_after({"retry-after": value, "date": "broken"}, NOW) == 12


def test_date_in_the_past_is_no_hint() -> None:
    """A moment that is over asks for nothing."""
    value = formatdate(NOW - 1, usegmt=True)
    assert parse_retry_after({"retry-after": value, "date": DATE}, NOW) is None
    assert parse_retry_after({"retry-after": DATE, "date": DATE}, NOW) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("31", 31.0),
        ("1m26.5s", 86.5),
        (str(NOW + 30), 30.0),
        (str(1000 * NOW + 30_500), 30.5),
        ("Mon, 02 Nov 2026 03:14:30 GMT", 30.0),
        ("2026-11-02T03:14:30Z", 30.0),
        ("1970-01-01T00:00:05Z", 1e9 - NOW),
        ("2026-11-02T03:14:30", None),
        ("soon", None),
        ("", None),
    ],
)
def test_moments(text: str, seconds: float | None) -> None:
    """A duration, a number of either unit or a date; of a date without a zone nobody knows."""
    assert parse_moment(text, DATE, NOW - 500) == seconds
    assert parse_moment(text, "", NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"ratelimit": "limit=9, remaining=0, reset=7"}, 7.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}, 20.0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "20s"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s",
                "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3",
            },
            20.0,
        ),
    ],
)  # fmt: skip
def test_a_budget_that_is_used_up_comes_back(
    headers: dict[str, str], seconds: float | None
) -> None:
    """The longest of several counts, and none that has something left."""
    assert parse_reset(headers, NOW) == seconds


@settings(max_examples=150)
@given(
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "llm_provider-retry-after"]),
        st.text(max_size=30)
        | st.floats().map(str)
        | st.integers(-(10**15), 10**15).map(str)
        | st.integers(0, 4_000_000_000).map(lambda moment: formatdate(moment, usegmt=True)),
    ),
    now=st.floats(0, 4e9),
)
def test_hint_is_a_sane_number_or_none(headers: dict[str, str], now: float) -> None:
    """Any headers give a finite number that is not negative, or nothing."""
    hint = parse_retry_after(headers, now)
    assert hint is None or (hint >= 0 and math.isfinite(hint))


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 20s.", 20),
        ("Please try again in 1m2.5s.", 62.5),
        ("try again in 6m0s", 360),
        ("try again in 7h12m", 25_920),
        ("Try again in 120ms", 0.12),
        ("try again in 2 minutes", 120),
        ("Please retry after 26 seconds.", 26),
        ("Please wait 30 seconds before the next call", 30),
        ("retry in 3 sec", 3),
        ("wait 2 hours", 7_200),
        ("wait for it; then retry after 5 seconds", 5),
        ("Please try again in 0s", 0),
    ],
)
def test_hint_in_words(message: str, seconds: float) -> None:
    """A sentence that names a time is a hint."""
    assert parse_hint_in_message(message) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "message",
    ["", "try again later", "try again in 1 month", "try again in a while", "retry after 60",
     "wait", "in 5 seconds", "try again in ٣s", "try again in 99999999999 s"],
)  # fmt: skip
def test_words_without_a_time_are_no_hint(message: str) -> None:
    """Without a number and a unit nobody knows."""
    assert parse_hint_in_message(message) is None


@settings(max_examples=100)
@given(st.text(max_size=60).map(lambda text: "try again in " + text) | st.text(max_size=80))
def test_any_words_are_read_without_harm(message: str) -> None:
    """Any text gives a finite number that is not negative, or nothing."""
    hint = parse_hint_in_message(message)
    assert hint is None or (hint >= 0 and math.isfinite(hint))


#: RFC 9110, 10.2.3: an HTTP date in any of its three forms (5.6.7), or delay-seconds (1*DIGIT).
RFC_9110: list[tuple[str, float | None]] = [
    ("120", 120.0),
    ("0", 0.0),
    ("00120", 120.0),
    ("Mon, 02 Nov 2026 03:16:00 GMT", 120.0),
    ("Monday, 02-Nov-26 03:16:00 GMT", 120.0),
    ("Mon Nov  2 03:16:00 2026", 120.0),
    ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ("Sun, 06 Nov 1994 08:49:37 GMT", None),
    ("Sunday, 06-Nov-94 08:49:37 GMT", None),
    ("Sun Nov  6 08:49:37 1994", None),
    (DATE, 0.0),
    ("-120", None),
    ("+120", None),
    ("120 seconds", None),
    ("0x78", None),
    ("1e2", None),
]


@pytest.mark.parametrize(("value", "seconds"), RFC_9110)
def test_rfc_9110_forms_of_retry_after(value: str, seconds: float | None) -> None:
    """Each form is read against the response's own date; the past and nonsense ask for nothing."""
    for local_clock in (NOW, NOW - 86_400, NOW + 86_400):
        assert parse_retry_after({"retry-after": value, "date": DATE}, local_clock) == seconds
