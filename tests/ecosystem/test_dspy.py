"""DSPy through LiteLLM, whose http client for all calls holds a transport of ours."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from comet_resilience import ResilientTransport, diagnose
from comet_resilience.testing import Gateway, GatewayInThread, answer
from tests.ecosystem.conftest import client_of, client_without_loop, failure_of, follow_readme

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched from elsewhere
dspy = pytest.importorskip("dspy")
litellm = pytest.importorskip("litellm")
httpx = pytest.importorskip("httpx")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
ANSWER = answer("[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]")


def quick(inner: Any, **keywords: Any) -> ResilientTransport:
    """Return the transport of the README's lines, which hardly waits here."""
    return ResilientTransport(inner, **keywords, backoff_initial=0.01)


def lm_on(client: openai.AsyncOpenAI) -> Any:
    """Return the LM that the README's lines make."""
    names = {"dspy": dspy, "litellm": litellm, "httpx": httpx, "ResilientTransport": quick}
    lm = follow_readme("DSPy", **names, client=client)["lm"]
    lm.cache = False
    return lm


@pytest.fixture
async def lm(gateway: Gateway) -> AsyncIterator[Any]:
    """The README's LM at a gateway; LiteLLM's http client is closed afterwards."""
    async with client_of(gateway) as client:
        yield lm_on(client)
    await litellm.aclient_session.aclose()
    litellm.aclient_session = None


async def ask(lm: Any) -> str:
    """Call a module as DSPy's users do."""
    with dspy.context(lm=lm):
        return str((await dspy.Predict("question -> answer").acall(question="2 + 2?")).answer)


async def test_a_module_is_answered_through_failures(gateway: Gateway, lm: Any) -> None:
    """It is sent again as often as it takes."""
    gateway.script(429, "unavailable", ANSWER)
    assert await ask(lm) == "4"
    assert len(gateway.requests) == 3


async def test_a_failing_call_is_sent_as_often_as_ours_says(
    gateway: Gateway, lm: Any, warnings: Callable[[], list[str]]
) -> None:
    """With ``num_retries=0`` neither DSPy nor LiteLLM repeats it, and it is explained."""
    gateway.always("server_error")
    error = await failure_of(lambda: ask(lm))
    assert len(gateway.requests) == 7
    assert len(diagnose(error).attempts) == 7
    assert warnings() == []


def test_the_sync_half_goes_to_the_gateway_alone(
    threaded: GatewayInThread, elsewhere: GatewayInThread
) -> None:
    """By a client of LiteLLM's own, which does not repeat it."""
    lm = lm_on(client_without_loop(threaded))
    litellm.aclient_session = None
    threaded.script(ANSWER, "server_error")
    with dspy.context(lm=lm):
        assert dspy.Predict("question -> answer")(question="2 + 2?").answer == "4"
    with pytest.raises(dspy.utils.exceptions.LMError) as failed:
        lm("Hello")
    assert len(threaded.requests) == 2
    assert not diagnose(failed.value).attempts
    assert elsewhere.requests == []
    close_litellm()


def close_litellm() -> None:
    """Close the clients that LiteLLM keeps for itself."""
    cache = litellm.in_memory_llm_clients_cache
    for kept in list(cache.cache_dict.values()):
        if isinstance(kept, openai.OpenAI):
            kept.close()
    cache.flush_cache()
