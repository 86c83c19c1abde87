"""LiteLLM as a library, with a wrapped client for its OpenAI provider."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, GatewayInThread
from tests.ecosystem.conftest import client_of, client_without_loop, failure_of, follow_readme

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched from elsewhere
litellm = pytest.importorskip("litellm")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
MESSAGES = [{"role": "user", "content": "2 + 2?"}]


@pytest.fixture
async def complete(gateway: Gateway) -> AsyncIterator[Any]:
    """The README's way to ask, at a gateway."""
    async with client_of(gateway) as client:
        yield follow_readme("LiteLLM", partial=partial, litellm=litellm, client=client)["complete"]


async def test_a_call_is_answered_through_failures(gateway: Gateway, complete: Any) -> None:
    """It is sent again as often as it takes, and a stream passes as it comes."""
    gateway.script(429, "unavailable", "server_error")
    answer = await complete(messages=MESSAGES)
    assert answer.choices[0].message.content
    assert len(gateway.requests) == 4
    stream = await complete(messages=MESSAGES, stream=True)
    assert "".join([part.choices[0].delta.content or "" async for part in stream])


async def test_a_failing_call_is_sent_as_often_as_ours_says(
    gateway: Gateway, complete: Any, warnings: Callable[[], list[str]]
) -> None:
    """LiteLLM repeats nothing by itself, and what it raises is explained."""
    gateway.always("server_error")
    error = await failure_of(lambda: complete(messages=MESSAGES))
    assert len(gateway.requests) == 7
    assert len(diagnose(error).attempts) == 7
    assert warnings() == []


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_sync_half_sends_nothing(threaded: GatewayInThread) -> None:
    """It cannot await what an asynchronous client returns."""
    with pytest.raises(litellm.InternalServerError):
        litellm.completion(
            "openai/gpt-5.4", messages=MESSAGES, client=client_without_loop(threaded)
        )
    assert threaded.requests == []
