"""Types: a wrong keyword or value is an error for mypy and pyright, not only at run time.

Nothing of this runs. Both checkers are strict about comments that silence nothing, so each
``ignore`` below proves that they complain there.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, assert_never, assert_type

import openai
from openai import AsyncAzureOpenAI, AsyncOpenAI

from comet_resilience import (
    Action,
    AlgorithmRetired,
    Attempt,
    AttemptFinished,
    Budget,
    BudgetExceededError,
    BudgetSpentError,
    BudgetView,
    BulkResults,
    CallbackError,
    Config,
    DeadlineExceededError,
    Diagnosis,
    Event,
    FailureKind,
    Fault,
    FixedLimit,
    Fleet,
    FleetChanged,
    FleetState,
    FleetView,
    GateClosed,
    GateClosedError,
    GateOpened,
    GateView,
    GaveUp,
    HollowAnswer,
    IncompleteStreamError,
    InvalidAnswerError,
    LimitAlgorithm,
    LimitChanged,
    LimiterState,
    Operation,
    Options,
    Override,
    PartitionSnapshot,
    PerCallOptions,
    Progress,
    QueueFullError,
    QueueTimeoutError,
    RateChanged,
    RateView,
    RequestInfo,
    ResilienceError,
    ResilientTransport,
    RetryScheduled,
    Rule,
    Signal,
    Snapshot,
    Standstill,
    StepBack,
    StreamAbandoned,
    StreamBroken,
    StreamFinished,
    SupportReport,
    Usage,
    WrongEndpointError,
    diagnose,
    override,
    run_all,
    support_report,
    wrap,
)
from comet_resilience import snapshot as take_snapshot


def check(client: AsyncOpenAI, azure: AsyncAzureOpenAI, inner: object) -> None:
    """What is right, and what is not."""
    assert_type(wrap(client, max_retries=3, deadline=1.5), AsyncOpenAI)
    assert_type(wrap(azure, algorithm=lambda: FixedLimit(5)), AsyncAzureOpenAI)
    assert_type(diagnose(ValueError()), Diagnosis)
    assert_type(take_snapshot(client), Snapshot)
    ResilientTransport(inner, on_event=print)
    wrap(client, max_retrys=3)  # type: ignore[call-arg]
    wrap(client, max_retries="3")  # type: ignore[arg-type]
    wrap(client, incomplete_stream="maybe")  # type: ignore[arg-type]
    wrap("client")  # type: ignore[type-var]


def keywords(client: AsyncOpenAI, redis: Any) -> None:
    """Values of the keywords, one by one and as a mapping that may be handed on."""
    options: Options = {"max_retries": 2, "deadline": None, "fleet": Fleet(redis=redis)}
    for_one_call: PerCallOptions = {"deadline": 3.0, "incomplete_stream": "warn"}
    assert_type(Config.from_options(options), Config)
    assert_type(wrap(client, **options), AsyncOpenAI)
    assert_type(override(**for_one_call), Override)
    with override(max_retries=0):
        pass
    rule = Rule(
        name="mine",
        kind=FailureKind.RATE_LIMITED,
        action=Action.FAIL,
        reason="mine",
        source="mine",
        signal=Signal.IGNORED,
        operation={Operation.MEDIA},
        fault={Fault.CONNECT},
    )
    wrap(client, rules=[rule], partition=route_of)
    override(max_concurrency=3)  # type: ignore[call-arg]
    wrap(client, rules=[3])  # type: ignore[list-item]


def route_of(request: RequestInfo) -> Hashable:
    """What a partition function looks like."""
    return assert_type(request.route, str)


def algorithms() -> tuple[LimitAlgorithm, ...]:
    """Both of ours are limit algorithms."""
    return StepBack(8, 1, 512), FixedLimit(5)


def heard(event: Event) -> object:
    """Every event can be told from the others, and there are no more than these."""
    match event:
        case AttemptFinished() | RetryScheduled() | GaveUp():
            return assert_type(event.status, int | None)
        case HollowAnswer():
            return assert_type(event.attempts, int)
        case StreamBroken():
            return assert_type(event.kind, FailureKind)
        case StreamFinished():
            return assert_type(event.usage, Usage | None)
        case StreamAbandoned():
            return assert_type(event.request, RequestInfo)
        case LimitChanged():
            return assert_type(event.new, int)
        case RateChanged():
            return assert_type(event.new, int | None)
        case AlgorithmRetired():
            return assert_type(event.error, BaseException)
        case Standstill():
            return assert_type(event.held, int)
        case FleetChanged():
            return assert_type(event.new, FleetState)
        case GateClosed() | GateOpened():
            return assert_type(event.waiting, int)
        case _:
            assert_never(event)


def seen(client: AsyncOpenAI) -> None:
    """What a snapshot holds."""
    for partition in take_snapshot(client).partitions:
        assert_type(partition, PartitionSnapshot)
        assert_type(partition.fleet, FleetView | None)
        assert_type(partition.gate, GateView | None)
        assert_type(partition.rates, tuple[RateView, ...])


def told(client: AsyncOpenAI) -> None:
    """What a snapshot tells of budgets."""
    budgets = {"m": Budget(requests=1), "*": Budget(tokens=1, per=1.5, burst=1)}
    for budget in take_snapshot(wrap(client, budget=budgets)).budgets:
        assert_type(budget, BudgetView)
        assert_type(budget.tokens_left, int | None)


def failed(error: Exception) -> None:
    """What an exception tells; ours are the SDK's own kinds of exceptions."""
    diagnosis = diagnose(error)
    assert_type(diagnosis.attempts, tuple[Attempt, ...])
    assert_type(diagnosis.limiter, LimiterState | None)
    assert_type(support_report(error, include_content=True), SupportReport)
    if isinstance(error, ResilienceError):
        assert_type(error.diagnosis, Diagnosis | None)
    refusals: list[type[openai.OpenAIError]] = [QueueFullError, QueueTimeoutError, CallbackError]
    statuses: list[type[openai.APIStatusError]] = [InvalidAnswerError, WrongEndpointError]
    breaks: list[type[openai.APIConnectionError]] = [IncompleteStreamError, DeadlineExceededError]
    breaks.append(GateClosedError)
    refusals.append(BudgetExceededError)
    refusals.append(BudgetSpentError)
    del refusals, statuses, breaks


async def many(client: AsyncOpenAI) -> None:
    """What a bulk run gives: the item and its result, or the exception, unless it is raised."""

    async def ask(item: str) -> int:
        return len(item)

    async with run_all(ask, ["a"], client=client) as results:
        assert_type(results, BulkResults[str, int | Exception])
        async for pair in results:
            assert_type(pair, tuple[str, int | Exception])
        assert_type(results.progress(), Progress)
    async with run_all(ask, ["a"], client=client, errors="raise") as sure:
        assert_type(sure, BulkResults[str, int])
    run_all(ask, [1], client=client)  # type: ignore[arg-type]
