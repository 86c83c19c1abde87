"""A burst through the real stack: ``python -m tests.bench.burst``.

400 chat completions at once through the real SDK, the real transport and a gateway in memory, in
virtual time (trio's clock jumps over every wait), so that the figures do not depend on the
machine. The oracle is the bare SDK under a semaphore of exactly the right size, or, for a token
bucket, sending at exactly its rate. Columns: calls that succeeded, makespan divided by the
oracle's, attempts per success. Means over ten seeds.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import openai
import trio
import trio.testing

from comet_resilience import wrap
from comet_resilience.testing import Capacity, ConcurrencyCap, Gateway, TokenBucket
from comet_resilience.wire.family import family_of_sdk

httpx: Any = family_of_sdk()
CALLS = 400
SEEDS = range(1, 11)
MESSAGES: Any = [{"role": "user", "content": "x"}]

Ask = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True)
class Scenario:
    """A gateway, and how an oracle would send to it."""

    name: str
    capacity: Callable[[], Capacity]
    at_once: int = 0
    rate: float = 0.0
    head_start: int = 0
    reach: str = ""


SCENARIOS = (
    Scenario("cap 8", lambda: ConcurrencyCap(8), at_once=8, reach="1.10, 1.05"),
    Scenario("cap 8, Retry-After 1", lambda: ConcurrencyCap(8, 1), at_once=8, reach="1.15, 1.05"),
    Scenario("cap 3", lambda: ConcurrencyCap(3), at_once=3, reach="1.15, 1.10"),
    Scenario(
        "bucket 100/s, burst 20",
        lambda: TokenBucket(100, 20),
        rate=100.0,
        head_start=20,
        reach="1.15, 1.15",
    ),
)


def gateway_for(scenario: Scenario, seed: int) -> Gateway:
    """A gateway whose service times are lognormal around 50 ms, the same for every client."""
    draw = random.Random(seed)
    times = [draw.lognormvariate(-3.0, 0.5) for _ in range(CALLS)]
    capacity = scenario.capacity()
    return Gateway(
        capacity=capacity, latency=lambda request: times[request.number % CALLS], seed=seed
    )


def client_for(gateway: Gateway, **options: Any) -> Any:
    """The real SDK on the gateway in memory."""
    client = openai.AsyncOpenAI(
        base_url=gateway.base_url,
        api_key=gateway.api_key,
        http_client=httpx.AsyncClient(transport=gateway.transport()),
        **options,
    )
    client._platform = "Unknown"  # a thread asks for it otherwise, and virtual time jumps
    return client


async def ask(client: Any) -> Any:
    """One call."""
    return await client.chat.completions.create(model="m", messages=MESSAGES)


async def burst(client: Any, each: Ask) -> tuple[int, float]:
    """All calls at once: how many succeeded, and the makespan in seconds."""
    succeeded, started = 0, anyio.current_time()

    async def one() -> None:
        nonlocal succeeded
        try:
            await each(client)
        except openai.OpenAIError:
            return
        succeeded += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(CALLS):
            tasks.start_soon(one)
    return succeeded, anyio.current_time() - started


def paced(scenario: Scenario) -> Ask:
    """The oracle's way to send."""
    slots = anyio.Semaphore(scenario.at_once or CALLS)
    sent = 0

    async def each(client: Any) -> Any:
        nonlocal sent
        if scenario.rate:
            sent += 1
            await anyio.sleep(max(0, sent - scenario.head_start) / scenario.rate)
        async with slots:
            return await ask(client)

    return each


def five_at_once() -> Ask:
    """A semaphore of five around the call, and backoff around that: the documented advice."""
    slots, draw = anyio.Semaphore(5), random.Random(5)

    async def each(client: Any) -> Any:
        async with slots:
            for attempt in range(6):
                try:
                    return await ask(client)
                except (openai.RateLimitError, openai.InternalServerError):
                    await anyio.sleep(draw.uniform(0, min(30, 0.5 * 2**attempt)))
            return await ask(client)

    return each


def run(scenario: Scenario, stack: str, seed: int) -> tuple[int, float, float]:
    """One stack at one gateway: succeeded, makespan, attempts per success."""

    async def main() -> tuple[int, float, float]:
        random.seed(seed)  # the SDK and the product draw their jitter here
        gateway = gateway_for(scenario, seed)
        options: dict[str, Any] = {} if stack == "SDK" else {"max_retries": 0}
        if stack == "SDK, max_retries=10":
            options = {"max_retries": 10}
        client = client_for(gateway, **({} if stack == "wrapped" else options))
        each: Ask = ask
        if stack == "oracle":
            each = paced(scenario)
        elif stack == "semaphore(5) + backoff":
            each = five_at_once()
        elif stack == "wrapped":
            client = wrap(client)
        succeeded, seconds = await burst(client, each)
        return succeeded, seconds, len(gateway.requests) / max(1, succeeded)

    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, clock=clock)


STACKS = ("wrapped", "semaphore(5) + backoff", "SDK, max_retries=10", "SDK")


def main() -> None:
    """Run everything and print the table."""
    print(f"| gateway | {' | '.join(STACKS)} | reach |")
    print("|---" * (len(STACKS) + 2) + "|")
    for scenario in SCENARIOS:
        oracles = {seed: run(scenario, "oracle", seed)[1] for seed in SEEDS}
        cells = []
        for stack in STACKS:
            seeds = SEEDS if stack == "wrapped" else list(SEEDS)[:3]
            seen = [(run(scenario, stack, seed), oracles[seed]) for seed in seeds]
            ok = min(row[0] for row, _ in seen)
            ratio = statistics.mean(row[1] / oracle for row, oracle in seen)
            sends = statistics.mean(row[2] for row, _ in seen)
            cells.append(f"{ok}, {ratio:.2f}, {sends:.2f}" if ok == CALLS else f"{ok} ok")
        print(f"| {scenario.name} | {' | '.join(cells)} | 400, {scenario.reach} |", flush=True)


if __name__ == "__main__":
    main()
