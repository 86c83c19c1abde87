"""Virtual time: an event loop that is a heap of things to do, and nothing else.

It offers the methods of an asyncio loop that the limiter's own loop uses, and declares itself
running: ``limits.eventloop.running_loop()`` finds it, so the real ``Limiter`` runs on it
without tasks, at the cost of a function call for each event.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from contextvars import Context
from typing import Any, cast


class Handle:
    """A timer that can be called off."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def __call__(self) -> None:
        if self._callback is not None:
            self._callback()

    def cancel(self) -> None:
        """Never run."""
        self._callback = None


class Flag:
    """The part of a future that waiting for a slot uses; nobody awaits it."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def done(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set_result(self, result: None) -> None:
        """Set it."""
        self._is_set = True


class VirtualLoop:
    """Runs functions in order of their time, then of their asking; time jumps between them."""

    def __init__(self) -> None:
        self._now = 0.0
        self._asked = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        """Seconds since the start."""
        return self._now

    def at(self, when: float, function: Callable[..., object], *args: Any) -> None:
        """Run a function at a time, never in the past."""
        self._asked += 1
        heapq.heappush(self._heap, (max(when, self._now), self._asked, function, args))

    def call_at(self, when: float, callback: Callable[[], object]) -> Handle:
        """As in asyncio."""
        handle = Handle(callback)
        self.at(when, handle)
        return handle

    def create_future(self) -> Flag:
        """As in asyncio, for what is never awaited."""
        return Flag()

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """As in asyncio, for the one thread that there is."""
        self.at(self._now, callback)

    def run(self, until: float = math.inf, done: Callable[[], bool] = lambda: False) -> None:
        """Run until a time, until nothing is left to do, or until ``done()``."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", self))
        try:
            while self._heap and self._heap[0][0] <= until and not done():
                self._now, _, function, args = heapq.heappop(self._heap)
                Context().run(function, *args)  # each in a task of its own, so to speak
        finally:
            asyncio._set_running_loop(outer)
