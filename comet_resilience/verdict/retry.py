"""Again, or give up: the decision after a failed attempt, with its reason in words.

The reasons to give up are asked in a fixed order: what the table says, what may have been billed,
what cannot be sent twice, the number of retries, the server's hint, the deadline. Time and
randomness come in as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Literal

import backoff

from .vocabulary import Action, BodyKind, Observation, Verdict

RetryAmbiguous = Literal["all", "text", "none"]
#: As ``backoff`` has them: a function that makes a generator, whose first value is a primer and
#: whose later ones are seconds; and one from the longest wait to the one that is waited.
WaitGenerator = Callable[..., Generator[Any, Any, None]]
Jitter = Callable[[float], float]

#: Edge statuses after which nobody knows whether the provider did the work.
_AMBIGUOUS_STATUS: Final = frozenset({502, 504, 520, 522, 524})
#: A client's error that means no refusal: somebody waited for the work too long.
_TIMED_OUT: Final = frozenset({408, 499})
_REDIRECTED: Final = 300
_SERVER_ERROR: Final = 500
#: Error types of gateways that give the money back when they answer with an error.
REFUNDING_TYPES: Final = frozenset({"comet_api_error", "new_api_error", "one_api_error"})
#: Their request ids: a time to the nanosecond, and eight characters.
_REFUNDING_ID: Final = re.compile(r"20\d{12,21}[A-Za-z0-9]{8}", re.ASCII)

#: A hint is stretched by at most this share, so that clients told the same time do not return
#: together; it is never shortened.
_HINT_SPREAD: Final = 0.05

#: A wait is this share of its ceiling at the least, as in the SDK itself: with full jitter (from 0
#: up) one call in six burns six retries within 11 seconds. Short waits hardly count towards
#: how long all of them last, so they are spread wider, for callers to fall out of step.
BACKOFF_LEAST: Final = 0.75
SHORT_WAIT: Final = 2.0
SHORT_WAIT_LEAST: Final = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The caller's policy: see the keywords of the same names in ``Config``."""

    backoff_initial: float
    backoff_max: float
    max_retry_after: float
    retry_ambiguous: RetryAmbiguous
    wait: WaitGenerator = backoff.expo
    jitter: Jitter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The state of a request after a failed attempt.

    ``attempt`` counts from 1; ``max_retries`` counts the attempts after the first. ``time_left``
    is in seconds, infinite without a deadline. ``not_replayable`` says why the body cannot be
    sent again, ``""`` if it can. ``jitter`` is a random number in [0, 1).
    """

    observation: Observation
    verdict: Verdict
    attempt: int
    max_retries: int
    time_left: float
    not_replayable: str
    jitter: float


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Send again after ``delay`` seconds, or after ``backoff`` if a hint turns out to be wrong."""

    delay: float
    reason: str
    backoff: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Hand the failure to the caller."""

    reason: str


def decide(policy: RetryPolicy, now: Situation) -> RetryIn | GiveUp:
    """Decide whether to send again, when and why."""
    refusal = _why_not(policy, now)
    if refusal:
        return GiveUp(refusal)
    hint = now.observation.retry_after
    step = _delay(policy, now)
    if hint is not None and hint > policy.max_retry_after:
        return GiveUp(
            f"the server asks to wait {hint:g} s, more than max_retry_after="
            f"{policy.max_retry_after:g} s"
        )
    if step.delay >= now.time_left:
        return GiveUp(
            f"the next attempt would start in {step.delay:.2f} s, but only"
            f" {max(now.time_left, 0):.2f} s are left before the deadline"
        )
    return step


def may_be_billed(observation: Observation, verdict: Verdict | None = None) -> bool:
    """Return True if the work may have been done and billed although no answer arrived.

    Of paid media the answer itself has to prove that nothing was begun: a refusal (4xx), an
    overload or a limit by name, a code of a gateway that refunds what it answers with an error.
    JSON proves nothing by itself: many gateways write it for a provider that took the request and
    then broke off. Of anything else only timeouts and broken answers leave it open.
    """
    if observation.fault is not None:
        if verdict is not None and verdict.ambiguous is not None:
            return verdict.ambiguous
        return not observation.fault.before_sending
    if observation.status is None:
        return False
    if observation.status < _REDIRECTED:
        return True
    if verdict is not None and verdict.ambiguous is not None:
        return verdict.ambiguous
    if observation.operation.is_paid_media:
        return observation.status in _TIMED_OUT or observation.status >= _SERVER_ERROR
    return observation.status in _AMBIGUOUS_STATUS and not _is_refunded(observation)


def _is_refunded(observation: Observation) -> bool:
    """Return True if a gateway that refunds failed calls wrote the error itself."""
    from_edge = observation.edge_retryable is not None or bool(observation.edge_code)
    own_id = _REFUNDING_ID.fullmatch(observation.ids.gateway) is not None
    signed = observation.type.lower() in REFUNDING_TYPES or own_id
    return observation.body is BodyKind.JSON and signed and not from_edge


@lru_cache(maxsize=4_096)
def backoff_ceiling(policy: RetryPolicy, retry: int) -> float:
    """Return the longest wait before retry number ``retry`` (from 1), within ``backoff_max``.

    By default ``backoff_initial * 2**(retry-1)``; a generator that ends goes on with its last
    value. The wait itself lies between ``least_share`` of it and the whole, or is made of it by
    the caller's ``jitter``.
    """
    if policy.wait is backoff.expo:
        waits = backoff.expo(factor=policy.backoff_initial, max_value=policy.backoff_max)
    else:
        waits = policy.wait()
    ceiling = 0.0
    for seconds in islice(waits, 1, retry + 1):  # the generator's first value is a primer
        ceiling = min(seconds, policy.backoff_max)
    return float(ceiling)


def least_share(ceiling: float) -> float:
    """Return the share of a backoff of ``ceiling`` seconds that is waited at the least."""
    return SHORT_WAIT_LEAST if ceiling <= SHORT_WAIT else BACKOFF_LEAST


def _jittered(policy: RetryPolicy, now: Situation) -> tuple[float, str]:
    ceiling = backoff_ceiling(policy, now.attempt)
    if policy.jitter is None:
        least = least_share(ceiling)
        return (least + (1 - least) * now.jitter) * ceiling, "backoff with jitter"
    return min(max(policy.jitter(ceiling), 0.0), policy.backoff_max), "backoff"


def _why_not(policy: RetryPolicy, now: Situation) -> str:
    verdict = now.verdict
    if verdict.action is Action.FAIL:
        return f"not retried: {verdict.reason}"
    if now.observation.should_retry is False:
        return "not retried: the server says that a retry cannot help (x-should-retry: false)"
    if may_be_billed(now.observation, verdict) and not _may_repeat(policy, now.observation):
        return (
            "not retried: the work may have been done and billed although no answer arrived"
            f" (retry_ambiguous={policy.retry_ambiguous!r})"
        )
    if now.not_replayable:
        return f"not retried: the body cannot be sent again ({now.not_replayable})"
    allowed = now.max_retries
    if verdict.at_most is not None:
        allowed = min(allowed, verdict.at_most)
    if now.attempt > allowed:
        used_up = "the only retry is" if allowed == 1 else f"all {allowed} retries are"
        return f"{used_up} used up" if allowed else "retries are off"
    return ""


def _may_repeat(policy: RetryPolicy, observation: Observation) -> bool:
    if policy.retry_ambiguous == "text":
        return not observation.operation.is_paid_media
    return policy.retry_ambiguous == "all"


def _delay(policy: RetryPolicy, now: Situation) -> RetryIn:
    """Return the wait: our backoff, the server's hint, or the table's least wait.

    The table's wait stands in for a hint: where the server names a time, the server knows better.
    """
    delay, kind = _jittered(policy, now)
    hint = now.observation.retry_after
    if hint is None:
        least, why = min(now.verdict.wait, policy.backoff_max), "least wait for this failure"
    else:
        least, why = hint, f"the server asked for {hint:g} s"
    if least <= delay:
        return RetryIn(delay, kind, delay)
    stretched = least * (1 + now.jitter * _HINT_SPREAD)
    return RetryIn(stretched, why, stretched if hint is None else delay)
