"""What bulk work costs: ``python -m tests.bench.bulk [--items N]``.

Many calls against answers in memory, which take 20 ms each, through a wrapped client whose limit
is 64. Up to 100,000 items each is a chat completion by the real SDK; above, where the SDK alone
would take an hour, requests go straight into the wrapped client's transport (its retry loop and its
limiter, without the SDK), and the ways that begin everything at once are left out: they would take
gigabytes. Each way runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from comet_resilience import FixedLimit, run_all, wrap
from comet_resilience.wire.family import transport_of
from comet_resilience.wire.request import EXTENSION, Asked, Call

from .waiting import BODY, MESSAGES, Gate, _client, httpx

LIMIT = 64
SECONDS = 0.02
BY_SDK_UP_TO = 100_000
WAITING = 10_000
WAYS = ("run_all", "semaphore", "gather")

Ask = Callable[[int], Awaitable[Any]]


class Answers(Gate):
    """Answers after a while, once the gate is open."""

    async def handle_async_request(self, _request: Any) -> Any:
        """Wait, then answer."""
        self.arrived += 1
        await self.open.wait()
        await asyncio.sleep(SECONDS)
        return httpx.Response(200, content=BODY)


class Service:
    """A wrapped client, and the two ways to ask through it."""

    def __init__(self) -> None:
        self.gate = Answers()
        self.client = wrap(_client(self.gate), algorithm=lambda: FixedLimit(LIMIT), max_queue=None)
        self._transport: Any = transport_of(self.client._client)

    async def ask(self, _item: int) -> object:
        """A chat completion."""
        return await self.client.chat.completions.create(model="m", messages=MESSAGES)

    async def send(self, _item: int) -> object:
        """The same without the SDK."""
        url = "http://x.test/v1"
        call = Call(0, url, httpx.URL(url), Asked("m"), False, 1, None)
        request = httpx.Request(
            "POST", "http://x.test/v1/chat/completions", content=b"{}", extensions={EXTENSION: call}
        )
        return await (await self._transport.handle_async_request(request)).aread()


async def by_run_all(service: Service, ask: Ask, items: int) -> int:
    """As many at once as the limiter can send."""
    count = 0
    async with run_all(ask, range(items), client=service.client, errors="raise") as results:
        async for _ in results:
            count += 1
    return count


async def by_semaphore(_service: Service, ask: Ask, items: int) -> int:
    """A task for each item, and a semaphore of the right size."""
    slots = asyncio.Semaphore(LIMIT)

    async def guarded(item: int) -> object:
        async with slots:
            return await ask(item)

    return len(await asyncio.gather(*map(guarded, range(items))))


async def by_gather(_service: Service, ask: Ask, items: int) -> int:
    """All at once, and the limiter's queue."""
    return len(await asyncio.gather(*map(ask, range(items))))


BY: dict[str, Callable[[Service, Ask, int], Awaitable[int]]] = {
    "run_all": by_run_all,
    "semaphore": by_semaphore,
    "gather": by_gather,
}


class Pulse:
    """How long the event loop was deaf at worst, in CPU time: other processes do not count."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        """Ask to be woken each millisecond, and see what was done meanwhile."""
        while True:
            asked = time.process_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.process_time() - asked)


def _resident() -> float:
    """MiB of memory that the process took at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


async def measure(way: str, items: int) -> dict[str, float]:
    """Seconds, CPU, the longest lag and the growth of the process."""
    service, pulse = Service(), Pulse()
    service.gate.open.set()
    ask = service.ask if items <= BY_SDK_UP_TO else service.send
    await BY["run_all"](service, ask, LIMIT)  # warm
    gc.collect()
    heart, before = asyncio.ensure_future(pulse.beat()), _resident()
    began, cpu = time.monotonic(), time.process_time()
    assert await BY[way](service, ask, items) == items
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    heart.cancel()
    return {
        "seconds": seconds,
        "cpu": cpu,
        "lag": pulse.longest,
        "growth": _resident() - before,
        "waiting": await memory_of_waiting(way),
    }


async def memory_of_waiting(way: str) -> float:
    """KiB of Python memory for each call that cannot be sent yet."""
    service = Service()
    service.gate.open.set()
    await BY["run_all"](service, service.ask, LIMIT)
    service.gate.open.clear()
    gc.collect()
    tracemalloc.start()
    running = asyncio.ensure_future(BY[way](service, service.ask, WAITING + LIMIT))
    previous = -1
    while (used := tracemalloc.get_traced_memory()[0]) != previous:
        previous = used
        await asyncio.sleep(0.5)
        gc.collect()
    tracemalloc.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    # What the calls in flight take is no matter of those that wait.
    return used / (WAITING + LIMIT) / 1_024


def _in_a_process(way: str, items: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.bulk", "--way", way, "--items", str(items)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Run each way and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, action="append", help="default: 10000, 1000000")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.way:
        print(json.dumps(asyncio.run(measure(chosen.way, chosen.items[0]))))
        return
    head = ("items", "way", "calls/s", "CPU per call", "longest lag (CPU)", "process grew by")
    print(f"| {' | '.join((*head, 'a call not begun or waiting'))} |\n{'|---' * 7}|")
    for items in chosen.items or (10_000, 1_000_000):
        for way in WAYS if items <= BY_SDK_UP_TO else WAYS[:1]:
            seen = _in_a_process(way, items)
            print(
                f"| {items:,} | {way} | {items / seen['seconds']:.0f}"
                f" | {seen['cpu'] / items * 1e6:.0f} us | {seen['lag'] * 1e3:.0f} ms"
                f" | {seen['growth']:.0f} MiB | {seen['waiting']:.2f} KiB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
