"""One partition: its waiters, and the leases on its slots. Nothing here waits or locks.

A ``Waiter`` is in the queue of its partition until it gets a ``Lease``, the right to one slot of
the partition and of its account. The three refer to each other and stand in one file. The limiter
calls every method under its lock.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias
from weakref import ref

from ..verdict.rates import RateInWords, RateReading
from ..verdict.vocabulary import Signal
from .account import Account
from .algorithm import LimitAlgorithm, Ticket
from .attempt_log import Attempt
from .blame import Ceiling
from .budget import Charge, Shortage
from .eventloop import EventLoop, Parking
from .forecast import Sent
from .gate import Gate, Passage, Standing
from .pressed import Pressed, half_way
from .priority import NORMAL
from .queue import Queue
from .slots import Slots
from .snapshot import Load
from .timer import Timer
from .told import Told
from .too_late import AnswerTimes, is_in_time, is_too_late


class Body(Protocol):
    """The body of an answer that is being read; ``turns`` as in ``Lease.turns``."""

    turns: int


class Outcome(NamedTuple):
    """The outcome of an attempt, for limits, rates and gates.

    ``retry_after`` is the server's hint (seconds), ``what`` describes the outcome in words, and
    ``answered`` says that the host sent a response, whatever it was.
    """

    signal: Signal
    retry_after: float | None = None
    what: str = ""
    answered: bool = False


class Origin(Protocol):
    """The limiter that a lease comes from."""

    def accept(self, lease: Lease) -> None:
        """Note that an answer has begun."""

    def release(self, lease: Lease, outcome: Outcome, loop: EventLoop | None) -> None:
        """Take the slot back."""

    def abandon(self, lease: Lease) -> None:
        """Take the slot of a dropped answer back."""


@dataclass(slots=True, weakref_slot=True, eq=False, repr=False)
class Lease:
    """The right to one slot, to be released exactly once; further releases do nothing."""

    limiter: Origin
    partition: Partition
    ticket: Ticket
    upper: Ticket | None  # of the account
    order: int
    loop: EventLoop | None
    request: Standing
    host: Gate
    passages: tuple[Passage, Passage]  # at the partition's gate, at the host's
    begun: bool = False
    released: bool = False
    met_account: bool = False  # refused, and at the account's limit
    body: ref[Body] | None = None
    charge: Charge | None = None  # what it takes of a budget
    foretold: Sent | None = None  # as forecasts of the server's own limits count it
    rates: tuple[RateReading, ...] = ()  # limits that the answer's headers report
    words: RateInWords | None = None  # the limit that a refusal's message names
    begun_after: float = 0.0  # seconds that its answer took to begin, 0 while unknown
    is_pressed: bool = False  # sent although evidence would have held it back
    spaced: Attempt | None = None  # as the learnt rate counts it
    tokens: int | None = None  # what the answer has taken, once it is known
    output_tokens: int | None = None  # and what of it was written

    @property
    def is_canary(self) -> bool:
        """Return True if it passed a closed gate."""
        own, host = self.passages
        return own.is_canary or host.is_canary

    @property
    def turns(self) -> int:
        """Count the reads of its answer that began or ended: odd during a read."""
        body = None if self.body is None else self.body()
        return 0 if body is None else body.turns

    def accept(self) -> None:
        """Note that the answer has begun and is no refusal; the slot is held until ``release``."""
        self.limiter.accept(self)

    def release(
        self,
        signal: Signal,
        retry_after: float | None = None,
        loop: EventLoop | None = None,
        *,
        what: str = "",
        answered: bool = False,
    ) -> None:
        """Give the slot back with the ``Outcome`` of the attempt.

        ``loop`` is the running loop, where the caller knows it.
        """
        self.limiter.release(self, Outcome(signal, retry_after, what, answered), loop)

    def took(self, tokens: int, output_tokens: int | None = None) -> None:
        """Note the tokens of the answer; a budget counts them when the slot is given back."""
        self.tokens, self.output_tokens = tokens, output_tokens

    def abandon(self) -> None:
        """Give the slot back from a finalizer, where no lock may be taken."""
        self.limiter.abandon(self)


@dataclass(slots=True, eq=False, repr=False)
class Waiter:
    """A request in the queue: its order, and how to wake it."""

    partition: Partition
    loop: EventLoop
    order: int
    request: Standing
    host: Gate
    since: float
    latest: float  # a slot after this time would be of no use
    serial: int  # the order of arrival, among waiters of one ``order``
    holds: tuple[Lease, ...]  # leases of answers that its task has open
    priority: int  # the lower number goes first; see ``Queue``
    parking: Parking
    useful_until: float = math.inf  # when its caller gives up, the answer included
    paced_until: float = math.inf  # by evidence alone
    turned_away: Gate | None = None
    unpaid: Shortage | None = None  # of the budget for which it waited in vain
    lease: Lease | None = None
    left: bool = False

    def __post_init__(self) -> None:
        self.paced_until = half_way(self.since, self.latest)

    def __lt__(self, other: Waiter) -> bool:
        return (self.order, self.serial) < (other.order, other.serial)

    def wake(self, loop: EventLoop | None) -> bool:
        """Resume the waiter; ``False`` if its event loop has ended."""
        if self.loop is loop:
            self.parking.go()
            return True
        return self.loop.call_soon(self.parking.go)


class Partition:
    """The mutable state of one partition; ``above`` is its account, if there is one.

    ``ceiling`` is where it was refused by itself. ``told`` holds the rates that the server has
    reported for it, ``all_told`` those of its account as well. ``opens_at`` is the time at which
    rates let the first waiter go, ``None`` while they hold nobody back.
    """

    __slots__ = (
        "__weakref__", "_arrivals", "_queue", "above", "all_told", "answers", "ceiling", "gate",
        "host", "key", "opens_at", "pressed", "slots", "timer", "told", "used_at",
    )  # fmt: skip

    def __init__(
        self,
        key: Hashable,
        algorithm: LimitAlgorithm,
        gate: Gate | None = None,
        above: Account[Partition] | None = None,
    ) -> None:
        self.key: Hashable = key
        self.slots: Slots = Slots(key, algorithm, has_bound=True)
        self.above: Account[Partition] | None = above
        self.ceiling: Ceiling | None = None
        self.gate: Gate = gate or Gate()
        self.host: Gate = Gate()  # the gate of the host that was asked last
        self.told: Told = Told()
        self.all_told: tuple[Told, ...] = (self.told,) if above is None else (self.told, above.told)
        self.opens_at: float | None = None
        self.pressed: Pressed[Waiter] = Pressed()
        self.answers: AnswerTimes = AnswerTimes()
        self.timer: Timer = Timer()
        self.used_at: float = 0.0
        self._queue: Queue[Waiter] = Queue()
        self._arrivals = 0

    @property
    def account_has_room(self) -> bool:
        """Return True if the account leaves room for another attempt, where there is one."""
        return self.above is None or self.above.slots.has_room

    @property
    def account_awaited(self) -> Load | None:
        """Return the account's figures if only its limit holds back the first waiter."""
        if self.above is None or not self.slots.waiting or self.is_paced:
            return None
        return self.above.slots.load if self.is_open and self.slots.has_room else None

    @property
    def may_send(self) -> bool:
        """Return True if the limits of partition and account leave room for another attempt."""
        return self.slots.has_room and self.account_has_room

    @property
    def is_open(self) -> bool:
        """Return True if no gate is closed."""
        return not (self.gate.is_closed or self.host.is_closed or self.slots.is_closed)

    @property
    def is_paced(self) -> bool:
        """Return True if a rate holds back the first waiter."""
        return self.opens_at is not None

    @property
    def lets_retries_pass(self) -> bool:
        """Return True if a retry need not queue: at a closed gate it waits for its turn."""
        return self.is_open and (self.above is None or self.above.is_open)

    @property
    def hints_disproved(self) -> bool:
        """Return True if the times that the server names were found to be wrong."""
        above = self.above
        return self.slots.hints_disproved or (above is not None and above.slots.hints_disproved)

    @property
    def wake_at(self) -> float | None:
        """Return when time alone may free a slot for a waiter, ``None`` if there is none."""
        if not self.slots.waiting:
            return None
        if self.opens_at is not None:
            return self.opens_at
        slots = self.slots
        times = (
            slots.algorithm.wake_at, slots.lookout.at, self.gate.wake_at, self.head().host.wake_at
        )  # fmt: skip
        return min(at for at in times if at is not None)

    @property
    def loop(self) -> EventLoop:
        """Return the loop of the first waiter; there must be one."""
        return self.head().loop

    # -- Waiters ----------------------------------------------------------------------------------

    def next_order(self) -> int:
        """Return the order of a new arrival: last."""
        self._arrivals += 1
        return self._arrivals

    def push(
        self,
        loop: EventLoop,
        order: int | None,
        request: Standing | None = None,
        host: Gate | None = None,
        latest: float = math.inf,
        holds: tuple[Lease, ...] = (),
        priority: int = NORMAL,
    ) -> Waiter:
        """Queue a request by its earlier order if it has one, else last of its priority.

        One whose task has answers open that hold slots here (``holds``) gets the order of those:
        their slots come back only after it.

        While the limit is closed a retry goes to the tail, too: canaries rotate, and no request
        uses up all its retries in one outage.
        """
        if order is None:
            order = min((lease.order for lease in holds if lease.partition is self), default=None)
        serial = self.next_order()
        above = self.above
        if order is None or self.slots.is_closed or (above is not None and above.slots.is_closed):
            order = serial
        request, host = request or Standing(), host or self.host
        request.ahead = self._queue.ahead_of(priority) if order == serial else None
        since, parking = self.used_at, loop.park()
        waiter = Waiter(
            self, loop, order, request, host, since, latest, serial, holds, priority, parking
        )
        self._block(waiter)
        self._queue.push(waiter)
        self.pressed.push(waiter)
        self.slots.wait(self.used_at)
        if above is not None:
            above.slots.wait(self.used_at)
        return waiter

    def head(self) -> Waiter:
        """Return the first waiter; there must be one."""
        return self._queue.head()

    def waiters(self) -> list[Waiter]:
        """Return all waiters, in no order."""
        return list(self._queue)

    def next_up(self, now: float) -> Waiter:
        """Return the next to send: the first, or the next canary where a gate is closed.

        A first one that no answer would reach in time is overtaken by the latest that one would.
        """
        head = self.head()
        if self.gate.is_closed or head.host.is_closed:
            return self._next_canary(now)
        return head if head.useful_until == math.inf else self._in_time(head, now)

    def _next_canary(self, now: float) -> Waiter:
        """Return, of those who can wait for an answer, the one sent least often, with most time.

        A canary that its caller cancels before the answer proves nothing.
        """
        usual = self.answers.usual

        def rank(waiter: Waiter) -> tuple[bool, int, float, int]:
            left = waiter.useful_until - now
            return left < usual, waiter.request.sent, -left, waiter.order

        return min(self.waiters(), key=rank)

    def _in_time(self, head: Waiter, now: float) -> Waiter:
        """Return the first, or the latest in time of its priority where the first is too late."""
        usual = self.answers.usual
        if not is_too_late(head, now, usual):
            return head
        latest = self._queue.latest(head.priority, lambda one: is_in_time(one, now, usual))
        if latest is None:
            return head
        self._queue.put_first(latest)
        return latest

    def pop(self, waiter: Waiter | None = None) -> Waiter:
        """Remove a waiter from the queue, by default the first."""
        if waiter is None or waiter is self.head():
            waiter = self._queue.pop()
            self._wait_no_more(waiter)
        else:
            self.leave(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter that goes without a slot."""
        self._queue.leave(waiter)
        self._wait_no_more(waiter)

    def shut_by(self, waiter: Waiter) -> Gate | None:
        """Return the closed gate at which a request waits, ``None`` if it waits for a slot."""
        gates = (self.gate, waiter.host)
        return next((gate for gate in gates if gate.is_closed), None)

    def look_by(self, at: float, now: float) -> None:
        """Have waiters that a rate holds back looked at by ``at``, if that is still to come."""
        if self.opens_at is not None and now < at:
            self.opens_at = min(self.opens_at, at)

    @property
    def urgency(self) -> int:
        """Return the priority of the most urgent waiter; there must be one."""
        return self._queue.most_urgent()

    def by_priority(self) -> tuple[tuple[int, int], ...]:
        """Return the number of waiters by priority, empty if all have the default one."""
        return self._queue.by_priority()

    def _block(self, waiter: Waiter) -> None:
        """Note that slots come back only after this request of their own holder."""
        for lease in waiter.holds:
            if lease.partition is self:
                self.slots.holders.block(lease)
            if self.above is not None and lease.partition.above is self.above:
                self.above.slots.holders.block(lease)

    def _wait_no_more(self, waiter: Waiter) -> None:
        self.slots.waiting -= 1
        if self.above is not None:
            self.above.slots.waiting -= 1
        for lease in waiter.holds:
            if lease.partition is self:
                self.slots.holders.unblock(lease)
            if self.above is not None and lease.partition.above is self.above:
                self.above.slots.holders.unblock(lease)

    # -- Leases -----------------------------------------------------------------------------------

    def grant(
        self,
        limiter: Origin,
        now: float,
        order: int,
        loop: EventLoop | None,
        request: Standing,
        host: Gate,
        passages: tuple[Passage, Passage],
    ) -> Lease:
        """Return a lease for an attempt, which passes the partition's gate and the host's."""
        request.sent += 1
        self.host = host
        ticket = self.slots.take(now)
        upper = None if self.above is None else self.above.slots.take(now)
        return Lease(limiter, self, ticket, upper, order, loop, request, host, passages)

    def accept(self, lease: Lease, now: float) -> None:
        """Note that the answer to an attempt has begun and goes to the caller."""
        lease.begun = True
        self.answers.note(now - lease.passages[0].sent_at)
        self.slots.holders.answers.add(lease)
        self.slots.algorithm.accepted(lease.ticket, now)
        if self.above is not None:
            self.above.accept(lease, now)
        self.gate.answered(lease.passages[0], now)
        lease.host.answered(lease.passages[1], now)

    def release(
        self, lease: Lease, outcome: Outcome, now: float, jitter: float, *, is_explained: bool
    ) -> None:
        """Take a slot back and report the outcome to the limits.

        A refusal that a rate alone explains (``is_explained``) does not move them.
        """
        lease.released = True
        self.used_at = now
        slots, signal, is_told = self.slots, outcome.signal, True
        # It went against evidence, which was right: that says nothing about concurrency.
        is_foretold = lease.is_pressed and signal.is_overload
        if self.above is not None:
            learnt = Signal.IGNORED if is_foretold else signal
            is_told = self.above.release(
                lease, learnt, outcome.retry_after, now, jitter, is_explained=is_explained
            )
        slots.free(lease)
        if signal is Signal.SUCCESS:
            slots.ok += 1
            if not lease.begun:
                self.answers.note(now - lease.passages[0].sent_at)
            slots.algorithm.accepted(lease.ticket, now)
        elif signal.is_overload:
            slots.refused += 1
            if is_explained:
                lease.ticket.decided = True
            elif is_told and not is_foretold:
                slots.refuse(lease.ticket, now, outcome.retry_after, jitter)
        else:
            slots.other += 1
        slots.algorithm.ended(lease.ticket, now, slots.in_flight)

    def release_unsent(self, lease: Lease, now: float) -> None:
        """Take back a slot whose owner left before sending anything."""
        lease.released = True
        lease.request.sent -= 1
        self.slots.put_back(lease.ticket, now)
        if self.above is not None and lease.upper is not None:
            self.above.slots.put_back(lease.upper, now)
        self.gate.passed(lease.passages[0], now, unsent=True)
        lease.host.passed(lease.passages[1], now, unsent=True)


#: A limit that requests wait for.
Level: TypeAlias = Partition | Account[Partition]


def borrower(level: Level) -> Waiter | None:
    """Return the first waiter whose task holds slots by open answers."""
    waiting = (
        level.waiters()
        if isinstance(level, Partition)
        else [waiter for partition in level.ring for waiter in partition.waiters()]
    )
    return min((waiter for waiter in waiting if waiter.holds), default=None)


def is_deadlocked(level: Level) -> bool:
    """Return True if every holder of a slot waits for another one here, so that none comes back."""
    return level.slots.holders.all_wait(level.slots.in_flight) and level.is_open


def is_entangled(level: Level, now: float) -> bool:
    """Return True if nothing has moved for so long that holders may wait for each other."""
    slots = level.slots
    return bool(slots.waiting) and level.is_open and slots.stillness.lasts(now) is not None
