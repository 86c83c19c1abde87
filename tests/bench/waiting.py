"""What waiting costs: ``python -m tests.bench.waiting``.

Memory of a call that waits in the limiter's queue, beside one that waits inside a bare transport
(the floor for any limiter that sits in a transport); and CPU per call with few and many waiting,
beside the bare SDK with as many under way: what ten thousand tasks cost is not the limiter's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import openai

from comet_resilience import FixedLimit, snapshot, wrap
from comet_resilience.wire.family import family_of_sdk

httpx: Any = family_of_sdk()
MESSAGES: Any = [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]
FEW, MANY = 125, 10_000
BODY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
        ],
    }
).encode()


class Gate(httpx.AsyncBaseTransport):  # type: ignore[misc]
    """Answers once the gate is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.arrived = 0

    async def handle_async_request(self, _request: Any) -> Any:
        """Wait, then answer."""
        self.arrived += 1
        await self.open.wait()
        await asyncio.sleep(0)
        return httpx.Response(200, content=BODY)


def _client(gate: Gate) -> openai.AsyncOpenAI:
    http_client = httpx.AsyncClient(transport=gate, timeout=None)
    return openai.AsyncOpenAI(api_key="k", base_url="http://x.test/v1", http_client=http_client)


def _wrapped(gate: Gate) -> openai.AsyncOpenAI:
    return wrap(_client(gate), algorithm=lambda: FixedLimit(8), max_queue=None)


async def _memory(client: Any, gate: Gate, parked: Any) -> float:
    """KiB of Python memory for each of MANY calls that wait."""
    gate.open.set()
    await client.chat.completions.create(model="m", messages=MESSAGES)
    gate.open.clear()
    gate.arrived = 0
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [
        asyncio.ensure_future(client.chat.completions.create(model="m", messages=MESSAGES))
        for _ in range(MANY)
    ]
    while parked() < MANY:
        await asyncio.sleep(0.01)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    gate.open.set()
    await asyncio.gather(*tasks)
    return used / MANY / 1_024


async def _cpu(make: Callable[[Gate], openai.AsyncOpenAI], at_once: int) -> float:
    """Microseconds of CPU per call of ``at_once`` calls together; wrapped, 8 slots are theirs."""
    gate = Gate()
    gate.open.set()
    client = make(gate)
    await client.chat.completions.create(model="m", messages=MESSAGES)
    started = time.process_time()
    for _ in range(MANY // at_once):
        await asyncio.gather(
            *(client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(at_once))
        )
    return (time.process_time() - started) / (MANY // at_once * at_once) * 1e6


async def _main() -> None:
    gate = Gate()
    bare = await _memory(_client(gate), gate, lambda: gate.arrived)
    gate = Gate()
    client = _wrapped(gate)

    def parked() -> int:
        shown = snapshot(client).partitions
        return shown[0].waiting + gate.arrived if shown else 0

    wrapped = await _memory(client, gate, parked)
    print("| a waiting call | memory | reach |\n|---|---|---|")
    print(f"| in flight in a bare transport (the floor) | {bare:.1f} KiB | |")
    print(f"| in the limiter's queue | {wrapped:.1f} KiB | floor + 0.9 KiB |")
    print(f"\n| CPU per call | {FEW} at once | {MANY:,} at once | ratio |\n|---|---|---|---|")
    for name, make in (("bare", _client), ("wrapped", _wrapped)):
        few, many = [min([await _cpu(make, size) for _ in range(3)]) for size in (FEW, MANY)]
        print(f"| {name} | {few:.0f} us | {many:.0f} us | {many / few:.2f} |")
    print("\nReach: the ratio of the bare SDK, or less.")


if __name__ == "__main__":
    asyncio.run(_main())
