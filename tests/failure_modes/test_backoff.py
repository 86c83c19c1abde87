"""The backoff of the AWS SDKs, reached by configuring our policy.

Sources: the AWS SDKs and Tools Reference Guide, "Retry behavior"
(docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html), in its 2026 form; botocore's
tests/unit/retries/test_standard_retry_v2_1.py and smithy-python's
packages/smithy-core/tests/functional/test_retries.py, which state the same facts as tests.

Not ours, on purpose:

* The retry quota (500 tokens; 14 a transient failure, 5 a throttled one; 1 back for a success).
  There is no budget of retries: a closed gate lets one canary at a time through, which bounds the
  sends in time rather than per token (``test_fm16_an_outage_is_not_amplified``).
* The rate of the adaptive mode (CUBIC, beta 0.7, scale 0.4). We learn how many requests may be in
  flight, not how many per second: see the header of ``limits/algorithm.py``.
* The clamp of a hint to the backoff and five seconds (10 000 ms becomes 5.05 s): we wait a hint
  out in full or not at all, because who comes back too early is refused again.
* Two bases in one policy (50 ms, and 1 s where throttled). Each is reached by configuring; for
  both at once a row of the caller's own may put a least wait on throttling (``Rule(wait=1.0)``).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import openai
import pytest

from comet_resilience.config import Config
from comet_resilience.verdict.retry import GiveUp, RetryIn, RetryPolicy, Situation, decide
from comet_resilience.verdict.retry_after import parse_retry_after
from comet_resilience.verdict.rule import Rule
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import (
    Action,
    BodyKind,
    FailureKind,
    Observation,
    Operation,
)
from tests.conftest import (
    OK,
    Answer,
    ask,
    envelope,
    in_virtual_time,
    scripted,
)

#: The specification's constants as our keywords: base 50 ms, cap 20 s, three attempts.
STANDARD: dict[str, Any] = {"backoff_initial": 0.05, "backoff_max": 20.0, "max_retries": 2}
THROTTLED: dict[str, Any] = {**STANDARD, "backoff_initial": 1.0}


def policy(**options: Any) -> RetryPolicy:
    """The policy that ``wrap(client, **options)`` decides by."""
    return Config.from_options(options).retry_policy


def step(
    rules: RetryPolicy,
    attempt: int = 1,
    *,
    status: int = 500,
    hint: float | None = None,
    jitter: float = 1.0,
    max_retries: int = 100,
    extra: tuple[Rule, ...] = (),
) -> RetryIn | GiveUp:
    """Return what is done after a failed attempt."""
    observation = Observation(
        status=status, body=BodyKind.JSON, operation=Operation.TEXT, retry_after=hint
    )
    return decide(
        rules,
        Situation(
            observation=observation,
            verdict=classify(observation, extra),
            attempt=attempt,
            max_retries=max_retries,
            time_left=math.inf,
            not_replayable="",
            jitter=jitter,
        ),
    )


def delay(*arguments: Any, **keywords: Any) -> float:
    """The wait, where there is one."""
    found = step(*arguments, **keywords)
    assert isinstance(found, RetryIn)
    return found.delay


AWS_BACKOFF = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]
AWS_THROTTLED = [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


@pytest.mark.parametrize(("retry", "seconds"), list(enumerate(AWS_BACKOFF, 1)))
def test_aws_backoff_doubles_from_50_ms_up_to_20_s(retry: int, seconds: float) -> None:
    """``min(50 ms * 2^(n-1), 20 s)``, with the jitter at its largest."""
    assert delay(policy(**STANDARD), retry) == pytest.approx(seconds)


@pytest.mark.parametrize(("retry", "seconds"), list(enumerate(AWS_THROTTLED, 1)))
def test_aws_backoff_of_throttled_requests_begins_at_a_second(retry: int, seconds: float) -> None:
    """The same with a base of 1 s, for 429."""
    assert delay(policy(**THROTTLED), retry, status=429) == pytest.approx(seconds)


def test_aws_throttling_base_by_a_row_of_the_callers_own() -> None:
    """Both bases at once: 50 ms for failures, never less than 1 s where throttled."""
    slower = Rule(
        name="throttled", status={429}, kind=FailureKind.RATE_LIMITED, action=Action.RETRY,
        wait=1.0, reason="throttled", source="user",
    )  # fmt: skip
    rules = policy(**STANDARD)
    waits = [delay(rules, status=429, jitter=jitter, extra=(slower,)) for jitter in (0.0, 0.5, 1.0)]
    assert waits == pytest.approx([1.0, 1.025, 1.05])
    assert delay(rules, extra=(slower,)) == pytest.approx(0.05)


@pytest.mark.parametrize("retry", [1, 5, 11])
def test_jitter_is_uniform_in_the_last_part_of_the_backoff(retry: int) -> None:
    """The SDK's own for long waits: even jitter fills ten bins alike, in order."""
    rules = policy(**STANDARD)
    ceiling = AWS_BACKOFF[retry - 1]
    waits = [delay(rules, retry, jitter=(place + 0.5) / 200) for place in range(200)]
    least = 0.4 if ceiling <= 2.0 else 0.75
    assert all(least * ceiling <= wait < ceiling for wait in waits)
    assert waits == sorted(waits)
    bins = Counter(int(10 * (wait / ceiling - least) / (1 - least)) for wait in waits)
    assert bins == dict.fromkeys(range(10), 20)


#: The header in milliseconds, the jitter, and the wait that the specification tells.
AWS_HINTS = [("1500", 0.0, 1.5), ("0", 1.0, 0.05), ("invalid", 1.0, 0.05)]


@pytest.mark.parametrize(("header", "jitter", "seconds"), AWS_HINTS)
def test_aws_hint_is_waited_out_and_nonsense_is_not(
    header: str, jitter: float, seconds: float
) -> None:
    """1500 ms are 1.5 s; 0 and nonsense leave the backoff."""
    hint = parse_retry_after({"retry-after-ms": header}, 0.0)
    assert delay(policy(**STANDARD), hint=hint, jitter=jitter) == pytest.approx(seconds)


def test_a_hint_above_the_cap_ends_it_where_aws_would_shorten_it() -> None:
    """10 000 ms: in full, or given up where the cap is AWS's five seconds and the backoff."""
    assert delay(policy(**STANDARD), hint=10.0, jitter=0.0) == 10.0
    capped = step(policy(**STANDARD, max_retry_after=5.05), hint=10.0)
    assert isinstance(capped, GiveUp)
    assert "10 s" in capped.reason


def failed(status: int) -> Answer:
    """An error of the gateway."""
    return status, envelope("", "failed"), {}


#: What the server answers, and after how many attempts it ends well.
AWS_SEQUENCES: list[tuple[list[Answer], int, bool]] = [
    ([failed(500), failed(500), OK], 3, True),
    ([failed(500), OK], 2, True),
    ([OK], 1, True),
    ([failed(502), failed(502), failed(502)], 3, False),
    ([failed(500), failed(502), failed(503), OK], 3, False),
    ([failed(429), failed(500), OK], 3, True),
    ([failed(400), OK], 1, False),
]


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize(("answers", "attempts", "succeeds"), AWS_SEQUENCES)
async def test_aws_standard_mode_makes_three_attempts(
    answers: list[Answer], attempts: int, succeeds: bool
) -> None:
    """The standard mode's sequences, whole requests over the SDK."""
    client, inner = scripted(*answers, **STANDARD)
    if succeeds:
        assert await ask(client) == "Hi"
    else:
        with pytest.raises(openai.APIStatusError):
            await ask(client)
    assert len(inner.sent) == attempts
