"""The cost of a request to its budgets, before it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience import Budget, Config
from comet_resilience.call.cost import cost_of
from comet_resilience.call.engine import Engine
from comet_resilience.limits.budget import Cost
from comet_resilience.verdict.token_estimate import estimate_request
from comet_resilience.verdict.vocabulary import Operation, RequestInfo

from ..conftest import BASE_URL, httpx

REQUESTS, TOKENS = Budget(requests=5), Budget(tokens=100_000)
CHAT = RequestInfo(route="POST /chat/completions", model="m", operation=Operation.TEXT)
POLL = RequestInfo(route="GET /videos/{id}", operation=Operation.READ)


def cost(budget: Budget, info: RequestInfo, **body: Any) -> Cost | None:
    """The cost of a request to a client with such a budget."""
    return cost_of(Engine(Config(budget=budget)), httpx.Request("POST", BASE_URL, **body), info)


def test_a_budget_of_requests_counts_work_alone() -> None:
    """Whatever model does it; asking about it is free."""
    assert cost(REQUESTS, CHAT, json={}) == Cost("m")
    assert cost(REQUESTS, POLL) is None
    job = RequestInfo(route="POST /videos", operation=Operation.JOB)
    assert cost(REQUESTS, job) == Cost("")


def test_a_budget_of_tokens_asks_for_an_estimate() -> None:
    """Of the prompt, and of an answer where one takes tokens."""
    body = {"model": "m", "messages": [{"role": "user", "content": "one two three " * 50}]}
    request = httpx.Request("POST", BASE_URL, json=body)
    found = cost(TOKENS, CHAT, json=body)
    assert found is not None
    estimate = estimate_request(request.content, found.output_tokens, has_output=True)
    assert found.prompt_tokens == estimate.prompt > 50
    assert found.output_tokens > 0
    embeddings = RequestInfo(route="POST /embeddings", model="m", operation=Operation.TEXT)
    found = cost(TOKENS, embeddings, json=body)
    assert found is not None
    assert (found.prompt_tokens > 50, found.output_tokens) == (True, 0)


@pytest.mark.parametrize("body", [{"files": {"file": ("a.wav", b"RIFF")}}, {"content": b"[1]"}])
def test_what_has_no_text_to_count_costs_a_request(body: dict[str, Any]) -> None:
    """A form with a file, or a body that is no object."""
    info = RequestInfo(
        route="POST /audio/transcriptions", model="m", operation=Operation.TRANSCRIPT
    )
    assert cost(TOKENS, info, **body) == Cost("m")
