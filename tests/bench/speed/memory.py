"""Without a network: the layer alone, and its share of the SDK's own CPU per call."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from .exchange import MESSAGES, Instant, ready, sdk
from .layers import NOTHING, calls, clients
from .rounds import Round, interleave

REQUESTS, CALLS = 20, 10
BARE = "the SDK itself"


async def alone(rounds: int) -> None:
    """What each layer adds to send, read and close of a request that is ready."""
    found = clients()
    times = await interleave({name: _exchange(client) for name, client in found.items()}, rounds)
    print("| the layer alone, per call | least | median |\n|---|---|---|")
    for name in found:
        if name != NOTHING:
            least, median = times.above(name, NOTHING)
            print(f"| {name} | +{least:.1f} us | +{median:.1f} us |")
    print(f"\n{rounds} rounds of {REQUESTS}; {NOTHING}: {times.least(NOTHING):.1f} us in all\n")


async def share(rounds: int) -> None:
    """CPU of whole calls, beside those of the bare SDK."""
    bare = sdk(Instant())
    found = {BARE: lambda: _create(bare), **calls()}
    times = await interleave({name: _whole(call) for name, call in found.items()}, rounds)
    print("| CPU of a whole call | per call | beside the SDK's own |\n|---|---|---|")
    for name in found:
        ratio, low, high = times.ratio(name, BARE)
        shown = f"{ratio - 1:+.1%} (middle half {low - 1:+.1%} to {high - 1:+.1%})"
        print(f"| {name} | {times.least(name):.0f} us | {'' if name == BARE else shown} |")
    print(f"\n{rounds} rounds of {CALLS}\n")


def _exchange(client: Any) -> Round:
    transport, requests = client._client._transport, ready(client, REQUESTS)

    async def run() -> float:
        started = time.perf_counter()
        for request in requests:
            response = await transport.handle_async_request(request)
            await response.aread()
            await response.aclose()
        return (time.perf_counter() - started) / REQUESTS * 1e6

    return run


def _whole(call: Callable[[], Awaitable[Any]]) -> Round:
    async def run() -> float:
        started = time.process_time()
        for _ in range(CALLS):
            await call()
        return (time.process_time() - started) / CALLS * 1e6

    return run


def _create(client: Any) -> Awaitable[Any]:
    created: Awaitable[Any] = client.chat.completions.create(model="m", messages=MESSAGES)
    return created
