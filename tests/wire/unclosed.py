"""A program that never closes its client: run by the tests, in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

import openai

from comet_resilience import wrap
from comet_resilience.testing import GatewayInThread

MODEL = "m"
clients: list[openai.AsyncOpenAI] = []


def make(base_url: str) -> openai.AsyncOpenAI:
    """A wrapped client whose http client the SDK makes."""
    return wrap(openai.AsyncOpenAI(base_url=base_url, api_key="k"))


async def ask(client: openai.AsyncOpenAI) -> None:
    """One call, printed."""
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}]
    )
    print(answer.choices[0].message.content, flush=True)


async def end_with_a_global(base_url: str) -> None:
    """The client outlives the loop."""
    clients.append(make(base_url))
    await ask(clients[0])


async def end_with_a_local(base_url: str) -> None:
    """The client ends together with the loop."""
    await ask(make(base_url))


async def end_in_a_child(base_url: str) -> None:
    """The child drops the client, the parent goes on with it."""
    clients.append(make(base_url))
    await ask(clients[0])
    child = os.fork()
    if child == 0:
        clients.clear()
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222 - the child has nothing to wait for
    await ask(clients[0])
    clients.clear()
    gc.collect()
    await ask(make(base_url))


WAYS = {"global": end_with_a_global, "local": end_with_a_local, "forked": end_in_a_child}

if __name__ == "__main__":
    with GatewayInThread(text="Hi") as gateway:
        asyncio.run(WAYS[sys.argv[1]](gateway.base_url))
