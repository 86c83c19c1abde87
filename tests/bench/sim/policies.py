"""Who is compared: the library's limiter, and what people use today.

A policy is an algorithm for the limit and a rule for retries. All run in the same limiter, so
they differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from comet_resilience.config import Config
from comet_resilience.limits.algorithm import LimitAlgorithm, StepBack
from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.verdict.retry import RetryIn, Situation, decide
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import BodyKind, Observation, Operation

from .rivals import Aimd, Gradient2

RETRIES = 10
_UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of 429 or 503, with its hint in seconds."""

    status: int
    retry_after: float | None


def account_limit() -> StepBack:
    """Return the account's limit as ``wrap()`` configures it."""
    return Config().make_account_limit()


#: The wait before the next attempt, from how many were made, the refusal and a draw; ``None``
#: to give up.
RetryRule = Callable[[int, Refusal, float], float | None]


@dataclass(frozen=True, slots=True)
class Policy:
    """One column of the comparison.

    ``holds_slot`` if a slot is kept while waiting to retry, ``in_account`` if a limit of the
    account stands above those of its models.
    """

    name: str
    make_algorithm: Callable[[], LimitAlgorithm]
    retry: RetryRule
    holds_slot: bool = False
    in_account: bool = True
    make_account_limit: Callable[[], StepBack] = account_limit


def product_retry(attempts: int, refusal: Refusal, draw: float) -> float | None:
    """What ``verdict.retry`` decides, with ten retries."""
    observation = Observation(
        status=refusal.status,
        body=BodyKind.JSON,
        retry_after=refusal.retry_after,
        operation=Operation.TEXT,
    )
    step = decide(
        Config().retry_policy,
        Situation(
            observation=observation,
            verdict=classify(observation),
            attempt=attempts,
            max_retries=RETRIES,
            time_left=float("inf"),
            not_replayable="",
            jitter=draw,
        ),
    )
    return step.delay if isinstance(step, RetryIn) else None


def sdk_retry(retries: int) -> RetryRule:
    """The SDK's own rule: 0.5 s doubling to 8 s, up to a quarter less; hints up to a minute."""

    def retry(attempts: int, refusal: Refusal, draw: float) -> float | None:
        if attempts > retries:
            return None
        hint = refusal.retry_after
        if hint is not None and 0 < hint <= 60:
            return hint
        return min(8.0, 0.5 * 2.0 ** (attempts - 1)) * (1 - 0.25 * draw)

    return retry


def step_back() -> LimitAlgorithm:
    """The library's algorithm as ``wrap()`` configures it."""
    config = Config()
    return config.make_algorithm()


PRODUCT = Policy("comet_resilience", step_back, product_retry)

#: As the product, but each model by itself.
PER_MODEL = replace(PRODUCT, name="per_model", in_account=False)

POLICIES = (
    PRODUCT,
    Policy("sdk2", lambda: FixedLimit(_UNLIMITED), sdk_retry(2), in_account=False),
    Policy("sdk10", lambda: FixedLimit(_UNLIMITED), sdk_retry(10), in_account=False),
    Policy("sem5", lambda: FixedLimit(5), product_retry, holds_slot=True, in_account=False),
    Policy("aimd", Aimd, product_retry, in_account=False),
    Policy("gradient2", Gradient2, product_retry, in_account=False),
)

BY_POLICY = {policy.name: policy for policy in (*POLICIES, PER_MODEL)}
