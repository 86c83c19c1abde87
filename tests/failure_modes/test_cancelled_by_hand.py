"""Modes 1 and 2, by hand: the coroutine of a call is driven step by step and cancelled at each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from .counting import CASES, Case

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("log_without_counts")]


class ByHand:
    """A coroutine whose every step is ours; what it waits for is waited for between the steps."""

    def __init__(self, awaitable: Awaitable[object]) -> None:
        async def run() -> object:
            return await awaitable

        self._coroutine = run()
        self.steps = 0
        self.over = False
        self._waits_for: Any = None
        self.ended_by: BaseException | None = None

    def step(self) -> None:
        """Go on to the next await point, or end."""
        self._go(lambda: self._coroutine.send(None))

    def cancel(self) -> None:
        """Throw a cancellation in where the coroutine stands, as a task does."""
        if self._waits_for is not None:
            self._waits_for.cancel()
        self._go(lambda: self._coroutine.throw(asyncio.CancelledError()))

    def _go(self, advance: Callable[[], Any]) -> None:
        self.steps += 1
        try:
            self._waits_for = advance()
        except StopIteration:
            self.over = True
        except BaseException as error:  # noqa: BLE001 - how it ended is what is looked at
            self.over, self.ended_by = True, error

    async def let_pass(self) -> None:
        """Wait for what the coroutine waits for, as its task would."""
        if self.over:
            return
        if self._waits_for is None:
            await asyncio.sleep(0)
        else:
            self._waits_for._asyncio_future_blocking = False
            await asyncio.wait([self._waits_for])

    async def run(self, steps: int = 1_000) -> None:
        """Go on so many steps, or to the end."""
        for _ in range(steps):
            if not self.over:
                await self.let_pass()
                self.step()


def armed_timers() -> list[Any]:
    """Return what the event loop still has to do at some time."""
    loop: Any = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled()]


async def steps_of(make: Callable[[], Case]) -> int:
    """Return how many await points the request has when nobody cancels it."""
    case = make()
    driven = ByHand(case.journey(case.client))
    await driven.run()
    assert driven.over
    assert driven.ended_by is None or isinstance(driven.ended_by, openai.OpenAIError)
    assert case.at_rest()
    return driven.steps


async def cancelled_after(
    make: Callable[[], Case], steps: int, *, granted: bool, again_after: int | None = None
) -> None:
    """Cancel at one await point, and perhaps once more during the clean-up; nothing may be left.

    ``granted`` says that what the request waits for has come already when it is cancelled.
    """
    case = make()
    driven = ByHand(case.journey(case.client))
    await driven.run(steps)
    if driven.over:  # a timer was quicker this time, and spared it an await point
        assert case.at_rest()
        return
    if granted:
        await driven.let_pass()
    driven.cancel()
    if again_after is not None:
        await driven.run(again_after)
        if not driven.over:
            driven.cancel()
    await driven.run()
    assert isinstance(driven.ended_by, asyncio.CancelledError), driven.ended_by
    assert case.at_rest()
    assert not armed_timers()


@pytest.mark.parametrize("name", CASES)
def test_fm01_cancelled_at_every_await_point(name: str) -> None:
    """At each await point, waiting or granted: slot, place, timer and connection are given back."""

    async def sweep() -> None:
        make = CASES[name]
        for step in range(1, await steps_of(make)):
            for granted in (False, True):
                await cancelled_after(make, step, granted=granted)

    asyncio.run(sweep())


@pytest.mark.parametrize("name", CASES)
def test_fm02_cancelled_again_during_the_cleanup(name: str) -> None:
    """A second cancellation, at any await point of the clean-up, leaves no more behind."""

    async def sweep() -> None:
        make = CASES[name]
        for step in range(1, await steps_of(make)):
            for again_after in range(4):
                await cancelled_after(make, step, granted=True, again_after=again_after)

    asyncio.run(sweep())
