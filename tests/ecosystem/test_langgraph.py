"""A graph of LangGraph whose nodes await LangChain's chat model on a wrapped client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, GatewayInThread
from tests.ecosystem.conftest import ATTEMPTS, client_without_loop, failure_of, follow_readme

pytest.importorskip("langgraph")
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

pytestmark = pytest.mark.anyio
QUESTION = {"messages": [("user", "Hello")]}


def graph_on(client: openai.AsyncOpenAI, **keywords: Any) -> Any:
    """Return a graph of one node, the README's."""
    model = follow_readme("LangChain", client=client, ChatOpenAI=ChatOpenAI)["model"]
    names = {"Any": Any, "MessagesState": MessagesState, "model": model}
    graph = StateGraph(MessagesState)
    graph.add_node("answer", follow_readme("LangGraph", **names)["answer"], **keywords)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile()


async def test_a_graph_is_answered_through_failures(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """Called and streamed alike."""
    gateway.script(429, "ok", "unavailable", "ok")
    graph = graph_on(client)
    assert (await graph.ainvoke(QUESTION))["messages"][-1].content
    pieces = [piece async for piece, _ in graph.astream(QUESTION, stream_mode="messages")]
    assert "".join(str(piece.content) for piece in pieces)
    assert len(gateway.requests) == 4


async def test_a_failing_node_is_sent_as_often_as_ours_says(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """A graph repeats nothing by itself."""
    gateway.always("server_error")
    error = await failure_of(lambda: graph_on(client).ainvoke(QUESTION))
    assert len(gateway.requests) == ATTEMPTS
    assert len(diagnose(error).attempts) == ATTEMPTS
    assert warnings() == []


async def test_a_retry_policy_nests_and_is_noticed(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """What the README warns of is still so."""
    gateway.always("server_error")
    policy = RetryPolicy(initial_interval=0.01, max_attempts=3, retry_on=Exception)
    await failure_of(lambda: graph_on(client, retry_policy=policy).ainvoke(QUESTION))
    assert len(gateway.requests) == 3 * ATTEMPTS
    (warning,) = warnings()
    assert "LangGraph: leave retry_policy out of its nodes" in warning


def test_no_prompt_goes_to_another_host(
    threaded: GatewayInThread, elsewhere: GatewayInThread
) -> None:
    """An async node has no sync half: `invoke` refuses it, and nothing is sent."""
    graph = graph_on(client_without_loop(threaded))
    asyncio.run(graph.ainvoke(QUESTION))
    assert len(threaded.requests) == 1
    with pytest.raises(TypeError, match="async"):
        graph.invoke(QUESTION)
    assert len(threaded.requests) == 1
    assert elsewhere.requests == []
