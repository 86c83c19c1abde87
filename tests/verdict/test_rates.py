"""A limit that a server tells is read from headers of every family, and from words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comet_resilience.verdict.rates import (
    Counted,
    RateInWords,
    RateReading,
    parse_rate_in_words,
    parse_rates,
)

_NOW = 1_800_000_000.0
_REQUESTS = RateReading(Counted.REQUESTS, 60.0, 12.0, 30.0)


@pytest.mark.parametrize(
    "headers",
    [
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "12",
            "x-ratelimit-reset-requests": "30s",
        },
        {
            "anthropic-ratelimit-requests-limit": "60",
            "anthropic-ratelimit-requests-remaining": "12",
            "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
        },
        {"ratelimit-limit": "60, 60;w=60", "ratelimit-remaining": "12", "ratelimit-reset": "30"},
        {"ratelimit": "limit=60, remaining=12, reset=30"},
        {"ratelimit": '"default";r=12;t=30', "ratelimit-policy": '"default";q=60;w=60'},
        {
            "x-ratelimit-limit": "60",
            "x-ratelimit-remaining": "12",
            "x-ratelimit-reset": "1800000030000",
        },
    ],
)
def test_each_family_is_read(headers: dict[str, str]) -> None:
    """The same limit in six dialects."""
    [reading] = parse_rates(headers, _NOW)
    assert replace(reading, name="", period=None) == _REQUESTS


def test_a_period_may_stand_for_the_reset() -> None:
    """Azure tells how long the limit is for, and sometimes no reset."""
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-renewalperiod-requests": "60",
    }
    family = "x-ratelimit"
    told = RateReading(Counted.REQUESTS, 60.0, 12.0, None, 60.0, family)
    assert parse_rates(headers, _NOW) == (told,)
    headers["x-ratelimit-reset-requests"] = "3"
    assert parse_rates(headers, _NOW) == (replace(told, reset=3.0),)


def test_several_limits_of_one_header_are_told_apart_by_their_names() -> None:
    """A burst and a day: which is the scarcest changes, and neither becomes the other."""
    headers = {
        "ratelimit": '"burst";r=2;t=1, "day";r=990;t=3600',
        "ratelimit-policy": '"burst";q=10;w=1, "day";q=1000;w=86400',
    }
    assert parse_rates(headers, _NOW) == (
        RateReading(Counted.REQUESTS, 10.0, 2.0, 1.0, 1.0, "ratelimit burst"),
        RateReading(Counted.REQUESTS, 1000.0, 990.0, 3600.0, 86_400.0, "ratelimit day"),
    )


def test_requests_and_tokens_are_read_together() -> None:
    """Tokens that are read and tokens that are written have limits of their own."""
    headers = {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "12",
        "anthropic-ratelimit-requests-reset": "30",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "5",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "100",
        "anthropic-ratelimit-output-tokens-reset": "50",
    }
    family = "anthropic-ratelimit"
    assert parse_rates(headers, _NOW) == (
        replace(_REQUESTS, name=family),
        RateReading(Counted.INPUT_TOKENS, 40_000.0, 39_000.0, 5.0, name=family),
        RateReading(Counted.OUTPUT_TOKENS, 8_000.0, 100.0, 50.0, name=family),
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-requests": "12"},
        {"ratelimit-limit": "60", "ratelimit-remaining": "61", "ratelimit-reset": "1"},
        {"ratelimit-limit": "0", "ratelimit-remaining": "0", "ratelimit-reset": "1"},
        {"ratelimit-limit": "-5", "ratelimit-remaining": "1", "ratelimit-reset": "1"},
        {"ratelimit-limit": "60", "ratelimit-remaining": "1", "ratelimit-reset": "soon"},
        {"ratelimit-limit": "9" * 400, "ratelimit-remaining": "1", "ratelimit-reset": "1"},
        {"ratelimit": "x" * 10_000},
        {"ratelimit": '"a";r=nan;t=inf, "b', "ratelimit-policy": '"a";q=1e9;w=-1'},
        {
            "x-ratelimit-limit-tokens": "-1",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-reset-tokens": "0",
        },
        {
            "x-ratelimit-limit": "60",
            "x-ratelimit-remaining": "1",
            "x-ratelimit-renewalperiod": "0",
        },
        {
            "x-ratelimit-limit": "60",
            "x-ratelimit-remaining": "nan",
            "x-ratelimit-reset": "99999999999999",
        },
        {f"x-ratelimit-limit-{number}": "1" for number in range(1_000)},
    ],
)
def test_nonsense_tells_nothing(headers: dict[str, str]) -> None:
    """A limit of which a part is missing, or impossible, is none."""
    assert parse_rates(headers, _NOW) == ()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("您已达到请求数限制：5分钟内最多请求20次", (Counted.REQUESTS, 20, 300.0, True)),  # noqa: RUF001
        (
            "您已达到总请求数限制：1分钟内最多请求30次，包括失败次数，请检查",  # noqa: RUF001
            (Counted.REQUESTS, 30, 60.0, True),
        ),
        (
            "You have reached the request limit: maximum 20 requests in 5 minutes",
            (Counted.REQUESTS, 20, 300.0, True),
        ),
        (
            "Rate limit reached for m in o on requests per min (RPM): Limit 60, Used 60.",
            (Counted.REQUESTS, 60, 60.0, False),
        ),
        (
            "Rate limit for m on tokens per min (TPM): Limit 200000, Used 198000, Requested 4.",
            (Counted.TOKENS, 200_000, 60.0, False),
        ),
        ("Limit: 90 / min. Current: 91 / min. RPM exceeded", (Counted.REQUESTS, 90, 60.0, False)),
        (
            "This request would exceed your rate limit of 50,000 input tokens per minute",
            (Counted.INPUT_TOKENS, 50_000, 60.0, False),
        ),
        ("reached organization max RPM: 3, try again", (Counted.REQUESTS, 3, 60.0, False)),
        ("Rate limit of 10 per 60s exceeded for X.", (Counted.REQUESTS, 10, 60.0, False)),
        ("is limited to 10 API calls / minute.", (Counted.REQUESTS, 10, 60.0, False)),
        ("quota of 3 requests per second", (Counted.REQUESTS, 3, 1.0, False)),
    ],
)
def test_words_name_a_limit(message: str, said: tuple[Counted, int, float, bool]) -> None:
    """What is counted, how many, in what time, and whose limit it is."""
    assert parse_rate_in_words(message) == RateInWords(*said)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Rate limit reached",
        "Too many requests, please try again in 20 s",
        "1分钟内最多请求<no value>次",
        "1分钟内最多请求0次",
        "maximum context length is 8192 tokens",
        "You requested 500 tokens. Limit 5 images",
        "requests per min" * 2_000,
    ],
)
def test_other_words_name_none(message: str) -> None:
    """Half a limit is none."""
    assert parse_rate_in_words(message) is None
