"""LangChain's chat model on a wrapped client."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any

import openai
import pytest

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, GatewayInThread
from tests.ecosystem.conftest import (
    ATTEMPTS,
    client_without_loop,
    failure_of,
    follow_readme,
    rehearse_both,
)
from tests.programs import ROOT

langchain_openai = pytest.importorskip("langchain_openai")

pytestmark = pytest.mark.anyio


def model_on(client: openai.AsyncOpenAI, **keywords: Any) -> Any:
    """A chat model that speaks through a client."""
    completions = client.chat.completions
    return langchain_openai.ChatOpenAI(
        model="m", async_client=completions, root_async_client=client, **keywords
    )


def test_the_example_is_answered_where_the_bare_sdk_fails() -> None:
    """A tool call, structured output and a stream, each through failures of its own."""
    assert rehearse_both("langchain_chat.py") == {
        "tool call": (True, 6, "4 degrees."),
        "structured output": (True, 2, "Forecast(city='Oslo', degrees=4)"),
        "streaming": (True, 4, "It| is| 4| degrees."),
    }


@pytest.mark.parametrize("keywords", [{}, {"max_retries": 9}, {"use_responses_api": True}])
async def test_it_retries_nothing_by_itself(
    gateway: Gateway,
    client: openai.AsyncOpenAI,
    warnings: Callable[[], list[str]],
    keywords: dict[str, Any],
) -> None:
    """Its ``max_retries`` does nothing to a client that it is given."""
    gateway.always("server_error")
    error = await failure_of(lambda: model_on(client, **keywords).ainvoke("Hello"))
    assert len(gateway.requests) == ATTEMPTS
    assert len(diagnose(error).attempts) == ATTEMPTS
    assert warnings() == []


async def test_with_retry_nests_and_is_noticed(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """``.with_retry()`` repeats any failure; the warning names it."""
    gateway.always("server_error")
    model = model_on(client).with_retry(stop_after_attempt=4, wait_exponential_jitter=False)
    await failure_of(lambda: model.ainvoke("Hello"))
    assert len(gateway.requests) == 4 * ATTEMPTS
    (warning,) = warnings()
    assert "LangChain: leave .with_retry() and ModelRetryMiddleware out" in warning


async def test_a_batch_goes_through_the_limiter(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """Many calls at once share the client's limit and are all answered."""
    answers = await model_on(client).abatch(["Hello"] * 30)
    assert len(answers) == 30
    assert gateway.peak_in_flight <= 10


async def test_a_stream_that_breaks_in_the_middle_is_not_repeated(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """What has come is billed: the failure passes through, with the diagnosis."""
    gateway.always("stream_cut")

    async def run() -> None:
        async for _ in model_on(client).astream("Hello"):
            pass

    error = await failure_of(run)
    assert len(gateway.requests) == 1
    assert "2 events" in diagnose(error).reason


def test_no_prompt_goes_to_another_host(
    threaded: GatewayInThread, elsewhere: GatewayInThread
) -> None:
    """Neither half of the README's model leaves the gateway."""
    names = {"client": client_without_loop(threaded), "ChatOpenAI": langchain_openai.ChatOpenAI}
    model = follow_readme("LangChain", **names)["model"]
    threaded.script("server_error", "ok")
    asyncio.run(model.ainvoke("Hello"))
    assert len(threaded.requests) == 2
    model.invoke("Hello")
    model.batch(["Hello", "Hello"])
    list(model.stream("Hello"))
    model.root_client.close()
    assert len(threaded.requests) == 6
    keys = {sent.headers["authorization"] for sent in threaded.requests}
    assert keys == {f"Bearer {threaded.api_key}"}
    assert elsewhere.requests == []


def test_what_the_two_lines_are_for(threaded: GatewayInThread, elsewhere: GatewayInThread) -> None:
    """Without them the sync half goes where the environment says, with the key that is there."""
    model = model_on(client_without_loop(threaded))
    asyncio.run(model.ainvoke("Hello"))
    assert (len(threaded.requests), len(elsewhere.requests)) == (1, 0)
    model.invoke("Hello")
    model.root_client.close()
    assert (len(threaded.requests), len(elsewhere.requests)) == (1, 1)


def test_the_example_names_the_gateway(
    threaded: GatewayInThread, elsewhere: GatewayInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does the model of the example."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "frameworks"))
    example = importlib.import_module("langchain_chat")
    model = example.model_of(client_without_loop(threaded))
    model.invoke("Hello")
    model.root_client.close()
    assert (len(threaded.requests), len(elsewhere.requests)) == (1, 0)
