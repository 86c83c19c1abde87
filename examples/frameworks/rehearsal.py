"""The stage of this folder's examples: a gateway that follows a script, and two clients.

Each example is a framework's own few lines, for three steps: a tool call, structured output, a
stream. Here each step meets a gateway that fails and recovers as the step's script says; with
`--bare` the same code runs on the SDK's own client instead.
"""

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI

from comet_resilience import wrap
from comet_resilience.testing import Gateway, stream_reply
from comet_resilience.testing.script import Scripted

MODEL = "gpt-5.4"

#: An event stream that breaks right after its headers, before anything came.
CUT_STREAM = stream_reply("data: {}\n\n", cut_after=0)


@dataclass(frozen=True)
class Step:
    """A use of the framework, and what the gateway says to its requests, one after the other."""

    name: str
    run: Callable[[Any], Awaitable[str]]
    script: Sequence[Scripted]


async def rehearse(step: Step, make_client: Callable[..., AsyncOpenAI], *, bare: bool) -> bool:
    """Run a step at a gateway of its own and print what came of it; whether it succeeded."""
    async with Gateway() as gateway:
        gateway.script(*step.script)
        client = make_client(base_url=gateway.base_url, api_key=gateway.api_key)
        async with client if bare else wrap(client) as client:
            try:
                answered, said = True, await step.run(client)
            except Exception as error:  # noqa: BLE001 - each framework raises classes of its own
                answered, said = (
                    False,
                    f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
                )
        verb = "answered" if answered else "FAILED"
        print(f"{step.name}: {verb} after {len(gateway.requests)} requests: {said}", flush=True)
        return answered


def main(steps: Sequence[Step], make_client: Callable[..., AsyncOpenAI] = AsyncOpenAI) -> int:
    """Run all steps; 0 if each succeeded, else 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bare", action="store_true", help="the SDK's own client, not wrapped")
    bare = parser.parse_args().bare
    # The library's warnings say which failures it met and how long it waited.
    logging.basicConfig(level=logging.WARNING, format="    %(message)s")

    async def run_all() -> list[bool]:
        return [await rehearse(step, make_client, bare=bare) for step in steps]

    return 0 if all(asyncio.run(run_all())) else 1
