"""Again or give up: each reason, and the bounds of every wait."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience.verdict.retry import (
    GiveUp,
    RetryIn,
    RetryPolicy,
    Situation,
    backoff_ceiling,
    decide,
    may_be_billed,
)
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import (
    BodyKind,
    Fault,
    Observation,
    Operation,
    RequestIds,
)

POLICY = RetryPolicy(
    backoff_initial=0.5, backoff_max=30.0, max_retry_after=60.0, retry_ambiguous="text"
)
BROKEN = Observation(status=500, body=BodyKind.JSON, operation=Operation.TEXT)
LATE = Observation(fault=Fault.READ_TIMEOUT, operation=Operation.TEXT)


def _situation(observation: Observation = BROKEN, **changes: object) -> Situation:
    now = Situation(
        observation=observation,
        verdict=classify(observation),
        attempt=1,
        max_retries=3,
        time_left=math.inf,
        not_replayable="",
        jitter=0.5,
    )
    return replace(now, **changes)  # type: ignore[arg-type]


def _step(
    observation: Observation = BROKEN, policy: RetryPolicy = POLICY, **changes: object
) -> str:
    """What is done, in words: the delay or the reason to stop."""
    step = decide(policy, _situation(observation, **changes))
    return step.reason if isinstance(step, GiveUp) else f"{step.delay:g} s, {step.reason}"


def test_backoff_lies_between_a_least_share_of_the_ceiling_and_the_whole() -> None:
    """The jitter spreads the last part, less of it for longer waits, and the ceiling doubles."""
    assert _step() == "0.35 s, backoff with jitter"
    assert _step(jitter=0.0) == "0.2 s, backoff with jitter"
    assert _step(attempt=3) == "1.4 s, backoff with jitter"
    assert _step(attempt=4, max_retries=9) == "3.5 s, backoff with jitter"
    assert _step(attempt=4, max_retries=9, jitter=0.0) == "3 s, backoff with jitter"


def test_the_table_comes_first() -> None:
    """What is not retryable is not retried, for the reason in its row."""
    step = _step(replace(BROKEN, status=413), not_replayable="x", max_retries=0, time_left=0)
    assert step == "not retried: the request is too large"


@pytest.mark.parametrize("operation", [Operation.MEDIA, Operation.JOB])
@pytest.mark.parametrize(
    "observation",
    [
        LATE,
        Observation(fault=Fault.READ),
        Observation(fault=Fault.PROTOCOL, status=200),
        Observation(status=524, body=BodyKind.HTML),
        Observation(status=520, body=BodyKind.EMPTY),
        Observation(status=502, body=BodyKind.HTML),
        Observation(status=504, body=BodyKind.JSON, edge_retryable=True, retry_after=1),
        Observation(status=524, body=BodyKind.JSON, edge_code="524"),
        Observation(status=408, body=BodyKind.JSON),
        Observation(status=500, body=BodyKind.JSON, code="bad_response_body"),
        Observation(status=200, body=BodyKind.EMPTY),
        Observation(status=502, body=BodyKind.JSON, message="bad gateway"),
        Observation(status=504, body=BodyKind.JSON),
        Observation(status=504, body=BodyKind.JSON, code="bad_response_status_code"),
    ],
)
def test_paid_media_are_not_sent_again_blindly(
    observation: Observation, operation: Operation
) -> None:
    """Where the work may have been done, media need to be asked for, and text does not."""
    media = replace(observation, operation=operation)
    assert "may have been done and billed" in _step(media)
    assert "retry_ambiguous='text'" in _step(media)
    assert " s, " in _step(media, replace(POLICY, retry_ambiguous="all"))
    text = replace(observation, operation=Operation.TEXT)
    assert " s, " in _step(text)
    assert "may have been done" in _step(text, replace(POLICY, retry_ambiguous="none"))


@pytest.mark.parametrize(
    "observation",
    [
        Observation(status=503, body=BodyKind.HTML, message="503 Service Temporarily Unavailable"),
        Observation(status=503, body=BodyKind.JSON, code="overloaded"),
        Observation(status=529, body=BodyKind.JSON),
        Observation(status=521, body=BodyKind.HTML),
        Observation(status=523, body=BodyKind.JSON, edge_retryable=True),
        Observation(status=500, body=BodyKind.JSON, code="do_request_failed"),
        Observation(status=502, body=BodyKind.JSON, code="bad_response_status_code"),
        Observation(status=429, body=BodyKind.EMPTY),
        Observation(fault=Fault.CONNECT),
        Observation(fault=Fault.POOL_TIMEOUT),
    ],
)
@pytest.mark.parametrize("ambiguous", ["text", "all", "none"])
def test_what_was_not_done_is_sent_again(
    observation: Observation, ambiguous: Literal["text", "all", "none"]
) -> None:
    """A refusal, an overload by name, a code of a gateway that refunds: nothing is owed."""
    media = replace(observation, operation=Operation.MEDIA)
    assert not may_be_billed(media, classify(media))
    assert " s, " in _step(media, replace(POLICY, retry_ambiguous=ambiguous))


@pytest.mark.parametrize(
    "observation",
    [
        Observation(status=500, body=BodyKind.JSON, message="Connection error."),
        Observation(status=500, body=BodyKind.HTML),
        Observation(status=500, body=BodyKind.JSON, type="comet_api_error"),
        Observation(status=503, body=BodyKind.JSON, message="upstream connect error"),
        Observation(status=530, body=BodyKind.HTML),
        Observation(status=599, body=BodyKind.TEXT),
    ],
)
def test_a_servers_failure_proves_nothing_about_paid_media(observation: Observation) -> None:
    """A picture may have been made behind any 5xx that does not say more; text is no matter."""
    media = replace(observation, operation=Operation.JOB)
    assert may_be_billed(media, classify(media))
    assert "may have been done and billed" in _step(media)
    text = replace(observation, operation=Operation.TEXT)
    assert not may_be_billed(text, classify(text))


@pytest.mark.parametrize("status", [502, 504])
def test_text_is_unbilled_where_a_gateway_that_refunds_says_so(status: int) -> None:
    """JSON alone is nobody's word; the family's type, or its request id, is."""
    bare = Observation(status=status, body=BodyKind.JSON, operation=Operation.TEXT)
    assert may_be_billed(bare, classify(bare))
    for signed in (
        replace(bare, type="comet_api_error"),
        replace(bare, ids=RequestIds(gateway="20261102031415926535897Qx7LmZ2p")),
    ):
        assert not may_be_billed(signed, classify(signed))
    edge = replace(bare, type="comet_api_error", edge_code=str(status))
    assert may_be_billed(edge, classify(edge))


def test_without_a_verdict_the_facts_decide() -> None:
    """Billing can be asked of the bare facts."""
    assert may_be_billed(LATE)
    assert not may_be_billed(Observation())


def test_what_cannot_be_sent_again_is_not() -> None:
    """A body that is gone ends it, with the reason."""
    step = _step(not_replayable="it is a stream")
    assert step == "not retried: the body cannot be sent again (it is a stream)"


def test_retries_run_out() -> None:
    """The client's own number counts the attempts after the first."""
    assert " s, " in _step(attempt=3)
    assert _step(attempt=4) == "all 3 retries are used up"
    assert _step(max_retries=0) == "retries are off"


def test_table_bounds_the_retries() -> None:
    """A row may allow fewer retries than the client, never more."""
    observation = replace(BROKEN, status=599)
    assert " s, " in _step(observation)
    assert _step(observation, attempt=2) == "the only retry is used up"
    assert _step(observation, max_retries=0) == "retries are off"


def test_too_long_a_hint_ends_it() -> None:
    """A wait longer than allowed is told rather than shortened."""
    step = _step(replace(BROKEN, retry_after=86_400.0))
    assert step == "the server asks to wait 86400 s, more than max_retry_after=60 s"
    assert " s, " in _step(replace(BROKEN, retry_after=60.0))


def test_deadline_ends_it() -> None:
    """No wait that would end too late is begun."""
    assert _step(time_left=0.25).endswith("only 0.25 s are left before the deadline")
    assert _step(time_left=-1).endswith("only 0.00 s are left before the deadline")
    assert " s, " in _step(time_left=0.26)


def test_hint_is_waited_out_and_stretched_a_little() -> None:
    """Never shorter than the server asked, and not all at the same moment."""
    observation = replace(BROKEN, retry_after=10.0)
    assert _step(observation) == "10.25 s, the server asked for 10 s"
    assert _step(observation, jitter=0.0) == "10 s, the server asked for 10 s"
    assert _step(replace(BROKEN, retry_after=0.1)) == "0.35 s, backoff with jitter"


def test_least_wait_of_the_table_stands_in_for_a_hint() -> None:
    """Without a hint the row's wait is kept; with one the server knows better."""
    observation = Observation(status=429, body=BodyKind.EMPTY)
    assert _step(observation, jitter=0.0) == "20 s, least wait for this failure"
    assert (
        _step(replace(observation, retry_after=3.0), jitter=0.0) == "3 s, the server asked for 3 s"
    )
    assert _step(observation, replace(POLICY, backoff_max=2.0), jitter=0.0).startswith(
        "2 s, least wait"
    )


def test_ceilings_double_up_to_the_cap() -> None:
    """0.5, 1, 2, 4 and so on, and then always the cap."""
    ceilings = [backoff_ceiling(POLICY, retry) for retry in range(1, 9)]
    assert ceilings == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff_ceiling(POLICY, 1_001) == 30
    assert backoff_ceiling(replace(POLICY, backoff_initial=0.0), 1_001) == 0


policies = st.builds(
    RetryPolicy,
    backoff_initial=st.floats(0, 3_600),
    backoff_max=st.floats(0, 86_400),
    max_retry_after=st.floats(0, 86_400),
    retry_ambiguous=st.sampled_from(["text", "all", "none"]),
)


@settings(max_examples=150)
@given(policy=policies, retry=st.integers(1, 60))
def test_ceilings_never_fall(policy: RetryPolicy, retry: int) -> None:
    """A later retry never has a lower ceiling, and none is above the cap."""
    ceiling = backoff_ceiling(policy, retry)
    assert 0 <= ceiling <= backoff_ceiling(policy, retry + 1)
    assert ceiling <= max(policy.backoff_max, 0)


@settings(max_examples=150)
@given(
    policy=policies,
    observation=st.builds(
        Observation,
        status=st.none() | st.integers(100, 599),
        fault=st.none() | st.sampled_from(Fault),
        body=st.sampled_from(BodyKind),
        retry_after=st.none() | st.floats(0, 1e6),
        operation=st.sampled_from(Operation),
    ),
    attempt=st.integers(1, 20),
    max_retries=st.integers(0, 20),
    time_left=st.floats(-10, 1e6) | st.just(math.inf),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_every_wait_is_within_bounds(
    policy: RetryPolicy,
    observation: Observation,
    attempt: int,
    max_retries: int,
    time_left: float,
    jitter: float,
) -> None:
    """No wait is negative, shorter than the hint, too long, or beyond the deadline."""
    now = _situation(
        observation, attempt=attempt, max_retries=max_retries, time_left=time_left, jitter=jitter
    )
    step = decide(policy, now)
    assert step.reason
    if isinstance(step, RetryIn):
        hint = observation.retry_after or 0.0
        least = min(now.verdict.wait, policy.backoff_max)
        longest = max(backoff_ceiling(policy, attempt), least * 1.05, hint * 1.05)
        assert hint <= step.delay <= longest
        assert step.delay < time_left
        assert hint <= policy.max_retry_after
        assert attempt <= max_retries
        assert now.verdict.retryable
