"""Wait generators and jitters of the `backoff` package, in place of our own."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

import backoff
import openai
import pytest

from comet_resilience import Config, RetryScheduled, override
from comet_resilience.verdict.retry import RetryIn, Situation, backoff_ceiling, decide
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import BodyKind, Observation, Operation

from .conftest import BROKEN, OK, ask, scripted

SERVER_ERROR = Observation(status=500, body=BodyKind.JSON, operation=Operation.TEXT)
ALL = lambda ceiling: ceiling  # noqa: E731 - a jitter that is none


def three() -> Generator[float | None, None, None]:
    """A generator of its own kind that ends."""
    yield None
    yield from (4.0, 2.0, 7.0)


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (backoff.expo, [0.5, 1, 2, 4, 8, 10]),
        (partial(backoff.expo, base=3, factor=0.1), [0.1, 0.3, 0.9, 2.7, 8.1, 10]),
        (backoff.fibo, [1, 1, 2, 3, 5, 8]),
        (backoff.constant, [1, 1, 1, 1, 1, 1]),
        (partial(backoff.constant, interval=2), [2, 2, 2, 2, 2, 2]),
        (partial(backoff.constant, interval=(1, 3)), [1, 3, 3, 3, 3, 3]),
        (three, [4, 2, 7, 7, 7, 7]),
    ],
)
def test_the_longest_waits_are_the_generators(wait: Any, expected: list[float]) -> None:
    """In seconds as they come, within `backoff_max`; one that ends goes on with its last."""
    policy = Config(wait=wait, backoff_max=10).retry_policy
    found = [backoff_ceiling(policy, retry) for retry in range(1, 7)]
    assert found == pytest.approx(expected)


def test_a_thousand_retries_overflow_nothing() -> None:
    """However fast a generator grows."""
    policy = Config(wait=partial(backoff.expo, base=100)).retry_policy
    assert backoff_ceiling(policy, 1_000) == 30.0


@pytest.mark.parametrize(
    ("jitter", "low", "high"),
    [
        (backoff.full_jitter, 0.0, 4.0),
        (backoff.random_jitter, 4.0, 5.0),
        (ALL, 4.0, 4.0),
        (lambda ceiling: ceiling * 99, 30.0, 30.0),
        (lambda ceiling: 0.0 if ceiling == 1.0 else -1.0, 0.0, 0.0),
    ],
)
def test_a_jitter_makes_the_wait(jitter: Callable[[float], float], low: float, high: float) -> None:
    """Never longer than `backoff_max`, never below nothing."""
    policy = Config(wait=partial(backoff.constant, interval=4), jitter=jitter).retry_policy
    now = Situation(
        observation=SERVER_ERROR, verdict=classify(SERVER_ERROR), attempt=1, max_retries=3,
        time_left=math.inf, not_replayable="", jitter=0.5,
    )  # fmt: skip
    for _ in range(50):
        step = decide(policy, now)
        assert isinstance(step, RetryIn)
        assert low <= step.delay <= high
    hinted = decide(policy, replace(now, observation=replace(SERVER_ERROR, retry_after=20.0)))
    assert isinstance(hinted, RetryIn)
    assert hinted.delay >= 20.0


def without_primer_or_numbers() -> Generator[Any, Any, None]:
    """Yields what is no number."""
    yield None
    yield "soon"


@pytest.mark.parametrize(
    "wait",
    [3, backoff.runtime, backoff.full_jitter, list, without_primer_or_numbers, lambda: iter([1.0])],
)
def test_what_is_no_wait_generator_is_refused(wait: Any) -> None:
    """At construction, with what is expected."""
    with pytest.raises(
        ValueError, match=r"wait=.*: expected a wait generator such as backoff\.fibo"
    ):
        Config(wait=wait)


@pytest.mark.parametrize(
    "jitter", [3, backoff.expo, lambda: 1.0, lambda _: -1.0, lambda _: math.nan]
)
def test_what_is_no_jitter_is_refused(jitter: Any) -> None:
    """At construction, with what is expected."""
    with pytest.raises(ValueError, match=r"jitter=.*: expected a function such as backoff"):
        Config(jitter=jitter)


@pytest.mark.anyio
async def test_a_client_waits_so_and_a_block_otherwise() -> None:
    """From the keyword to the wait, in virtual time or none."""
    delays: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, RetryScheduled):
            delays.append(event.delay)

    slow = partial(backoff.constant, interval=(0.02,))
    client, _ = scripted(BROKEN, BROKEN, OK, BROKEN, OK, wait=slow, jitter=ALL, on_event=note)
    await ask(client)
    with override(wait=partial(backoff.constant, interval=(0.01,))):
        await ask(client)
    assert delays == [0.02, 0.02, 0.01]
    assert isinstance(client, openai.AsyncOpenAI)
