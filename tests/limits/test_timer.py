"""The timer of a partition, on an event loop by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comet_resilience.limits.timer import Timer


class Loop:
    """An event loop that notes what it is to run soon, and what it is to run when."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.cancelled = 0

    def call_soon(self, function: Callable[[], object]) -> bool:
        """Note it."""
        self.soon.append(function)
        return True

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], object]:
        """Note it; cancelling is noted as well."""
        self.later.append((when, function))

        def cancel() -> None:
            self.cancelled += 1

        return cancel


def nothing() -> None:
    """Be what goes off."""


def test_it_is_set_once_for_one_time_and_anew_for_another() -> None:
    """A timer that stands already is not made again with each look."""
    loop: Any = Loop()
    timer = Timer()
    timer.set(5.0, loop, loop, nothing)
    timer.set(5.0, loop, loop, nothing)
    assert loop.later == [(5.0, nothing)]
    assert timer.at == 5.0
    timer.set(4.0, loop, loop, nothing)
    assert loop.later == [(5.0, nothing), (4.0, nothing)]
    assert loop.cancelled == 1


def test_it_is_cancelled_where_nobody_waits() -> None:
    """No time, or no loop to have it, is no timer."""
    loop: Any = Loop()
    timer = Timer()
    for at, owner in ((None, loop), (6.0, None)):
        timer.set(5.0, loop, loop, nothing)
        timer.set(at, owner, loop, nothing)
        assert timer.at is None
    assert loop.cancelled == 2


def test_another_loop_is_asked_to_look_itself() -> None:
    """Only a loop can set its timers, so that one is not set from here."""
    owner: Any = Loop()
    running: Any = Loop()
    timer = Timer()
    timer.set(5.0, owner, running, nothing)
    assert owner.soon == [nothing]
    assert not owner.later
    assert timer.at is None


def test_it_is_cancelled_on_its_own_loop() -> None:
    """At once here, by the loop's own call elsewhere; without a timer there is nothing to do."""
    here: Any = Loop()
    there: Any = Loop()
    timer = Timer()
    timer.cancel(here)
    timer.set(5.0, here, here, nothing)
    timer.cancel(here)
    assert here.cancelled == 1
    timer.set(5.0, there, there, nothing)
    timer.cancel(here)
    assert there.cancelled == 0
    (cancel,) = there.soon
    cancel()
    assert there.cancelled == 1
    timer.cancel(here)  # there is none any more
    assert not there.soon[1:]


def test_one_that_went_off_is_not_set_any_more() -> None:
    """Except where another loop says so: it may have been set anew meanwhile."""
    here: Any = Loop()
    there: Any = Loop()
    timer = Timer()
    timer.set(5.0, here, here, nothing)
    timer.went_off(there)
    assert timer.at == 5.0
    timer.went_off(here)
    assert timer.at is None
