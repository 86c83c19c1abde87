"""One partition: its slots, its queue and its algorithm. Nothing here waits, locks or wakes.

The limiter calls every method under its lock and does what has to be done outside of it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final

from ..events import LimitChanged
from ..verdict.vocabulary import Signal
from .algorithm import LimitAlgorithm, Ticket
from .eventloop import EventLoop, Parking
from .gate import Gate, Passage, Standing
from .lookout import Lookout
from .snapshot import GateView, InFleet, PartitionSnapshot

if TYPE_CHECKING:
    from .limiter import Limiter

_CHANGES_KEPT: Final = 16
#: The queue is rid of those who left once they outnumber those who wait by this many.
_LEFT_KEPT: Final = 64


class Lease:
    """The right to one slot, to be released exactly once; further releases do nothing."""

    __slots__ = (
        "begun", "host", "limiter", "loop", "order", "partition", "passages", "released",
        "request", "ticket",
    )  # fmt: skip

    def __init__(
        self,
        limiter: Limiter,
        partition: Partition,
        ticket: Ticket,
        order: int,
        loop: EventLoop | None,
        request: Standing,
        host: Gate,
        passages: tuple[Passage, Passage],
    ) -> None:
        self.limiter: Limiter = limiter
        self.partition: Partition = partition
        self.ticket: Ticket = ticket
        self.order: int = order
        self.loop: EventLoop | None = loop
        self.request: Standing = request
        self.host: Gate = host
        self.passages: tuple[Passage, Passage] = passages  # at the partition's gate, at the host's
        self.begun: bool = False
        self.released: bool = False

    def accepted(self) -> None:
        """The answer has begun and is no refusal; the slot stays held until ``release``."""
        self.limiter.accept(self)

    @property
    def is_canary(self) -> bool:
        """Whether it was sent through a gate that was closed."""
        return any(passage.is_canary for passage in self.passages)

    def release(
        self,
        signal: Signal,
        retry_after: float | None = None,
        here: EventLoop | None = None,
        *,
        what: str = "",
        answered: bool = False,
    ) -> None:
        """Give the slot back, and tell the limit and the gates what the attempt taught.

        ``here`` is the running loop, where the caller knows it. ``what`` was seen, in words, and
        ``answered`` says that something came back from the host, whatever it was.
        """
        self.limiter.release(self, signal, retry_after, here, what=what, answered=answered)

    def abandon(self) -> None:
        """Give the slot back from a finalizer, where no lock may be taken."""
        self.limiter.reclaim(self)


class Waiter:
    """A request in the queue: its place in the order, and how to wake it."""

    __slots__ = (
        "host", "latest", "lease", "left", "loop", "order", "parking", "partition", "request",
        "since", "turned_away",
    )  # fmt: skip

    def __init__(
        self,
        partition: Partition,
        loop: EventLoop,
        order: int,
        request: Standing,
        host: Gate,
        since: float,
        latest: float,
    ) -> None:
        self.partition: Partition = partition
        self.loop: EventLoop = loop
        self.order: int = order
        self.parking: Parking = loop.park()
        self.request: Standing = request
        self.host: Gate = host
        self.latest: float = latest  # after which a slot would be of no use
        self.since: float = since
        self.turned_away: Gate | None = None
        self.lease: Lease | None = None
        self.left: bool = False

    def __lt__(self, other: Waiter) -> bool:
        return self.order < other.order

    def wake(self, here: EventLoop | None) -> bool:
        """Let the waiter run; ``False`` if its event loop has ended."""
        if self.loop is here:
            self.parking.go()
            return True
        return self.loop.call_soon(self.parking.go)


class Partition:
    """The mutable state of one limit."""

    __slots__ = (
        "_arrivals",
        "_queue",
        "algorithm",
        "begun",
        "changes",
        "gate",
        "host",
        "in_flight",
        "key",
        "limit",
        "lookout",
        "ok",
        "other",
        "refused",
        "resting",
        "timer",
        "timer_at",
        "timer_loop",
        "used_at",
        "waiting",
    )

    def __init__(
        self,
        key: Hashable,
        algorithm: LimitAlgorithm,
        gate: Gate | None = None,
    ) -> None:
        self.key: Hashable = key
        self.algorithm: LimitAlgorithm = algorithm
        self.gate: Gate = gate or Gate()
        self.host: Gate = Gate()  # the gate of the host that was asked last
        self.limit: int = algorithm.limit  # as ``change`` saw it last
        self.in_flight: int = 0
        self.waiting: int = 0
        self.resting: int = 0  # between two attempts
        self.begun: int = 0  # in flight with an answer that the caller has in hand
        self.ok: int = 0
        self.refused: int = 0
        self.other: int = 0
        self.changes: deque[LimitChanged] = deque(maxlen=_CHANGES_KEPT)
        self.used_at: float = 0.0
        self.lookout: Lookout = Lookout()
        self.timer: Callable[[], object] | None = None
        self.timer_at: float = 0.0
        self.timer_loop: EventLoop | None = None
        self._queue: list[Waiter] = []
        self._arrivals = 0

    @property
    def has_room(self) -> bool:
        """Whether the limit leaves room for another attempt."""
        return self.in_flight < self.algorithm.limit

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits here."""
        return not self.in_flight and not self.waiting and not self.resting

    @property
    def present(self) -> int:
        """Requests that wait, run without an answer, or are between two attempts."""
        return self.waiting + self.in_flight - self.begun + self.resting

    @property
    def wake_at(self) -> float | None:
        """When time alone may free a slot for somebody who waits, ``None`` if nobody does."""
        if not self.waiting:
            return None
        host = self.head().host
        times = (self.algorithm.wake_at, self.gate.wake_at, host.wake_at, self.lookout.at)
        return min(at for at in times if at is not None)

    def look(self, now: float) -> int | None:
        """Which generation of objects to collect now, for the slots of dropped answers."""
        return self.lookout.look(now, self._moved, self.begun) if self.waiting else None

    @property
    def _moved(self) -> int:
        return self.ok + self.refused + self.other

    def next_order(self) -> int:
        """The place of a new arrival: behind everybody."""
        self._arrivals += 1
        return self._arrivals

    def push(
        self,
        loop: EventLoop,
        order: int | None,
        request: Standing | None = None,
        host: Gate | None = None,
        latest: float = math.inf,
    ) -> Waiter:
        """Queue a request: by its old order if it has one, else at the tail.

        While the limit's own gate is closed a retry goes to the tail too: the canaries rotate, and
        no request burns all its retries in one outage.
        """
        if order is None or self.algorithm.closed_until is not None:
            order = self.next_order()
        request, host = request or Standing(), host or self.host
        waiter = Waiter(self, loop, order, request, host, self.used_at, latest)
        heapq.heappush(self._queue, waiter)
        if not self.waiting:
            self.lookout.begin(self.used_at, self._moved)
        self.waiting += 1
        return waiter

    def head(self) -> Waiter:
        """The first who still waits; there must be one."""
        while self._queue[0].left:
            heapq.heappop(self._queue)
        return self._queue[0]

    def waiters(self) -> list[Waiter]:
        """All who still wait, in no order."""
        return [waiter for waiter in self._queue if not waiter.left]

    def next_up(self) -> Waiter:
        """The next to be sent: the first, or through a closed gate the one sent least often."""
        head = self.head()
        if self.gate.is_closed or head.host.is_closed:
            return min(self.waiters(), key=lambda waiter: (waiter.request.sent, waiter.order))
        return head

    def pop(self, waiter: Waiter | None = None) -> Waiter:
        """Take one who still waits out of the queue, the first if none is named."""
        if waiter is None or waiter is self.head():
            waiter = self.head()
            heapq.heappop(self._queue)
            self.waiting -= 1
        else:
            self.leave(waiter)
        return waiter

    def shut_by(self, waiter: Waiter) -> Gate | None:
        """The closed gate at which a request waits, ``None`` if it waits for a slot alone."""
        gates = (self.gate, waiter.host)
        return next((gate for gate in gates if gate.is_closed), None)

    def leave(self, waiter: Waiter) -> None:
        """One who waits goes without a slot."""
        waiter.left = True
        self.waiting -= 1
        if len(self._queue) > 2 * self.waiting + _LEFT_KEPT:
            self._queue = [waiter for waiter in self._queue if not waiter.left]
            heapq.heapify(self._queue)

    def grant(
        self,
        limiter: Limiter,
        now: float,
        order: int,
        loop: EventLoop | None,
        request: Standing | None = None,
        host: Gate | None = None,
        *,
        present: int,
        jitter: float,
    ) -> Lease:
        """Give a slot out; ``present`` is how many want something of the host."""
        request, host = request or Standing(), host or self.host
        ticket = self.algorithm.sent(now, self.in_flight + 1)
        own = self.gate.sent(now, request, self.present, jitter)
        passages = (own, host.sent(now, request, present, jitter))
        request.sent += 1
        self.in_flight += 1
        self.host = host
        return Lease(limiter, self, ticket, order, loop, request, host, passages)

    def begin(self, lease: Lease, now: float) -> None:
        """The answer to an attempt has begun, and is handed to the caller."""
        self.begun += not lease.begun
        lease.begun = True
        self.algorithm.accepted(lease.ticket, now)
        self.gate.answered(lease.passages[0], now)
        lease.host.answered(lease.passages[1], now)

    def take_back(
        self, lease: Lease, signal: Signal, retry_after: float | None, now: float, draw: float
    ) -> None:
        """Take a slot back and tell the algorithm what the attempt taught."""
        lease.released = True
        self.in_flight -= 1
        self.begun -= lease.begun
        self.used_at = now
        if signal is Signal.SUCCESS:
            self.ok += 1
            self.algorithm.accepted(lease.ticket, now)
        elif signal is Signal.OVERLOAD:
            self.refused += 1
            self.algorithm.refused(lease.ticket, now, self.in_flight, retry_after, draw)
        else:
            self.other += 1
        self.algorithm.ended(lease.ticket, now, self.in_flight)

    def take_back_unsent(self, lease: Lease, now: float) -> None:
        """Take back a slot whose owner went before sending anything."""
        lease.released = True
        lease.request.sent -= 1
        self.in_flight -= 1
        self.algorithm.ended(lease.ticket, now, self.in_flight)
        self.gate.passed(lease.passages[0], now, unsent=True)
        lease.host.passed(lease.passages[1], now, unsent=True)

    def cancel_timer(self, here: EventLoop | None) -> None:
        """Call the timer off, on the loop that it belongs to."""
        if self.timer is not None and self.timer_loop is not None:
            if self.timer_loop is here:
                self.timer()
            else:
                self.timer_loop.call_soon(self.timer)
        self.timer = None

    def change(self) -> LimitChanged | None:
        """How the limit moved since the last call, ``None`` if it did not."""
        limit = self.algorithm.limit
        if limit == self.limit:
            return None
        change = LimitChanged(
            partition=self.key,
            old=self.limit,
            new=limit,
            reason=self.algorithm.reason,
            in_flight=self.in_flight,
            waiting=self.waiting,
        )
        self.limit = limit
        self.changes.append(change)
        return change

    def snapshot(self, now: float) -> PartitionSnapshot:
        """The state at this moment."""
        shut = next((gate for gate in (self.host, self.gate) if gate.is_closed), None)
        until = [gate.next_at for gate in (self.host, self.gate) if gate.is_closed]
        until += [at for at in (self.algorithm.closed_until,) if at is not None]
        return PartitionSnapshot(
            partition=self.key,
            limit=self.algorithm.limit,
            in_flight=self.in_flight,
            waiting=self.waiting,
            ok=self.ok,
            refused=self.refused,
            other=self.other,
            closed_for=max(now, *until) - now if until else None,
            changes=tuple(self.changes),
            fleet=self.algorithm.view if isinstance(self.algorithm, InFleet) else None,
            gate=None if shut is None else self._view(shut, now),
        )

    def _view(self, gate: Gate, now: float) -> GateView:
        return GateView(
            host=self.host.host,
            is_host=gate is self.host,
            reason=gate.seen,
            since=now - (gate.closed_since or now),
            next_canary=max(0.0, gate.next_at - now),
        )
