"""Bursts at LiteLLM's proxy, by the SDK alone and by a wrapped client.

    python -m tests.bench.litellm                       # with litellm[proxy] beside this package
    python -m tests.bench.litellm --litellm PATH        # or with the command of another environment

Two hundred chat completions at once, each of which takes the provider 0.4 s, at a real proxy on
loopback that takes four at a time and refuses the rest in a way of its own. Both clients may retry
ten times. Printed are the calls that were answered, the seconds until the last one was over, and
the requests that the proxy got for them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai

from comet_resilience import AttemptFinished, Event, wrap
from comet_resilience.testing import ConcurrencyCap, Gateway
from tests.ecosystem.litellm_proxy import behind, client_of, find_litellm, litellm_proxy

CALLS = 200
RETRIES = 10
SERVICE_TIME = 0.4
MODEL = "gpt-5.4"
MESSAGES: Any = [{"role": "user", "content": "x"}]


@dataclass(frozen=True)
class Scene:
    """Where the ceiling is: in the proxy's settings, its deployment's, or at the provider."""

    name: str
    general: Mapping[str, Any] = field(default_factory=dict)
    deployment: Mapping[str, Any] = field(default_factory=dict)
    provider_cap: int | None = None


SCENES = (
    Scene(
        "admission control, 4 + 2 queued",
        general={"max_in_flight_requests_per_worker": 4, "max_queued_requests_per_worker": 2},
    ),
    Scene("deployment, 4 in parallel", deployment={"max_parallel_requests": 4}),
    Scene("provider's cap of 8 behind it", provider_cap=8),
)


@dataclass(frozen=True)
class Result:
    """What became of a burst."""

    answered: int
    seconds: float
    sent: int

    def __str__(self) -> str:
        return f"{self.answered} of {CALLS} in {self.seconds:.1f} s, {self.sent:,} requests"


async def burst(base_url: str, *, wrapped: bool) -> Result:
    """All calls at once, by one client; requests are counted where they leave."""
    sent = 0

    def count_attempt(event: Event) -> None:
        nonlocal sent
        sent += isinstance(event, AttemptFinished)

    async def count_request(request: object) -> None:
        nonlocal sent
        del request
        sent += 1

    bare = client_of(base_url, max_retries=RETRIES)
    if not wrapped:
        bare._client.event_hooks["request"].append(count_request)
    client = wrap(bare, on_event=count_attempt) if wrapped else bare

    async def ask() -> bool:
        try:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        except openai.OpenAIError:
            return False
        return True

    began = time.monotonic()
    async with client:
        answered = sum(await asyncio.gather(*(ask() for _ in range(CALLS))))
    return Result(answered, time.monotonic() - began, sent)


async def play(scene: Scene, command: str) -> tuple[Result, Result]:
    """The same burst at a fresh proxy for each client: the SDK alone, then wrapped."""
    results = []
    for wrapped in (False, True):
        capacity = None if scene.provider_cap is None else ConcurrencyCap(scene.provider_cap)
        async with (
            Gateway(capacity=capacity, latency=SERVICE_TIME) as provider,
            litellm_proxy(
                {MODEL: behind(provider, **scene.deployment)},
                command=command,
                general=scene.general,
            ) as base_url,
        ):
            results.append(await burst(base_url, wrapped=wrapped))
    return results[0], results[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.litellm")
    parser.add_argument("--litellm", metavar="PATH", help="the proxy's command")
    command = find_litellm(parser.parse_args(arguments).litellm)
    if command is None:
        parser.error(
            "litellm is not installed. Do: pip install 'litellm[proxy]', or --litellm PATH"
        )
    print(f"| the ceiling | openai {openai.__version__}, max_retries={RETRIES} | wrapped |")
    print("|---|---|---|")
    worse = False
    for scene in SCENES:
        alone, wrapped = asyncio.run(play(scene, command))
        print(f"| {scene.name} | {alone} | {wrapped} |", flush=True)
        worse |= wrapped.answered < alone.answered
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
