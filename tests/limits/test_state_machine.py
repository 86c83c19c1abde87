"""The limiter against a model queue: any sequence of events, checked after each."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from comet_resilience import StepBack
from comet_resilience.limits.algorithm import Ticket
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease, Waiter
from comet_resilience.observers import Observers
from comet_resilience.verdict.vocabulary import Signal
from tests.bench.sim.clock import VirtualLoop

KEY = "partition"


class Watched(StepBack):
    """The product's algorithm, which notes a slot that was given out above the limit."""

    above: int = 0

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Compare before the state moves on."""
        type(self).above += in_flight > self.limit
        return StepBack.sent(self, now, in_flight)


class LimiterMachine(RuleBasedStateMachine):
    """Requests arrive, are accepted, refused, ended, dropped, cancelled; time passes."""

    def __init__(self) -> None:
        super().__init__()
        Watched.above = 0
        self.loop = VirtualLoop()
        self.limiter = Limiter(
            make_algorithm=lambda: Watched(4, 1, 20),
            max_queue=None,
            observers=Observers([]),
            jitter=lambda: 0.5,
        )
        self.held: list[Lease] = []
        self.queue: list[Waiter] = []

    def run(self, function: Callable[[], Any]) -> Any:
        """Do something inside the event loop, and whatever becomes due by it."""
        results: list[Any] = []
        self.loop.at(self.loop.time(), lambda: results.append(function()))
        self.loop.run(until=self.loop.time())
        self.collect()
        return results[0]

    def collect(self) -> None:
        """Move those who were given a slot from the queue to the slots, checking their order."""
        served = [waiter for waiter in self.queue if waiter.lease is not None]
        left = [waiter for waiter in self.queue if waiter.lease is None]
        for priority in {waiter.priority for waiter in served}:
            first = [w.order for w in left if w.priority == priority]
            last = max(w.order for w in served if w.priority == priority)
            assert not first or last < min(first)
        assert all(waiter.parking.is_over for waiter in served)
        self.queue = left
        self.held += [waiter.lease for waiter in served if waiter.lease is not None]

    def enqueue(self, order: int | None, priority: int) -> None:
        """Take a place in the queue, or in the same moment a slot."""
        waiter = self.run(lambda: self.limiter._enqueue(KEY, order, priority=priority))
        self.queue.append(waiter)
        self.collect()

    @rule(priority=st.sampled_from([-5, 0, 0, 10]))
    def arrive(self, priority: int) -> None:
        """A new request: a slot, or a place at the tail."""
        lease = self.run(lambda: self.limiter.acquire_nowait(KEY))
        if lease is not None:
            assert not self.queue
            self.held.append(lease)
        else:
            self.enqueue(None, priority)

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        again=st.sampled_from([None, -5, 0, 10]),
        retry_after=st.sampled_from([None, 1.0, 70.0]),
    )
    def refuse(self, data: st.DataObject, again: int | None, retry_after: float | None) -> None:
        """A request is refused for load, and may come back to its place."""
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.run(lambda: lease.release(Signal.OVERLOAD, retry_after))
        if again is not None:
            self.enqueue(lease.order, again)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        """An answer begins."""
        lease = self.held[data.draw(st.integers(0, len(self.held) - 1))]
        self.run(lambda: copy_context().run(lease.accept))  # the holder asks for nothing more

    @precondition(lambda self: self.held)
    @rule(data=st.data(), signal=st.sampled_from([Signal.SUCCESS, Signal.IGNORED]))
    def end(self, data: st.DataObject, signal: Signal) -> None:
        """A request ends, well or without a lesson; ending it twice changes nothing."""
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.run(lambda: lease.release(signal))
        self.run(lambda: lease.release(signal))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """A response is dropped, and the finalizer gives its slot back."""
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.run(lease.abandon)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """One who waits is cancelled."""
        waiter = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.run(lambda: self.limiter._leave(waiter))

    @precondition(lambda self: self.held and self.queue)
    @rule(data=st.data())
    def grant_and_cancel(self, data: st.DataObject) -> None:
        """A slot is freed, and whoever got it is cancelled before running."""
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        waiting = list(self.queue)

        def both() -> None:
            lease.release(Signal.SUCCESS)
            for waiter in waiting:
                if waiter.lease is not None:
                    self.queue.remove(waiter)
                    self.limiter._leave(waiter)

        self.run(both)

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds: float) -> None:
        """Time passes, and timers run."""
        self.loop.at(self.loop.time() + seconds, lambda: None)
        self.loop.run(until=self.loop.time() + seconds)
        self.collect()

    @invariant()
    def nothing_is_lost(self) -> None:
        """Slots held and places taken are those that the limiter counts."""
        partition = self.limiter._partitions.get(KEY)
        if partition is None:
            return
        assert Watched.above == 0
        assert partition.slots.in_flight == len(self.held)
        assert partition.slots.waiting == len(self.queue)
        if self.queue:
            assert not partition.slots.has_room
            assert partition.slots.in_flight or partition.timer.is_set


LimiterMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
TestLimiter = LimiterMachine.TestCase
