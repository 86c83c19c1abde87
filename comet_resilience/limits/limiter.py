"""The limiter of one client: its lock, its waits, and what its observers are told.

Seven invariants hold at any time:

1. A slot is given out only while ``in_flight < limit`` (but see 5) and no rate says *not yet*, and
   it is given back exactly once.
2. Waiters of one priority are served in FIFO order; a retry keeps the order of its request.
3. A freed slot wakes one waiter, which owns the slot before it runs: no other request can overtake
   it, and if it is cancelled the slot goes to the next.
4. If a queue is not empty, something is in flight or a timer is set.
5. One attempt may be sent beyond the limit if nothing else could ever free a slot: all slots are
   held by answers whose own tasks wait for a slot.
6. A slot of a partition is also one of its account, if there is one. Partitions that only the
   account holds back are in its ring, and a free slot goes to the next in turn.
7. The lock is never held while anything waits or an observer runs.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar
from weakref import WeakSet

import anyio

from ..errors import (
    BudgetSpentError,
    CallbackError,
    GateClosedError,
    QueueFullError,
    QueueTimeoutError,
)
from ..escaping import name_of_key
from ..events import AlgorithmRetired, FleetChanged
from ..observers import ENDS_THE_PROGRAM, Observers
from ..verdict.vocabulary import Signal
from .account import Account
from .algorithm import LimitAlgorithm
from .blame import AccountLimit
from .budget import Budget
from .budgets import MakeSpending, own_spending
from .collecting import collect
from .eventloop import EventLoop, clock, running_loop, time_and_loop
from .gate import CLOSED_MAX, Gate, Standing
from .gates import Gates
from .guarded import Retired, contained, words_of
from .holding import held_here, note_open
from .pacer import Pacer
from .partition import Lease, Level, Outcome, Partition, Waiter
from .partitions import Partitions
from .priority import NORMAL, Priority, priority_number
from .scheduler import LimiterEvent, Scheduler
from .snapshot import Load, Snapshot
from .views import view_of

T = TypeVar("T")

#: The least seconds until an answer begins that an error mentions.
_WORTH_TELLING: Final = 0.05
#: A caller that gives up within so many seconds cannot afford that limits start slowly.
_HURRIED: Final = 60.0
_NO_BUDGETS: Final[Mapping[str, Budget]] = MappingProxyType({})


class Limiter:
    """All partitions of one client. Safe to use from several event loops and threads.

    ``make_algorithm`` makes the algorithm of a new partition, ``make_account_limit`` that of an
    account, needed where keys are ``InAccount``; ``max_queue`` bounds those who wait
    in one partition, ``None`` leaves them unbounded. ``budgets`` are those of models by name,
    and ``make_spending`` makes what counts them.
    ``on_partition`` is called, under the lock, with each new partition and account.
    ``longest_closed`` bounds the times that a gate names itself.
    """

    def __init__(
        self,
        *,
        make_algorithm: Callable[[], LimitAlgorithm],
        max_queue: int | None,
        observers: Observers,
        jitter: Callable[[], float] = random.random,
        on_partition: Callable[[Level], None] | None = None,
        longest_closed: float = CLOSED_MAX,
        make_account_limit: Callable[[], AccountLimit] | None = None,
        budgets: Mapping[str, Budget] = _NO_BUDGETS,
        make_spending: MakeSpending = own_spending,
    ) -> None:
        self._budgets, self._make_spending = budgets, make_spending
        self._make_algorithm = make_algorithm
        self._max_queue = max_queue
        self._observers = observers
        self._jitter = jitter
        self._on_partition = on_partition
        self._make_account_limit = make_account_limit
        self._longest_closed = min(longest_closed, CLOSED_MAX)
        self._start_afresh()
        _limiters.add(self)

    def _start_afresh(self) -> None:
        # The mutable state of this class. A forked child starts with its own, empty.
        self._lock = threading.Lock()
        self._partitions = Partitions(self._make_partition, self._make_account)
        self._gates = Gates(self._partitions, self._longest_closed, self._jitter)
        self._pacer = Pacer(self._budgets, self._make_spending)
        self._events: deque[LimiterEvent] = deque()
        self._abandoned: deque[Lease] = deque()
        self._scheduler = Scheduler(
            self,
            self._gates,
            self._pacer,
            jitter=self._jitter,
            events=self._events,
            is_observed=self._observers.wanted,
            on_timer=self._on_timer,
        )

    async def acquire(
        self,
        key: Hashable,
        order: int | None = None,
        queue_timeout: float | None = None,
        loop: EventLoop | None = None,
        *,
        request: Standing | None = None,
        host: str = "",
        latest: float = math.inf,
        priority: Priority = NORMAL,
    ) -> Lease:
        """Wait for a slot. For a retry, ``order`` is that of an earlier lease.

        ``priority`` orders the waiters; see ``Queue``. ``queue_timeout`` (seconds) bounds the wait,
        ``None`` leaves it unbounded; ``loop`` is the running loop, if the caller knows it.
        ``request`` is the same for all attempts of one request. A slot after ``latest`` would be of
        no use.

        Raises:
            BudgetExceededError: If it takes more than its whole budget.
            BudgetSpentError: If its budget has no room for it in time.
            QueueFullError: If ``max_queue`` requests wait already (never for a retry).
            GateClosedError: If an outage keeps the gate closed for longer than can be waited.
            QueueTimeoutError: If none was free within ``queue_timeout``.

        """
        lease = self.acquire_nowait(
            key, loop, order, request=request, host=host, latest=latest, queue_timeout=queue_timeout
        )
        if lease is not None:
            return lease
        waiter = self._enqueue(
            key,
            order,
            request=request,
            host=host,
            latest=latest,
            queue_timeout=queue_timeout,
            priority=priority,
        )
        taken = False
        try:
            self._emit()
            if queue_timeout is None:
                await waiter.parking
                taken = True
            else:
                with anyio.move_on_after(queue_timeout):
                    await waiter.parking
                    taken = True
        finally:
            if not taken:
                self._leave(waiter)
        if waiter.lease is None or not taken:
            raise _in_vain(waiter, queue_timeout)
        return waiter.lease

    def acquire_nowait(
        self,
        key: Hashable,
        loop: EventLoop | None = None,
        order: int | None = None,
        *,
        request: Standing | None = None,
        host: str = "",
        latest: float = math.inf,
        queue_timeout: float | None = None,
    ) -> Lease | None:
        """Return a lease if a slot is free and nobody waits for it, else ``None``.

        For a retry, ``order`` is that of an earlier lease: at a closed gate it takes its turn.

        Raises:
            BudgetExceededError: If it takes more than its whole budget.

        """
        if request is not None and request.cost is not None:
            self._pacer.check(request)
        now, loop = time_and_loop(loop)
        if queue_timeout is not None:
            latest = min(latest, now + queue_timeout)
        with self._lock:
            if self._abandoned:
                self._release_abandoned(now, loop)
            partition = self._partitions.touch(key, now)
            partition.host = self._gates.of_host(host)
            lease = self._scheduler.take(partition, now, loop, order, request or Standing(), latest)
        try:
            self._emit()
        except BaseException:  # an observer may end the whole program, but not keep the slot
            if lease is not None:
                self.release(lease, Outcome(Signal.IGNORED))
            raise
        return lease

    def accept(self, lease: Lease) -> None:
        """Note that an answer has begun; called in the task that is handed it."""
        note_open(lease)
        now, loop = time_and_loop()
        with self._lock:
            if not lease.released:
                self._scheduler.accept(lease, now, loop)
        self._emit()

    def release(self, lease: Lease, outcome: Outcome, loop: EventLoop | None = None) -> None:
        """Give a slot back: see ``Lease.release``."""
        now, loop = time_and_loop(loop)
        with self._lock:
            if not lease.released:
                self._scheduler.release(lease, outcome, now, loop)
        self._emit()

    def rest(self, partition: Partition, requests: int) -> None:
        """Count a request between two attempts (1), or no longer (-1)."""
        with self._lock:
            partition.slots.resting += requests
            if partition.above is not None:
                partition.above.slots.resting += requests

    def abandon(self, lease: Lease) -> None:
        """Take back the slot of a dropped answer, as soon as its loop runs; takes no lock."""
        if not lease.released:
            self._abandoned.append(lease)
            if lease.loop is not None:
                lease.loop.call_soon(self._collect)

    def adjust(self, level: Level | None, step: Callable[[float], T]) -> T:
        """Run ``step(now)`` under the lock, from any thread, and give out the slots it freed.

        ``level`` is the limit that it may have changed, ``None`` if only budgets.
        """
        now, loop = time_and_loop()
        with self._lock:
            result = step(now)
            self._scheduler.pump(level, now, loop)
        self._emit()
        return result

    def note(self, event: FleetChanged | AlgorithmRetired) -> None:
        """Keep an event for the observers until the lock is free; called under it."""
        self._events.append(event)

    def note_retired(self, key: Hashable) -> Retired:
        """Return a function that notes the failure of a partition's algorithm; see ``note``."""

        def retired(reason: str, error: BaseException, limit: int) -> None:
            self.note(AlgorithmRetired(partition=key, reason=reason, error=error, limit=limit))

        return retired

    def snapshot(self) -> Snapshot:
        """Return the state of every partition and account, as a frozen value."""
        now, loop = time_and_loop()
        with self._lock:
            self._release_abandoned(now, loop)
            shown = tuple(view_of(partition, now) for partition in self._partitions.values())
            accounts = tuple(view_of(account, now) for account in self._partitions.accounts())
            budgets = self._pacer.views(now)
        self._emit()
        return Snapshot(partitions=shown, accounts=accounts, budgets=budgets)

    @property
    def counts_requests(self) -> bool:
        """Return True if a budget or a server's own limit counts what requests cost."""
        return self._pacer.counts_requests

    @property
    def counts_tokens(self) -> bool:
        """Return True if a budget or a server's own limit counts tokens."""
        return self._pacer.counts_tokens

    def load_of(self, key: Hashable) -> Load:
        """Return the figures of one partition, without the lock; all 0 if it is unknown."""
        partition = self._partitions.get(key)
        return Load(0, 0, 0, 0) if partition is None else partition.slots.load

    def account_of(self, key: Hashable) -> Load | None:
        """Return the figures of a partition's account, ``None`` if its limit was never met."""
        partition = self._partitions.get(key)
        above = None if partition is None else partition.above
        return above.slots.load if above is not None and above.slots.has_bound else None

    def _enqueue(
        self,
        key: Hashable,
        order: int | None,
        *,
        request: Standing | None = None,
        host: str = "",
        latest: float = math.inf,
        queue_timeout: float | None = None,
        priority: Priority = NORMAL,
    ) -> Waiter:
        loop = running_loop()
        now, holds = loop.now(), held_here(self)
        useful_until = latest
        if queue_timeout is not None:
            latest = min(latest, now + queue_timeout)
        with self._lock:
            partition = self._partitions.touch(key, now)
            partition.host = self._gates.of_host(host)
            waiting = partition.slots.waiting
            full = self._max_queue is not None and waiting >= self._max_queue
            if full and order is None:
                raise QueueFullError(
                    f"{waiting} requests wait for {name_of_key(partition.key)} already"
                    f" (max_queue={self._max_queue}); this one was not sent"
                )
            waiter = partition.push(
                loop, order, request, partition.host, latest, holds, priority_number(priority)
            )
            waiter.useful_until = useful_until
            if useful_until - now <= _HURRIED:
                partition.slots.hurry()
                if partition.above is not None:
                    partition.above.slots.hurry()
            self._scheduler.pump(partition, now, loop)
            if waiter.lease is None and not waiter.left and self._is_in_vain(waiter, now):
                partition.leave(waiter)
                waiter.parking.go()
        return waiter

    def _is_in_vain(self, waiter: Waiter, now: float) -> bool:
        """Return True if a gate or a budget will hold a new waiter for longer than it can wait."""
        if self._gates.holds_for_good(waiter, waiter.partition, now):
            return True
        waiter.unpaid = self._pacer.shortage(waiter, now, waiter.request.ahead or 0)
        return waiter.unpaid is not None

    def _leave(self, waiter: Waiter) -> None:
        """Let a waiter leave, cancelled or out of time."""
        now, loop = time_and_loop()
        with self._lock:
            self._scheduler.leave(waiter, now, loop)
        self._emit()

    def _collect(self) -> None:
        now, loop = time_and_loop()
        with self._lock:
            self._release_abandoned(now, loop)
        self._emit()

    def _make_account(self, name: str) -> Account[Partition]:
        if self._make_account_limit is None:
            raise TypeError("make_account_limit: expected a function where keys are InAccount")
        account: Account[Partition] = Account(name, self._make_account_limit())
        if self._on_partition is not None:
            self._on_partition(account)
        return account

    def _make_partition(self, key: Hashable, account: Account[Partition] | None) -> Partition:
        gate = self._gates.of_partition()
        partition = Partition(key, self._new_algorithm(key), gate, account)
        if self._on_partition is not None:
            self._on_partition(partition)
        return partition

    def _new_algorithm(self, key: Hashable) -> LimitAlgorithm:
        try:
            algorithm = self._make_algorithm()
        except Exception as error:
            raise CallbackError(f"algorithm: the function raised {words_of(error)}") from error
        return contained(algorithm, self.note_retired(key))

    def _release_abandoned(self, now: float, loop: EventLoop | None) -> None:
        while self._abandoned:
            lease = self._abandoned.popleft()
            if not lease.released:
                self._scheduler.release(lease, Outcome(Signal.IGNORED), now, loop)

    def _on_timer(self, level: Level) -> None:
        now, loop = time_and_loop()
        with self._lock:
            generation = self._scheduler.look(level, now, loop)
        self._emit()
        if generation is not None:
            collect(generation, now)

    def _emit(self) -> None:
        while self._events:
            try:
                event = self._events.popleft()
            except IndexError:  # another thread took it
                return
            self._observers.emit(event)
            if isinstance(event, AlgorithmRetired) and isinstance(event.error, ENDS_THE_PROGRAM):
                raise event.error


def _gate_closed(key: Hashable, gate: Gate, now: float) -> GateClosedError:
    closed_for = max(0.0, gate.opens_at(now) - now)
    return GateClosedError(
        f"an outage keeps the gate of {name_of_key(key)} closed ({gate.seen}); the next canary"
        f" goes out in {closed_for:.1f} s, and this request cannot wait that long",
        closed_for,
    )


def _in_vain(waiter: Waiter, queue_timeout: float | None) -> QueueTimeoutError:
    """Return the error that says what a request has waited for, or would have, in vain."""
    key, now = waiter.partition.key, clock()
    if waiter.turned_away is not None:
        return _gate_closed(key, waiter.turned_away, now)
    name = name_of_key(key)
    short = waiter.unpaid
    if short is None:
        whose, held_by = "", waiter.request.held_by_account
        if held_by is not None:
            figures = f"{held_by.in_flight} of {held_by.limit}"
            whose = f": its account had {figures} in flight over all models"
        return QueueTimeoutError(
            f"no slot for {name} was free within queue_timeout={queue_timeout or 0.0:g} s{whose}"
        )
    answers = ""
    if short.answer >= _WORTH_TELLING:
        answers = f", answers begin after some {short.answer:.1f} s"
    return BudgetSpentError(
        f"the budget of {short.budget} has room for this request to {name} in"
        f" {short.seconds:.1f} s at best{answers}, and it cannot wait for longer than"
        f" {max(0.0, waiter.latest - waiter.since):.1f} s; it was not sent",
        short.seconds,
    )


_limiters: WeakSet[Limiter] = WeakSet()


def _after_fork() -> None:
    for limiter in _limiters:
        limiter._start_afresh()  # noqa: SLF001 - the parent's requests are not the child's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
