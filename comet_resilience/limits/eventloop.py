"""The parts of an event loop that the limiter needs and anyio does not offer.

One limiter may serve several event loops, in several threads or one after the other. Waking a
task of another loop takes that loop's thread-safe call; a timer that belongs to no task takes the
loop's own. Both exist on asyncio and on trio, under different names: here is the only place that
knows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

import anyio


class Parking(Protocol):
    """A place to wait until ``go`` is called; awaiting it costs no frame of its own."""

    @property
    def is_over(self) -> bool:
        """Return True if ``go`` was called."""
        ...

    def go(self) -> None:
        """Resume the task that waits. Call it only from the loop that the place belongs to."""
        ...

    def __await__(self) -> Generator[object, None, None]: ...


class EventLoop(Protocol):
    """A running event loop, as far as the limiter uses it."""

    def now(self) -> float:
        """Return the time on a clock that all loops of the process share, virtual or not."""
        ...

    def call_soon(self, function: Callable[[], object]) -> bool:
        """Run a function on the loop soon, from any thread; ``False`` if the loop is gone."""
        ...

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], object]:
        """Run a function on this (the running) loop at a time; return how to cancel it."""
        ...

    def park(self) -> Parking:
        """Return a place to wait, for one task of this loop."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Suspend the running task for a while."""
        ...

    def start(self, function: Callable[[], Awaitable[object]]) -> bool:
        """Run an async function as a detached task of the loop, from any thread."""
        ...


class _AsyncioParking:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    @property
    def is_over(self) -> bool:
        return self._future.done()

    def go(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def __await__(self) -> Generator[object, None, None]:
        return self._future.__await__()


class _TrioParking:
    __slots__ = ("_event",)

    def __init__(self, trio: Any) -> None:
        self._event = trio.Event()

    @property
    def is_over(self) -> bool:
        return bool(self._event.is_set())

    def go(self) -> None:
        self._event.set()

    def __await__(self) -> Generator[object, None, None]:
        waiting: Generator[object, None, None] = self._event.wait().__await__()
        return waiting


class _AsyncioLoop:
    """Asyncio's clock is the monotonic one, which all loops share already."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Future[None]] = set()
        self.now = loop.time
        self.sleep = anyio.sleep

    def call_soon(self, function: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], object]:
        return self._loop.call_at(when, function).cancel

    def park(self) -> Parking:
        return _AsyncioParking(self._loop)

    def start(self, function: Callable[[], Awaitable[object]]) -> bool:
        return self.call_soon(lambda: self._keep(asyncio.ensure_future(_quietly(function))))

    def _keep(self, task: asyncio.Future[None]) -> None:
        self._tasks.add(task)  # a loop holds its tasks only weakly
        task.add_done_callback(self._tasks.discard)


class _TrioLoop:
    """A trio clock starts anywhere and may be virtual: it is laid on the monotonic clock once."""

    def __init__(self, trio: Any, token: Any) -> None:
        self._trio, self._token = trio, token
        self._offset = time.monotonic() - trio.current_time()
        self.sleep = anyio.sleep

    def now(self) -> float:
        return float(self._trio.current_time() + self._offset)

    def call_soon(self, function: Callable[[], object]) -> bool:
        try:
            self._token.run_sync_soon(function)
        except self._trio.RunFinishedError:
            return False
        return True

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], object]:
        scope = self._trio.CancelScope()

        async def wait() -> None:
            with scope:
                await self._trio.sleep_until(when - self._offset)
                function()

        self._trio.lowlevel.spawn_system_task(wait)
        return lambda: self.call_soon(scope.cancel)

    def park(self) -> Parking:
        return _TrioParking(self._trio)

    def start(self, function: Callable[[], Awaitable[object]]) -> bool:
        spawn = self._trio.lowlevel.spawn_system_task
        return self.call_soon(lambda: spawn(_quietly, function))


class _Latest(threading.local):
    """The loop last seen by each thread: asking again within one run costs a comparison."""

    native: object = None
    loop: EventLoop


_latest = _Latest()
_lens: Callable[[EventLoop], EventLoop] | None = None
_monotonic: Callable[[], float] = time.monotonic


def see_through(
    lens: Callable[[EventLoop], EventLoop] | None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """See every loop through a lens from now on: how ``testing.waiting`` lets time jump.

    ``monotonic`` is the time where no loop runs.
    """
    global _latest, _lens, _monotonic
    _lens, _monotonic, _latest = lens, monotonic, _Latest()


def running_loop() -> EventLoop:
    """Return the event loop that runs this task: the same object each time within one run.

    Raises:
        RuntimeError: If no event loop runs in this thread.

    """
    latest, trio = _latest, sys.modules.get("trio")
    native: object
    if trio is not None and trio.lowlevel.in_trio_task():
        native = trio.lowlevel.current_trio_token()
        if native is not latest.native:
            latest.native, latest.loop = native, _through_lens(_TrioLoop(trio, native))
    else:
        native = asyncio.get_running_loop()
        if native is not latest.native:
            latest.native, latest.loop = native, _through_lens(_AsyncioLoop(native))
    return latest.loop


def _through_lens(loop: EventLoop) -> EventLoop:
    return loop if _lens is None else _lens(loop)


def time_and_loop(loop: EventLoop | None = None) -> tuple[float, EventLoop | None]:
    """Return the time and the running loop, if there is one: also for threads without a loop.

    A caller that knows the running loop already passes it as ``loop`` and saves the search.
    """
    if loop is not None:
        return loop.now(), loop
    try:
        loop = running_loop()
    except RuntimeError:
        return _monotonic(), None
    return loop.now(), loop


def clock() -> float:
    """Return the time in seconds, on the scale that all loops of the process share."""
    return time_and_loop()[0]


def call_later(seconds: float, function: Callable[[], object]) -> None:
    """Run a function on the running loop after some seconds of that loop; never where none runs.

    No lens is in between: it is nothing that a request waits for.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        loop: EventLoop = _TrioLoop(trio, trio.lowlevel.current_trio_token())
    else:
        try:
            loop = _AsyncioLoop(asyncio.get_running_loop())
        except RuntimeError:
            return
    loop.call_at(loop.now() + seconds, function)


async def _quietly(function: Callable[[], Awaitable[object]]) -> None:
    """Run clean-up that nobody waits for: its failure has no one to go to."""
    with contextlib.suppress(Exception):
        await function()
