"""Run the soak and print its table; the exit code is 1 if a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai

from comet_resilience import wrap
from comet_resilience.testing import ChaosTransport, ConcurrencyCap, Gateway
from comet_resilience.testing.chaos import EVERYDAY
from comet_resilience.wire.family import family_of_sdk

from .load import RETRIES, Load, many
from .server import forget, serve, served
from .tally import Counting, Tally
from .watch import Moment, descriptors, look, settle, slope

httpx: Any = family_of_sdk()
SEED = 20
#: The share of requests that something happens to, in memory and on the wire.
SHARE = 0.05
CAPACITY = 40
READ_TIMEOUT = 1.0
#: In each round the gateway in memory is down for so many seconds.
OUTAGE = 1.0
#: Short, so that the stragglers of a round do not hold up the next one.
BACKOFF_INITIAL, BACKOFF_MAX = 0.1, 1.0
MOST_CONNECTIONS = 200
#: Memory may grow by so much for every 10 000 calls, in MB.
REACH = 1.0
#: Growth that is less than this in all, in MB, is the noise of pages and arenas in a short run.
NOISE = 1.0
#: Before the first round: as many calls at once, half of them disturbed, so that pools and caches
#: are filled. The first rounds are not measured either.
BURST = 400
WARM_UP = 0.4
#: A round that takes longer than this, in seconds, has calls that do not end.
LATEST = 240.0


@dataclass(frozen=True)
class Plan:
    """How long, and how many calls in how many rounds."""

    seconds: float
    calls: int
    rounds: int


LONG = Plan(seconds=600.0, calls=100_000, rounds=20)
SHORT = Plan(seconds=24.0, calls=3_600, rounds=6)


def in_memory(gateway: Gateway, tally: Tally, share: float) -> tuple[Any, ChaosTransport]:
    """A wrapped client over disturbances over a gateway without sockets."""
    names = (*EVERYDAY, "stall", "stream_error", "stream_error_late", "stream_no_finish")
    shares = dict.fromkeys(names, share / len(names))
    chaos = ChaosTransport(gateway.transport(), seed=SEED, rate=shares)
    http = httpx.AsyncClient(transport=Counting(chaos, tally), timeout=READ_TIMEOUT)
    return _client("http://gateway.test/v1", http), chaos


def on_the_wire(port: int, tally: Tally) -> Any:
    """A wrapped client on real connections to the proxy."""
    limits = httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=50)
    inner = Counting(httpx.AsyncHTTPTransport(limits=limits), tally)
    http = httpx.AsyncClient(transport=inner, timeout=httpx.Timeout(READ_TIMEOUT, pool=10.0))
    return _client(f"http://127.0.0.1:{port}/v1", http)


def _client(base_url: str, http: Any) -> Any:
    client = openai.AsyncOpenAI(base_url=base_url, api_key="k", http_client=http)
    return wrap(client, backoff_initial=BACKOFF_INITIAL, backoff_max=BACKOFF_MAX)


async def one_round(load: Load, gateway: Gateway, count: int, seconds: float) -> None:
    """So many calls in so many seconds, with an outage in the middle."""

    async def outage() -> None:
        await asyncio.sleep(seconds / 2)
        gateway.always("unavailable")
        await asyncio.sleep(OUTAGE)
        gateway.recover()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(outage())
        tasks.create_task(many(load, count, seconds))


async def warm_up(gateway: Gateway, tally: Tally, wire: Any) -> None:
    """Everything that happens once happens now."""
    disturbed, _ = in_memory(gateway, tally, 0.5)
    await many(Load([disturbed, wire], tally, SEED), BURST, 0.0)
    await disturbed.close()


async def soak(plan: Plan, port: int) -> tuple[Tally, list[Moment]]:
    """All rounds; prints a row for each."""
    tally, moments = Tally(), []
    gateway = Gateway(capacity=ConcurrencyCap(CAPACITY), latency=(0.0, 0.03))
    before = descriptors()
    memory, chaos = in_memory(gateway, tally, SHARE)
    wire = on_the_wire(port, tally)
    clients = [memory, wire]
    load = Load(clients, tally, SEED)
    try:
        async with asyncio.timeout(LATEST):
            await warm_up(gateway, tally, wire)
        for _ in range(plan.rounds):
            async with asyncio.timeout(LATEST):
                share = plan.calls // plan.rounds
                await one_round(load, gateway, share, plan.seconds / plan.rounds)
            await settle(clients, until=5.0)
            forget(gateway)
            chaos.disturbances.clear()
            moments.append(look(clients, tally.started))
            check(moments[-1], gateway, tally, before)
            print(row(moments[-1], tally), flush=True)
    except TimeoutError:
        tally.breach(f"a round did not end within {LATEST:g} s: {len(tally.live)} calls are left")
    for client in clients:
        await client.close()
    await settle(clients, until=1.0)
    if descriptors() != before:
        tally.breach(f"{descriptors() - before} descriptors are open after close()")
    return tally, moments


def check(seen: Moment, gateway: Gateway, tally: Tally, before: int) -> None:
    """Between rounds nothing may be held."""
    if seen.slots or seen.waiting:
        tally.breach(f"after {seen.calls} calls {seen.slots} slots held, {seen.waiting} waiting")
    if seen.tasks:
        names = [task.get_coro() for task in asyncio.all_tasks()]
        tally.breach(f"after {seen.calls} calls {seen.tasks} tasks are left: {names}")
    if seen.descriptors > before + MOST_CONNECTIONS:
        tally.breach(f"after {seen.calls} calls {seen.descriptors} descriptors are open")
    if gateway.in_flight:
        tally.breach(f"after {seen.calls} calls the gateway still works on {gateway.in_flight}")
    if tally.live:
        tally.breach(f"calls without an end: {sorted(tally.live)}")


COLUMNS = (
    "calls", "answered", "failed", "cancelled", "closed early", "dropped", "sends",
    "slots", "tasks", "descriptors", "memory MB", "blocks",
)  # fmt: skip


def row(seen: Moment, tally: Tally) -> str:
    """One line of the table."""
    ends = [tally.ends[how] for how in COLUMNS[1:6]]
    memory = f"{seen.memory:.1f}"
    cells = (seen.calls, *ends, tally.sends, seen.slots, seen.tasks, seen.descriptors, memory)
    return f"| {' | '.join(map(str, (*cells, seen.blocks)))} |"


def judge_memory(tally: Tally, measured: Sequence[Moment]) -> None:
    """Print how memory grows, and say so if that is too much."""
    grown = slope(measured, lambda moment: moment.memory)
    objects = slope(measured, lambda moment: moment.blocks)
    span = (measured[-1].calls - measured[0].calls) / 10_000
    if grown >= REACH and grown * span >= NOISE:
        tally.breach(f"memory grows by {grown:.2f} MB per 10 000 calls")
    print(
        f"\nmemory: {grown:+.2f} MB, {objects:+.0f} blocks per 10 000 calls (reach: < {REACH} MB)"
    )


def conclude(tally: Tally, moments: Sequence[Moment], seconds: float) -> bool:
    """Print what was found; whether all promises were kept."""
    measured = moments[int(len(moments) * WARM_UP) :]
    if len(measured) > 1:
        judge_memory(tally, measured)
    print(f"{tally.started} calls in {seconds:.0f} s, {tally.sends} sends", end=" ")
    print(f"({tally.sends / tally.started:.2f} a call),", end=" ")
    print(f"at most {tally.most_sends} for one (promised: {max(RETRIES) + 1})")
    for reason, count in tally.reasons.most_common():
        print(f"failed {count:5} {reason}")
    print(f"promises broken: {tally.broken}")
    for what in tally.shown:
        print(f"  {what}")
    return tally.broken == 0


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="one minute instead of ten")
    parser.add_argument("--serve", nargs=2, metavar=("SHARE", "CAPACITY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(float(given.serve[0]), int(given.serve[1])))
        return
    logging.getLogger("comet_resilience").setLevel(logging.ERROR)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    started = time.monotonic()
    with served(SHARE, CAPACITY) as port:
        tally, moments = asyncio.run(soak(SHORT if given.short else LONG, port))
    sys.exit(0 if conclude(tally, moments, time.monotonic() - started) else 1)


if __name__ == "__main__":
    main()
