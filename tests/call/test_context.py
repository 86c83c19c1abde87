"""The context of a request all along."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from comet_resilience import Budget, Config, override
from comet_resilience.call.context import RequestContext
from comet_resilience.call.engine import Engine
from comet_resilience.errors import CallbackError
from comet_resilience.limits.eventloop import running_loop
from comet_resilience.limits.partitions import InAccount
from comet_resilience.verdict.vocabulary import RequestInfo
from comet_resilience.wire.request import read_request

from ..conftest import BASE_URL, MESSAGES, httpx

pytestmark = pytest.mark.anyio


def context_of(key: str = "k", **keywords: Any) -> RequestContext:
    """The context of a call to a client with such keywords."""
    request = httpx.Request(
        "POST",
        f"{BASE_URL}/chat/completions",
        json={"model": "m", "messages": MESSAGES},
        headers={"authorization": f"Bearer {key}"},
    )
    outgoing = read_request(request, None)
    return RequestContext(Engine(Config(**keywords)), request, outgoing, running_loop())


async def test_a_partition_stands_below_the_account_of_its_key() -> None:
    """Route and model, below key and host; with a partition of the user's there is no account."""
    key, other = context_of().key, context_of("other").key
    assert isinstance(key, InAccount)
    assert isinstance(other, InAccount)
    assert key.partition == other.partition == ("POST /chat/completions", "m")
    assert key.account != other.account
    assert key == context_of().key
    assert context_of(partition=lambda info: info.model).key == "m"


async def test_a_partition_that_fails_is_told_when_the_request_runs() -> None:
    """What it raised, or that its value is not hashable, is the cause."""
    functions: list[Callable[[RequestInfo], Any]] = [lambda _info: 1 / 0, lambda _info: []]
    for function in functions:
        flaw = context_of(partition=function).flaw
        assert isinstance(flaw, CallbackError)
        assert isinstance(flaw.__cause__, (ZeroDivisionError, TypeError))
    assert context_of().flaw is None


async def test_a_block_counts_more_than_the_client() -> None:
    """Its keywords are merged with the client's; outside of any they are the client's own."""
    with override(max_retries=1, deadline=3):
        inside = context_of(max_retries=4, backoff_max=7)
    assert (inside.max_retries, inside.config.deadline, inside.config.backoff_max) == (1, 3, 7)
    outside = context_of(max_retries=4)
    assert (outside.max_retries, outside.config) == (4, outside.engine.config)


async def test_a_cost_and_a_usage_are_asked_for_where_somebody_counts() -> None:
    """A budget, an observer, a log at DEBUG: without any of them nothing is estimated or read."""
    logger = logging.getLogger("comet_resilience")
    was = logger.level
    logger.setLevel(logging.INFO)
    try:
        idle, counted = context_of(), context_of(budget=Budget(requests=5))
        heard = context_of(on_event=lambda _event: None)
        logger.setLevel(logging.DEBUG)
        logged = context_of()
    finally:
        logger.setLevel(was)
    assert (idle.cost, idle.is_heard, idle.wants_usage) == (None, False, False)
    assert counted.cost is not None
    assert (counted.is_heard, counted.wants_usage) == (False, True)
    assert heard.is_heard
    assert logged.is_heard
