"""One partition: its slots, its queue and its algorithm. Nothing here waits, locks or wakes.

The limiter calls every method under its lock and does what has to be done outside of it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol
from weakref import ref

from ..events import LimitChanged, Standstill
from ..verdict.rates import RateReading
from ..verdict.vocabulary import Signal
from .algorithm import LimitAlgorithm, StepBack, Ticket
from .blame import Blame
from .budget import Budget, Charge
from .eventloop import EventLoop, Parking
from .forecast import Forecast, Sent
from .gate import Gate, Passage, Standing
from .lookout import Lookout, Stillness, Turns
from .priority import NORMAL
from .queue import Queue
from .snapshot import GateView, InFleet, PartitionSnapshot

_CHANGES_KEPT: Final = 16


class Body(Protocol):
    """The body of an answer in its reader's hand; ``turns`` as in ``Lease.turns``."""

    turns: int


class Origin(Protocol):
    """The limiter that a lease comes from."""

    def accept(self, lease: Any) -> None:
        """Note that an answer has begun."""

    def release(
        self,
        lease: Any,
        signal: Signal,
        retry_after: float | None,
        loop: EventLoop | None = None,
        *,
        what: str = "",
        answered: bool = False,
    ) -> None:
        """Take the slot back."""

    def abandon(self, lease: Any) -> None:
        """Take the slot of a dropped answer back."""


class Lease:
    """The right to one slot, to be released exactly once; further releases do nothing."""

    __slots__ = (
        "__weakref__", "begun", "body", "charge", "foretold", "host", "limiter", "loop", "order",
        "partition", "passages", "rate", "released", "request", "ticket", "tokens", "upper",
        "waiters", "waiters_above",
    )  # fmt: skip

    def __init__(
        self,
        limiter: Origin,
        partition: Partition,
        ticket: Ticket,
        upper: Ticket | None,
        order: int,
        loop: EventLoop | None,
        request: Standing,
        host: Gate,
        passages: tuple[Passage, Passage],
    ) -> None:
        self.limiter: Origin = limiter
        self.partition: Partition = partition
        self.ticket: Ticket = ticket
        self.upper: Ticket | None = upper  # of the account
        self.order: int = order
        self.loop: EventLoop | None = loop
        self.request: Standing = request
        self.host: Gate = host
        self.passages: tuple[Passage, Passage] = passages  # at the partition's gate, at the host's
        self.begun: bool = False
        self.released: bool = False
        self.body: ref[Body] | None = None
        self.waiters: int = 0  # requests of its holder's that wait in the same partition
        self.waiters_above: int = 0  # and anywhere in the same account
        self.charge: Charge | None = None  # what it takes of a budget
        self.foretold: Sent | None = None  # as the forecast of the server's own limit counts it
        self.rate: RateReading | None = None  # what the answer's headers tell of that limit
        self.tokens: int | None = None  # what the answer has taken, once it is known

    @property
    def is_canary(self) -> bool:
        """Tell whether it was given out through a closed gate."""
        return any(passage.is_canary for passage in self.passages)

    @property
    def turns(self) -> int:
        """Count the reads of its answer that began or ended: odd while one is under way."""
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
        """Give the slot back, and tell the limit and the gates what the attempt taught.

        ``loop`` is the running loop, where the caller knows it. ``what`` was seen, in words, and
        ``answered`` says that something came back from the host, whatever it was.
        """
        self.limiter.release(self, signal, retry_after, loop, what=what, answered=answered)

    def took(self, tokens: int) -> None:
        """Note what the answer has taken; a budget counts it once the slot is given back."""
        self.tokens = tokens

    def abandon(self) -> None:
        """Give the slot back from a finalizer, where no lock may be taken."""
        self.limiter.abandon(self)


class Waiter:
    """A request in the queue: its place in the order, and how to wake it."""

    __slots__ = (
        "holds", "host", "latest", "lease", "left", "loop", "order", "parking", "partition",
        "priority", "request", "serial", "since", "turned_away", "unpaid",
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
        serial: int,
        holds: tuple[Lease, ...],
        priority: int,
    ) -> None:
        self.serial: int = serial  # decides between those of one order
        self.priority: int = priority  # the lower number goes first; see ``Queue``
        self.holds: tuple[Lease, ...] = holds  # slots of answers that its task has open
        self.partition: Partition = partition
        self.loop: EventLoop = loop
        self.order: int = order
        self.parking: Parking = loop.park()
        self.request: Standing = request
        self.host: Gate = host
        self.latest: float = latest  # after which a slot would be of no use
        self.since: float = since
        self.turned_away: Gate | None = None
        self.unpaid: Budget | None = None  # for which it has waited in vain
        self.lease: Lease | None = None
        self.left: bool = False

    def __lt__(self, other: Waiter) -> bool:
        return (self.order, self.serial) < (other.order, other.serial)

    def wake(self, loop: EventLoop | None) -> bool:
        """Resume the waiter; ``False`` if its event loop has ended."""
        if self.loop is loop:
            self.parking.go()
            return True
        return self.loop.call_soon(self.parking.go)


class Partition:
    """The mutable state of one limit: a partition's, or that of the account above partitions.

    ``above`` is the account of a partition. An account has a ``ring`` of those below it that
    nothing but the account holds back, in turn, and the evidence on whose ceiling refusals met.
    ``ceiling`` belongs to that evidence.
    """

    __slots__ = (
        "__weakref__",
        "_arrivals",
        "_queue",
        "above",
        "algorithm",
        "answers",
        "blame",
        "blocked",
        "ceiling",
        "changes",
        "forecast",
        "gate",
        "has_bound",
        "host",
        "in_flight",
        "key",
        "limit",
        "lookout",
        "ok",
        "opens_at",
        "other",
        "refused",
        "resting",
        "ring",
        "says_not_yet",
        "stillness",
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
        above: Partition | None = None,
        blame: Blame | None = None,
    ) -> None:
        self.key: Hashable = key
        self.above: Partition | None = above
        self.blame: Blame | None = blame
        self.ring: dict[Partition, None] = {}
        self.ceiling: int | None = None
        self.has_bound: bool = blame is None  # an account, once it held anybody back
        self.algorithm: LimitAlgorithm = algorithm
        self.gate: Gate = gate or Gate()
        self.host: Gate = Gate()  # the gate of the host that was asked last
        self.limit: int = algorithm.limit  # as ``change`` saw it last
        self.in_flight: int = 0
        self.waiting: int = 0
        self.resting: int = 0  # between two attempts
        self.answers: set[Lease] = set()  # those in flight that the caller has in hand
        self.blocked: set[Lease] = set()  # those whose holder waits here itself
        self.ok: int = 0
        self.refused: int = 0
        self.other: int = 0
        self.changes: deque[LimitChanged] = deque(maxlen=_CHANGES_KEPT)
        self.used_at: float = 0.0
        self.lookout: Lookout = Lookout()
        self.stillness: Stillness = Stillness()
        self.forecast: Forecast | None = None  # of a limit that the server tells in headers
        self.opens_at: float | None = None  # when a budget lets the first go who waits for it
        self.says_not_yet: bool = hasattr(algorithm, "ready")
        self.timer: Callable[[], object] | None = None
        self.timer_at: float = 0.0
        self.timer_loop: EventLoop | None = None
        self._queue: Queue[Waiter] = Queue()
        self._arrivals = 0

    @property
    def has_room(self) -> bool:
        """Tell whether the limit leaves room for another attempt, and the algorithm lets it go."""
        if self.in_flight >= self.algorithm.limit:
            return False
        return not self.says_not_yet or bool(self.algorithm.ready)  # type: ignore[attr-defined]

    @property
    def may_send(self) -> bool:
        """Tell whether the account leaves room, too."""
        return self.has_room and (self.above is None or self.above.has_room)

    @property
    def idle(self) -> bool:
        """Tell whether nothing runs or waits here."""
        return not self.in_flight and not self.waiting and not self.resting

    @property
    def present(self) -> int:
        """Count the requests that wait, run without an answer, or are between two attempts."""
        return self.waiting + self.in_flight - len(self.answers) + self.resting

    @property
    def wake_at(self) -> float | None:
        """Return when time alone may free a slot for one who waits, ``None`` if nobody does."""
        if not self.waiting:
            return None
        if self.opens_at is not None:
            return self.opens_at
        times = [self.algorithm.wake_at, self.lookout.at]
        if self.blame is None:
            times += [self.gate.wake_at, self.head().host.wake_at]
        elif not self.ring:
            return None
        return min(at for at in times if at is not None)

    @property
    def loop(self) -> EventLoop:
        """Return the loop of the first who waits; there must be one."""
        return (next(iter(self.ring)) if self.ring else self).head().loop

    def look(self, now: float) -> int | None:
        """Return which generation of objects to collect now, for the slots of dropped answers."""
        if not self.waiting:
            return None
        if now >= self.lookout.at:
            self.stillness.look(now, self._turns, self._is_held_up)
        return self.lookout.look(now, self._moved, len(self.answers))

    def standstill(self) -> Standstill | None:
        """Return the event for a standstill that nobody was told of yet."""
        seconds = self.stillness.untold()
        if seconds is None:
            return None
        return Standstill(
            partition=self.key,
            limit=self.limit,
            held=len(self.answers),
            waiting=self.waiting,
            seconds=seconds,
            reason=(
                f"all {len(self.answers)} slots are held by answers that their callers have open"
                f" and do not read, and {self.waiting} requests wait. Read each stream to its end"
                " or close it (async with) before the next call, raise max_concurrency, or give"
                " inner calls a partition of their own"
            ),
        )

    @property
    def is_deadlocked(self) -> bool:
        """Tell whether whoever holds a slot waits for one here: no slot will ever come back."""
        return (
            0 < self.in_flight == len(self.blocked)
            and self.is_open
            and not any(lease.turns % 2 for lease in self.blocked)
        )

    def is_entangled(self, now: float) -> bool:
        """Tell whether nothing has moved for so long that slots may wait for those of others."""
        return bool(self.waiting) and self.is_open and self.stillness.lasts(now) is not None

    @property
    def is_open(self) -> bool:
        """Tell whether no gate is closed, so that only slots are wanting."""
        gates_open = not self.gate.is_closed and not self.host.is_closed
        return gates_open and self.algorithm.closed_until is None

    @property
    def _is_held_up(self) -> bool:
        """Tell whether each slot is held by an answer that nobody reads at this moment."""
        return (
            self.opens_at is None
            and 0 < self.in_flight == len(self.answers)
            and not any(lease.turns % 2 for lease in self.answers)
        )

    @property
    def _turns(self) -> Turns:
        return self._moved, sum(lease.turns for lease in self.answers)

    @property
    def _moved(self) -> int:
        return self.ok + self.refused + self.other

    def next_order(self) -> int:
        """Return the place of a new arrival: behind everybody."""
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
        """Queue a request among those of its priority: by its old order if it has one, else last.

        One that ``holds`` slots here by answers which its task has open stands where they stood:
        they come back only after it.

        While the limit's own gate is closed a retry goes to the tail too: the canaries rotate, and
        no request burns all its retries in one outage.
        """
        if order is None:
            order = min((lease.order for lease in holds if lease.partition is self), default=None)
        serial = self.next_order()
        above = self.above
        if order is None or self.is_closed or (above is not None and above.is_closed):
            order = serial
        request, host = request or Standing(), host or self.host
        request.ahead = self._queue.ahead_of(priority) if order == serial else None
        waiter = Waiter(
            self, loop, order, request, host, self.used_at, latest, serial, holds, priority
        )
        self._block(waiter)
        self._queue.push(waiter)
        self.note_waiter(self.used_at)
        if above is not None:
            above.note_waiter(self.used_at)
        return waiter

    def note_waiter(self, now: float) -> None:
        """Count one more who waits."""
        if not self.waiting:
            self.lookout.begin(now, self._moved)
            self.stillness.begin(now, self._turns)
        self.waiting += 1

    def _waits_no_more(self) -> None:
        self.waiting -= 1
        if self.above is not None:
            self.above.waiting -= 1

    def head(self) -> Waiter:
        """Return the next who waits; there must be one."""
        return self._queue.head()

    def waiters(self) -> list[Waiter]:
        """Return all who still wait, in no order."""
        return list(self._queue)

    def next_up(self) -> Waiter:
        """Return the next to send: the first, or through a closed gate the one sent least often."""
        head = self.head()
        if self.gate.is_closed or head.host.is_closed:
            return min(self.waiters(), key=lambda waiter: (waiter.request.sent, waiter.order))
        return head

    def pop(self, waiter: Waiter | None = None) -> Waiter:
        """Take one who still waits out of the queue, the first if none is named."""
        if waiter is None or waiter is self.head():
            waiter = self._queue.pop()
            self._unblock(waiter)
            self._waits_no_more()
        else:
            self.leave(waiter)
        return waiter

    def shut_by(self, waiter: Waiter) -> Gate | None:
        """Return the closed gate at which a request waits, ``None`` if it waits for a slot."""
        gates = (self.gate, waiter.host)
        return next((gate for gate in gates if gate.is_closed), None)

    def borrower(self) -> Waiter | None:
        """Return the first who waits and holds slots by answers that it has open."""
        waiting = (
            self.waiters() if self.blame is None else [w for p in self.ring for w in p.waiters()]
        )
        return min((waiter for waiter in waiting if waiter.holds), default=None)

    def leave(self, waiter: Waiter) -> None:
        """Let one who waits go without a slot."""
        self._queue.leave(waiter)
        self._unblock(waiter)
        self._waits_no_more()

    def grant(
        self,
        limiter: Origin,
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
        above, upper = self.above, None
        if above is not None:
            above.in_flight += 1
            upper = above.algorithm.sent(now, above.in_flight)
        return Lease(limiter, self, ticket, upper, order, loop, request, host, passages)

    @property
    def hints_disproved(self) -> bool:
        """Tell whether the times that the server names were found to be wrong."""
        if self.above is not None and self.above.hints_disproved:
            return True
        return isinstance(self.algorithm, StepBack) and self.algorithm.hints_disproved

    def accept(self, lease: Lease, now: float) -> None:
        """Note that the answer to an attempt has begun, and is handed to the caller."""
        lease.begun = True
        self.answers.add(lease)
        self.algorithm.accepted(lease.ticket, now)
        if self.above is not None:
            self.above.answers.add(lease)
            self.above.note_acceptance(lease, now)
        self.gate.answered(lease.passages[0], now)
        lease.host.answered(lease.passages[1], now)

    def release(
        self, lease: Lease, signal: Signal, retry_after: float | None, now: float, jitter: float
    ) -> None:
        """Take a slot back and tell the limits what the attempt taught."""
        lease.released = True
        is_told = True
        if self.above is not None:
            is_told = self.above.release_below(lease, signal, retry_after, now, jitter)
        self._free(lease, now)
        if signal is Signal.SUCCESS:
            self.ok += 1
            self.algorithm.accepted(lease.ticket, now)
        elif signal.is_overload:
            self.refused += 1
            if is_told:
                self._refuse(lease.ticket, now, retry_after, jitter)
        else:
            self.other += 1
        self.algorithm.ended(lease.ticket, now, self.in_flight)

    def note_acceptance(self, lease: Lease, now: float) -> None:
        """Take the acceptance of an attempt below for one of as many in the account."""
        if self.blame is not None and lease.upper is not None:
            self.blame.accepted(lease.partition, lease.ticket, lease.upper)
            self.algorithm.accepted(lease.upper, now)

    def release_below(
        self, lease: Lease, signal: Signal, retry_after: float | None, now: float, jitter: float
    ) -> bool:
        """Take back a slot of a partition below; return whether that is to learn of it."""
        self._free(lease, now)
        upper, is_told = lease.upper, True
        if upper is None or self.blame is None:
            return True
        if signal is Signal.SUCCESS:
            self.ok += 1
            self.note_acceptance(lease, now)
        elif signal.is_overload:
            judgement = self.blame.judge(lease.partition, lease.ticket, upper, signal, now)
            is_told = judgement.partition
            for ticket in judgement.account:
                self.refused += 1
                self.has_bound = True
                self._refuse(ticket, now, retry_after, jitter)
                self.blame.stepped_back(ticket)
        else:
            self.other += 1
        self.algorithm.ended(upper, now, self.in_flight)
        return is_told

    def _free(self, lease: Lease, now: float) -> None:
        self.in_flight -= 1
        self.answers.discard(lease)
        self.blocked.discard(lease)
        self.used_at = now

    def _refuse(self, ticket: Ticket, now: float, retry_after: float | None, jitter: float) -> None:
        if isinstance(self.algorithm, StepBack):
            self.algorithm.present = self.present + 1
        self.algorithm.refused(ticket, now, self.in_flight, retry_after, jitter)

    def release_unsent(self, lease: Lease, now: float) -> None:
        """Take back a slot whose owner went before sending anything."""
        lease.released = True
        lease.request.sent -= 1
        self.in_flight -= 1
        self.algorithm.ended(lease.ticket, now, self.in_flight)
        if self.above is not None and lease.upper is not None:
            self.above.in_flight -= 1
            self.above.algorithm.ended(lease.upper, now, self.above.in_flight)
        self.gate.passed(lease.passages[0], now, unsent=True)
        lease.host.passed(lease.passages[1], now, unsent=True)

    @property
    def is_closed(self) -> bool:
        """Tell whether the limit itself is closed, and lets canaries out at most."""
        return self.algorithm.closed_until is not None

    @property
    def lets_retries_pass(self) -> bool:
        """Tell whether a retry need not queue: at a closed gate it waits for its turn."""
        return self.is_open and not (self.above is not None and self.above.is_closed)

    def _block(self, waiter: Waiter) -> None:
        """Note that slots wait for their holder's own request."""
        for lease in waiter.holds:
            if lease.partition is self:
                lease.waiters += 1
                self.blocked.add(lease)
            if self.above is not None and lease.partition.above is self.above:
                lease.waiters_above += 1
                self.above.blocked.add(lease)

    def _unblock(self, waiter: Waiter) -> None:
        for lease in waiter.holds:
            if lease.partition is self:
                lease.waiters -= 1
                if not lease.waiters:
                    self.blocked.discard(lease)
            if self.above is not None and lease.partition.above is self.above:
                lease.waiters_above -= 1
                if not lease.waiters_above:
                    self.above.blocked.discard(lease)

    def cancel_timer(self, loop: EventLoop | None) -> None:
        """Cancel the timer, on the loop that it belongs to."""
        if self.timer is not None and self.timer_loop is not None:
            if self.timer_loop is loop:
                self.timer()
            else:
                self.timer_loop.call_soon(self.timer)
        self.timer = None

    def change(self) -> LimitChanged | None:
        """Return how the limit moved since the last call, ``None`` if it did not."""
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
        """Return the state at this moment."""
        shut = next((gate for gate in (self.host, self.gate) if gate.is_closed), None)
        until = [gate.next_at for gate in (self.host, self.gate) if gate.is_closed]
        until += [at for at in (self.algorithm.closed_until,) if at is not None]
        return PartitionSnapshot(
            partition=self.key,
            limit=self.algorithm.limit,
            in_flight=self.in_flight,
            waiting=self.waiting,
            waiting_by_priority=self._queue.by_priority(),
            ok=self.ok,
            refused=self.refused,
            other=self.other,
            closed_for=max(now, *until) - now if until else None,
            standstill=self.stillness.lasts(now) if self.waiting else None,
            changes=tuple(self.changes),
            fleet=self.algorithm.view if isinstance(self.algorithm, InFleet) else None,
            gate=None if shut is None else self._view(shut, now),
            account=None if self.above is None else self.above.key,
            waits_for=self._waits_for,
            has_bound=self.has_bound,
        )

    @property
    def _waits_for(self) -> str:
        if not self.waiting:
            return ""
        if self.gate.is_closed or self.host.is_closed or self.is_closed:
            return "gate"
        return "account" if self.has_room and self.above is not None else "limit"

    def _view(self, gate: Gate, now: float) -> GateView:
        return GateView(
            host=self.host.host,
            is_host=gate is self.host,
            reason=gate.seen,
            since=now - (gate.closed_since or now),
            next_canary=max(0.0, gate.next_at - now),
        )
