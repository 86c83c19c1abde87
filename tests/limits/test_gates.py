"""The gates of many partitions of one host: all go on, and how much work that is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.limits.gate import OPENING_WINDOW
from comet_resilience.limits.partition import Lease, Waiter
from comet_resilience.verdict.vocabulary import Signal
from tests.bench.sim.clock import VirtualLoop

from .conftest import limiter_of

MANY = 500
#: Looks at a partition for each attempt of any: a few, however many partitions there are.
LOOKS = 25


class Counted(FixedLimit):
    """A limit that counts how often it is looked at: each look at a partition begins with that."""

    looks = 0

    def tick(self, now: float) -> None:
        """Count."""
        Counted.looks += 1
        FixedLimit.tick(self, now)


class Host:
    """Many partitions of one host: each has an attempt under way, and requests that wait."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.limiter = limiter_of(lambda: Counted(1))
        self.held: list[Lease] = []
        self.waiting: list[Waiter] = []
        self.do(self._begin)

    def _begin(self) -> None:
        for key in range(MANY):
            lease = self.limiter.acquire_nowait(key, host="h")
            assert lease is not None
            self.held.append(lease)
            self.waiting += [self.limiter._enqueue(key, None, host="h") for _ in range(2)]

    def do(self, function: Callable[[], object], after: float = 0.0) -> int:
        """Do something on the loop, after so long; return how many looks that took."""
        before = Counted.looks
        at = self.loop.time() + after
        self.loop.at(at, function)
        self.loop.run(until=at)
        self.held += [waiter.lease for waiter in self.waiting if waiter.lease is not None]
        self.waiting = [waiter for waiter in self.waiting if waiter.lease is None]
        return Counted.looks - before

    def end(self, signal: Signal) -> int:
        """End all attempts that are under way now; return how many looks that took."""
        ending, self.held = self.held, []

        def all_of_them() -> None:
            for lease in ending:
                lease.release(signal, what="refused", answered=signal is Signal.SUCCESS)

        return self.do(all_of_them)


def test_attempts_that_an_outage_catches_are_not_news_to_every_partition() -> None:
    """The first few close the gate of the host; the end of each other one concerns its own."""
    host = Host()
    looks = host.end(Signal.UNREACHABLE)
    assert all(waiter.host.is_closed for waiter in host.waiting)
    assert looks < LOOKS * MANY


def test_a_host_that_opens_step_by_step_lets_all_through_with_a_few_looks_each() -> None:
    """Whoever may pass has its turn, and the others are not asked each time."""
    host = Host()
    host.end(Signal.UNREACHABLE)
    waited = len(host.waiting)
    while not host.held:
        host.do(lambda: None, 0.1)
    looks = 0
    at_once = []
    while host.held:
        at_once.append(len(host.held))
        looks += host.end(Signal.SUCCESS)
    assert not host.waiting
    assert all(late <= 2 * early + OPENING_WINDOW for early, late in pairwise(at_once[:5]))
    assert looks < LOOKS * waited


def test_a_slot_whose_owner_left_before_sending_goes_to_the_next_in_line_of_the_host() -> None:
    """However that stands below another partition: a host that opens lets so many through."""
    host = Host()
    host.end(Signal.UNREACHABLE)
    while not host.held:
        host.do(lambda: None, 0.1)
    host.end(Signal.SUCCESS)
    gate = host.held[0].host
    assert not gate.has_room(host.loop.time())

    def both() -> None:
        host.held.pop().release(Signal.SUCCESS)
        served = [waiter for waiter in host.waiting if waiter.lease is not None]
        assert served
        for waiter in served:
            host.waiting.remove(waiter)
            host.limiter._leave(waiter)

    host.do(both)
    assert not gate.has_room(host.loop.time())
