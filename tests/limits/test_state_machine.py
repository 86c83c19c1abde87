"""The limiter against a model queue: any sequence of events, checked after each."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from comet_resilience import Budget, StepBack
from comet_resilience.limits.algorithm import Ticket
from comet_resilience.limits.budget import Cost
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.pacer import Pace
from comet_resilience.limits.partition import Lease, Waiter
from comet_resilience.limits.partitions import InAccount
from comet_resilience.verdict.rates import Counted, RateReading
from comet_resilience.verdict.vocabulary import Signal
from tests.bench.sim.clock import VirtualLoop

from .conftest import limiter_of

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
        self.limiter = limiter_of(lambda: Watched(4, 1, 20))
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
            assert partition.slots.in_flight or partition.timer.at is not None


LimiterMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestLimiter = LimiterMachine.TestCase


#: Two models below one account, one below another, one without; the budget counts the first two.
KEYS = (InAccount("a", "m"), InAccount("a", "n"), InAccount("b", "m"), "alone")
HOSTS = ("one.test", "two.test")
PER = 10.0
REQUESTS = 6
#: How attempts end: well, for load of any scope, by an outage of any kind.
WEATHER = (
    Signal.SUCCESS,
    Signal.OVERLOAD,
    Signal.OVERLOAD_ACCOUNT,
    Signal.OVERLOAD_MODEL,
    Signal.OUTAGE,
    Signal.CUT,
    Signal.UNREACHABLE,
    Signal.IGNORED,
)


class WholeMachine(RuleBasedStateMachine):
    """Partitions below accounts, hosts with gates, a budget, headers: whatever holds anybody back.

    Whoever waits is waited for by something: a slot that will come back, or a timer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.limiter = limiter_of(
            lambda: StepBack(3, 1, 20),
            make_account_limit=lambda: StepBack(4, 1, 20),
            budgets={"m": Budget(requests=REQUESTS, per=PER, burst=PER)},
        )
        self.held: list[Lease] = []
        self.queue: list[Waiter] = []
        self.charged: list[float] = []
        self.weather = Signal.SUCCESS

    def do(self, function: Callable[[], object]) -> None:
        """Do something inside the event loop, and whatever becomes due by it."""
        self.loop.at(self.loop.time(), function)
        self.pass_time(0.0)

    def pass_time(self, seconds: float) -> None:
        """Let timers run, and find who was given a slot or was turned away."""
        until = self.loop.time() + seconds
        self.loop.at(until, lambda: None)
        self.loop.run(until=until)
        for waiter in self.queue:
            if waiter.lease is not None:
                self.take(waiter.lease)
        self.queue = [one for one in self.queue if one.lease is None and not one.left]

    def take(self, lease: Lease) -> None:
        """Hold a slot, and note what was charged for it."""
        self.held.append(lease)
        if lease.charge is not None:
            self.charged.append(lease.charge.at)

    @rule(
        key=st.sampled_from(KEYS),
        host=st.sampled_from(HOSTS),
        priority=st.sampled_from(["high", "normal", "bulk"]),
        patience=st.sampled_from([math.inf, math.inf, 3.0, 40.0]),
        number=st.integers(1, 6),
    )
    def arrive(self, key: Any, host: str, priority: Any, patience: float, number: int) -> None:
        """New requests: each gets a slot, or a place in the queue for as long as it can wait."""
        latest = self.loop.time() + patience

        def run() -> None:
            for _ in range(number):
                request = Standing(cost=Cost(str(getattr(key, "partition", key))))
                lease = self.limiter.acquire_nowait(key, request=request, host=host, latest=latest)
                if lease is not None:
                    self.take(lease)
                else:
                    self.enqueue(key, None, request, host, latest=latest, priority=priority)

        self.do(run)

    def enqueue(
        self, key: Any, order: int | None, request: Standing, host: str, **more: Any
    ) -> None:
        """Take a place in the queue."""
        waiter = self.limiter._enqueue(key, order, request=request, host=host, **more)
        self.queue.append(waiter)

    @rule(weather=st.sampled_from(WEATHER))
    def turn(self, weather: Signal) -> None:
        """From now on attempts end in another way."""
        self.weather = weather

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        number=st.integers(1, 8),
        retry_after=st.sampled_from([None, None, 2.0, 70.0]),
        left=st.none() | st.integers(0, 3),
        again=st.booleans(),
    )
    def end(
        self,
        data: st.DataObject,
        number: int,
        retry_after: float | None,
        left: int | None,
        again: bool,
    ) -> None:
        """Attempts end as the weather is, headers may tell what is left, and some come back."""
        ending = data.draw(st.permutations(self.held))[:number]
        self.held = [lease for lease in self.held if lease not in ending]
        self.end_all(ending, self.weather, retry_after, left, again=again)

    @precondition(lambda self: self.held)
    @rule(
        host=st.sampled_from(HOSTS),
        signal=st.sampled_from([Signal.OUTAGE, Signal.CUT, Signal.UNREACHABLE]),
    )
    def fail(self, host: str, signal: Signal) -> None:
        """All attempts at one host fail, and come back; so may those that follow."""
        self.weather = signal
        ending = [lease for lease in self.held if lease.host.host == host]
        self.held = [lease for lease in self.held if lease not in ending]
        self.end_all(ending, signal, None, None, again=True)

    def end_all(
        self,
        ending: list[Lease],
        signal: Signal,
        retry_after: float | None,
        left: int | None,
        *,
        again: bool,
    ) -> None:
        """Give slots back, with what was told in headers; who failed may queue again."""

        def run() -> None:
            for lease in ending:
                if left is not None:
                    lease.rates = (RateReading(Counted.REQUESTS, 60.0, float(left), 20.0),)
                answered = signal not in (Signal.CUT, Signal.UNREACHABLE)
                lease.release(signal, retry_after, what="as it was", answered=answered)
                if again and signal is not Signal.SUCCESS:
                    partitions = self.limiter._partitions
                    key = next(key for key, one in partitions.items() if one is lease.partition)
                    self.enqueue(key, lease.order, lease.request, lease.host.host)

        self.do(run)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        """An answer begins."""
        lease = self.held[data.draw(st.integers(0, len(self.held) - 1))]
        self.do(lambda: copy_context().run(lease.accept))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """A response is dropped."""
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.do(lease.abandon)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """One who waits is cancelled, or, in the same moment, after it was given a slot."""
        waiter = self.queue[data.draw(st.integers(0, len(self.queue) - 1))]
        frees = data.draw(st.booleans())
        free = self.held.pop() if self.held and frees else None

        def run() -> None:
            if free is not None:
                free.release(Signal.SUCCESS)
            self.limiter._leave(waiter)

        self.queue.remove(waiter)
        self.do(run)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 4.0, 20.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.pass_time(seconds)

    @invariant()
    def slots_and_places_are_those_that_are_counted(self) -> None:
        """In each partition and each account."""
        for partition in self.limiter._partitions.values():
            held = [lease for lease in self.held if lease.partition is partition]
            waiting = [waiter for waiter in self.queue if waiter.partition is partition]
            assert (partition.slots.in_flight, partition.slots.waiting) == (
                len(held),
                len(waiting),
            )
        for account in self.limiter._partitions.accounts():
            held = [lease for lease in self.held if lease.partition.above is account]
            waiting = [waiter for waiter in self.queue if waiter.partition.above is account]
            assert (account.slots.in_flight, account.slots.waiting) == (len(held), len(waiting))

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """A queue that is not empty has something in flight, or a timer in the future."""
        for partition in self.limiter._partitions.values():
            slots, above = partition.slots, partition.above
            if not slots.waiting:
                continue
            in_flight = slots.in_flight or (above is not None and above.slots.in_flight)
            timed = partition.timer.at is not None or (
                above is not None and above.timer.at is not None
            )
            assert in_flight or timed
            assert partition.timer.at is None or partition.timer.at > self.loop.time()

    @invariant()
    def nobody_waits_who_may_go(self) -> None:
        """No slot is left free that somebody waits for and nothing else holds back.

        (One whose host is not the one that its partition asked last is looked at by its timer.)
        """
        now = self.loop.time()
        for partition in self.limiter._partitions.values():
            if not partition.slots.waiting or not partition.may_send:
                continue
            waiter = partition.next_up(now)
            host = partition.host
            may_pass = not host.is_closed and host.has_room(now) and partition.gate.has_room(now)
            pace = self.limiter._pacer.pace_of_first(waiter, now)
            assert not may_pass or waiter.host is not host or pace is Pace.HELD

    @invariant()
    def no_period_holds_more_than_the_budget(self) -> None:
        """Wherever it begins."""
        charged = sorted(self.charged)
        assert all(
            late - early >= PER - 1e-6
            for early, late in zip(charged, charged[REQUESTS:], strict=False)
        )

    def teardown(self) -> None:
        """Everything ends well from now on: all who still wait are served, or are told why not."""
        for _ in range(400):
            while self.held:
                lease = self.held.pop()
                self.do(lambda lease=lease: lease.release(Signal.SUCCESS))  # type: ignore[misc]
            if not self.queue:
                break
            self.pass_time(5.0)
        assert not self.queue
        super().teardown()


WholeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestWhole = WholeMachine.TestCase
