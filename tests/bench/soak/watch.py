"""What is measured between two rounds, when nothing is under way and nothing may be held."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comet_resilience import snapshot

_MB = 1_048_576
_TURNS = 20


@dataclass(frozen=True)
class Moment:
    """The state at the end of a round."""

    calls: int
    slots: int
    waiting: int
    tasks: int
    descriptors: int
    memory: float
    blocks: int


async def settle(clients: Sequence[Any], until: float) -> None:
    """Collect what was dropped, and let the loop clean up, at most *until* seconds."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + until
    while True:
        gc.collect()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        held = sum(in_use(client)[0] for client in clients)
        if loop.time() > ends or (not held and len(asyncio.all_tasks()) == 1):
            return
        await asyncio.sleep(0.05)


def look(clients: Sequence[Any], calls: int) -> Moment:
    """Measure."""
    _give_back_memory()
    shown = [in_use(client) for client in clients]
    return Moment(
        calls=calls,
        slots=sum(slots for slots, _ in shown),
        waiting=sum(waiting for _, waiting in shown),
        tasks=len(asyncio.all_tasks()) - 1,
        descriptors=descriptors(),
        memory=resident(),
        blocks=sys.getallocatedblocks(),
    )


def in_use(client: Any) -> tuple[int, int]:
    """Slots held and requests queued."""
    partitions = snapshot(client).partitions
    return sum(p.in_flight for p in partitions), sum(p.waiting for p in partitions)


def descriptors() -> int:
    """Open file descriptors, without the one that is opened to count them."""
    return len(os.listdir("/dev/fd")) - 1


def resident() -> float:
    """Resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


def slope(moments: Sequence[Moment], value: Callable[[Moment], float]) -> float:
    """Growth per 10 000 calls, by least squares."""
    calls = [moment.calls / 10_000 for moment in moments]
    values = [value(moment) for moment in moments]
    middle, mean = sum(calls) / len(calls), sum(values) / len(values)
    spread = sum((each - middle) ** 2 for each in calls)
    pairs = zip(calls, values, strict=True)
    return sum((each - middle) * (seen - mean) for each, seen in pairs) / spread


def _give_back_memory() -> None:
    """Let the C library return free pages, so that resident memory is what is in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
