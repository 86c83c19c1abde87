"""Slots, the queue for them, one partition per kind of request, and the account above them.

Seven facts hold at any time:

1. A slot is given out only while ``in_flight < limit`` (but see 5) and neither a budget, nor the
   server's own headers, nor the algorithm says *not yet*, and given back exactly once.
2. Waiters of one priority are served in FIFO order; a retry keeps the order of its request.
3. A freed slot wakes one waiter, which owns the slot before it runs: nobody can overtake it, and
   if it is cancelled the slot goes on to the next.
4. If a queue is not empty, something is in flight or a timer is armed.
5. One attempt may be sent beyond the limit, where nothing else could ever give a slot back: a
   call whose task has open answers that hold slots, while all slots are held in that way.
6. A slot of a partition is one of its account as well, where there is one. Partitions that only
   the account holds back stand in a ring there, and a free slot goes to the next in turn.
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

from ..errors import CallbackError, GateClosedError, QueueFullError, QueueTimeoutError
from ..events import (
    AlgorithmRetired,
    FleetChanged,
    GateClosed,
    GateOpened,
    LimitChanged,
    Standstill,
)
from ..observers import ENDS_THE_PROGRAM, Observers
from ..verdict.vocabulary import Signal
from .algorithm import LimitAlgorithm, StepBack
from .blame import Blame
from .budget import Budget, Charge
from .budgets import Budgets, Line
from .collecting import collect
from .eventloop import EventLoop, clock, running_loop, time_and_loop
from .forecast import Forecast
from .gate import CLOSED_MAX, Gate, Standing
from .gates import Gates
from .guarded import Retired, contained, words_of
from .holding import held_here, note_open
from .partition import Lease, Partition, Waiter
from .partitions import Partitions
from .priority import NORMAL
from .snapshot import Load, Snapshot

T = TypeVar("T")

_NO_BUDGETS: Final[Mapping[str, Budget]] = MappingProxyType({})
#: No timer for a budget is set sooner than in so many seconds.
_LEAST_WAIT: Final = 0.001


class Limiter:
    """All partitions of one client. Safe to use from several event loops and threads.

    ``make_algorithm`` makes the algorithm of a new partition, ``make_account_limit`` that of an
    account, needed where keys are ``InAccount``; ``max_queue`` bounds those who wait
    in one partition, ``None`` leaves them unbounded. ``budgets`` are those of models by name.
    ``on_partition`` is called, under the lock, with each new partition. ``longest_closed`` bounds
    the times that a gate names itself.
    """

    def __init__(
        self,
        *,
        make_algorithm: Callable[[], LimitAlgorithm],
        max_queue: int | None,
        observers: Observers,
        jitter: Callable[[], float] = random.random,
        on_partition: Callable[[Partition], None] | None = None,
        longest_closed: float = CLOSED_MAX,
        make_account_limit: Callable[[], StepBack] | None = None,
        budgets: Mapping[str, Budget] = _NO_BUDGETS,
    ) -> None:
        self._told_budgets = budgets
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
        self._events: deque[
            LimitChanged | GateClosed | GateOpened | FleetChanged | AlgorithmRetired | Standstill
        ] = deque()
        self._abandoned: deque[Lease] = deque()
        self._budgets = Budgets(self._told_budgets)

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
        priority: int = NORMAL,
    ) -> Lease:
        """Wait for a slot. ``order`` is that of an earlier lease, for a retry.

        Of two ``priority`` numbers the lower one goes first; see ``Queue``.

        ``queue_timeout`` (seconds) bounds the wait, ``None`` leaves it unbounded; ``loop`` is the
        running loop, where the caller knows it. ``request`` is the same for all attempts of one
        request. A slot after ``latest`` would be of no use.

        Raises:
            BudgetExceededError: If it takes more than the whole of its budget.
            QueueFullError: If ``max_queue`` requests wait already (never for a retry).
            GateClosedError: If an outage keeps the gate closed for longer than can be waited.
            QueueTimeoutError: If none was free within ``queue_timeout``.

        """
        if self._budgets and request is not None:
            self._budgets.check(request.cost)
        lease = self.acquire_nowait(key, loop, order, request=request, host=host)
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
            if waiter.turned_away is not None:
                raise _gate_closed(waiter.partition.key, waiter.turned_away, clock())
            raise QueueTimeoutError(_out_of_time(waiter, queue_timeout))
        return waiter.lease

    def acquire_nowait(
        self,
        key: Hashable,
        loop: EventLoop | None = None,
        order: int | None = None,
        *,
        request: Standing | None = None,
        host: str = "",
    ) -> Lease | None:
        """Return a slot if one is free and nobody waits for it, else ``None``.

        ``order`` is that of an earlier lease, for a retry: at a closed gate it takes its turn.
        """
        now, loop = time_and_loop(loop)
        with self._lock:
            if self._abandoned:
                self._release_abandoned(now, loop)
            partition = self._partitions.touch(key, now)
            gate = partition.host = self._gates.of_host(host)
            partition.algorithm.tick(now)
            partition.gate.tick(now)
            gate.tick(now)
            self._note_change(partition, now)
            if partition.above is not None:
                partition.above.algorithm.tick(now)
            lease = None
            if (
                partition.may_send
                and not partition.waiting
                and not (partition.above is not None and partition.above.ring)
                and self._may_pass(partition, gate, now)
                and (order is None or partition.lets_retries_pass)
                and self._opens_at(partition, request, now) <= now
            ):
                order = order or partition.next_order()
                lease = self._grant(partition, now, order, loop, request, gate)
        try:
            self._emit()
        except BaseException:  # an observer may end the whole program, but not keep the slot
            if lease is not None:
                self.release(lease, Signal.IGNORED, None)
            raise
        return lease

    def accept(self, lease: Lease) -> None:
        """Note that an answer has begun; called in the task that is handed it."""
        note_open(lease)
        now, loop = time_and_loop()
        with self._lock:
            if not lease.released:
                was = lease.host.is_closed, lease.host.is_open_wide
                lease.partition.accept(lease, now)
                if lease.rate is not None or lease.foretold is not None:
                    self._hear(lease, Signal.SUCCESS, now)
                self._pump_around(lease, now, loop, *was)
        self._emit()

    def release(
        self,
        lease: Lease,
        signal: Signal,
        retry_after: float | None,
        loop: EventLoop | None = None,
        *,
        what: str = "",
        answered: bool = False,
    ) -> None:
        """Give a slot back: see ``Lease.release``."""
        now, loop = time_and_loop(loop)
        with self._lock:
            if not lease.released:
                was = lease.host.is_closed, lease.host.is_open_wide
                self._release(lease, signal, retry_after, now, what=what, answered=answered)
                self._pump_around(lease, now, loop, *was)
        self._emit()

    def rest(self, partition: Partition, requests: int) -> None:
        """Count a request between two attempts (1), or no longer (-1)."""
        with self._lock:
            partition.resting += requests
            if partition.above is not None:
                partition.above.resting += requests

    def abandon(self, lease: Lease) -> None:
        """Take an abandoned slot back: it is counted free as soon as its loop turns."""
        if not lease.released:
            self._abandoned.append(lease)
            if lease.loop is not None:
                lease.loop.call_soon(self._collect)

    def adjust(self, partition: Partition, step: Callable[[float], T]) -> T:
        """Run ``step(now)`` under the lock, from any thread, and give out what it made free."""
        now, loop = time_and_loop()
        with self._lock:
            result = step(now)
            self._pump(partition, now, loop)
        self._emit()
        return result

    def note(self, event: FleetChanged | AlgorithmRetired) -> None:
        """Tell the observers once the lock is free; called under it."""
        self._events.append(event)

    def note_retired(self, key: Hashable) -> Retired:
        """Return what is told of an algorithm that failed, under the lock; see ``note``."""

        def retired(reason: str, error: BaseException, limit: int) -> None:
            self.note(AlgorithmRetired(partition=key, reason=reason, error=error, limit=limit))

        return retired

    def snapshot(self) -> Snapshot:
        """Return the state of every partition and account, as a frozen value."""
        now, loop = time_and_loop()
        with self._lock:
            self._release_abandoned(now, loop)
            shown = tuple(partition.snapshot(now) for partition in self._partitions.values())
            accounts = tuple(account.snapshot(now) for account in self._partitions.accounts())
            budgets = tuple(line.view(now) for line in self._budgets)
        self._emit()
        return Snapshot(partitions=shown, accounts=accounts, budgets=budgets)

    @property
    def counts_requests(self) -> bool:
        """Tell whether a budget asks what requests cost."""
        return bool(self._budgets)

    @property
    def counts_tokens(self) -> bool:
        """Tell whether a budget asks for tokens as well."""
        return self._budgets.count_tokens

    def load_of(self, key: Hashable) -> Load:
        """Return the figures of one partition, without the lock; all 0 if it is unknown."""
        partition = self._partitions.get(key)
        if partition is None:
            return Load(0, 0, 0, 0)
        limit = partition.algorithm.limit
        return Load(limit, partition.in_flight, partition.waiting, partition.refused)

    def state_of(self, key: Hashable) -> Load | None:
        """Return the figures of one partition, ``None`` if it is unknown; see ``load_of``."""
        return self.load_of(key) if key in self._partitions else None

    def _enqueue(
        self,
        key: Hashable,
        order: int | None,
        *,
        request: Standing | None = None,
        host: str = "",
        latest: float = math.inf,
        queue_timeout: float | None = None,
        priority: int = NORMAL,
    ) -> Waiter:
        loop = running_loop()
        now, holds = loop.now(), held_here(self)
        latest = min(latest, math.inf if queue_timeout is None else now + queue_timeout)
        with self._lock:
            partition = self._partitions.touch(key, now)
            partition.host = self._gates.of_host(host)
            full = self._max_queue is not None and partition.waiting >= self._max_queue
            if full and order is None:
                raise QueueFullError(
                    f"{partition.waiting} requests wait for {partition.key!r} already"
                    f" (max_queue={self._max_queue}); this one was not sent"
                )
            waiter = partition.push(loop, order, request, partition.host, latest, holds, priority)
            self._pump(partition, now, loop)
            if waiter.lease is None and self._gates.holds_for_good(waiter, partition, now):
                partition.leave(waiter)
                waiter.parking.go()
        return waiter

    def _leave(self, waiter: Waiter) -> None:
        """Let a waiter go without its slot, which goes to the next: cancelled, or out of time."""
        now, loop = time_and_loop()
        with self._lock:
            partition = waiter.partition
            if waiter.lease is not None:
                self._release_unsent(waiter.lease, now)
            elif not waiter.left:  # it may have been turned away in the same moment
                waiter.turned_away = partition.shut_by(waiter)
                waiter.unpaid = self._unpaid(partition, waiter)
                partition.leave(waiter)
            self._pump(partition, now, loop)
        self._emit()

    def _collect(self) -> None:
        now, loop = time_and_loop()
        with self._lock:
            self._release_abandoned(now, loop)
        self._emit()

    def _make_account(self, name: str) -> Partition:
        if self._make_account_limit is None:
            raise TypeError("make_account_limit: expected a function where keys are InAccount")
        limit = self._make_account_limit()
        return Partition(name, limit, blame=Blame(limit))

    def _make_partition(self, key: Hashable, account: Partition | None) -> Partition:
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
                self._release(lease, Signal.IGNORED, None, now)
                self._pump(lease.partition, now, loop)

    def _release(
        self,
        lease: Lease,
        signal: Signal,
        retry_after: float | None,
        now: float,
        *,
        what: str = "",
        answered: bool = False,
    ) -> None:
        lease.partition.release(lease, signal, retry_after, now, self._jitter())
        if lease.charge is not None:
            self._settle_charge(lease, lease.charge, signal)
        if lease.rate is not None or lease.foretold is not None:
            self._hear(lease, signal, now)
        self._gates.judge(lease, signal, now, what=what, answered=answered, retry_after=retry_after)

    def _grant(
        self,
        partition: Partition,
        now: float,
        order: int,
        loop: EventLoop | None,
        request: Standing | None,
        host: Gate,
    ) -> Lease:
        present = self._gates.present(host)
        jitter = self._jitter() if host.is_closed or partition.gate.is_closed else 0.0
        lease = partition.grant(
            self, now, order, loop, request, host, present=present, jitter=jitter
        )
        if self._budgets:
            self._charge(lease, now)
        if partition.forecast is not None:
            lease.foretold = partition.forecast.sent(now, 1.0)
        return lease

    def _charge(self, lease: Lease, now: float) -> None:
        cost = lease.request.cost
        line = self._budgets.of(cost)
        if line is not None and cost is not None:
            lease.charge = line.charge(now, cost)
            line.leave(lease.partition)

    def _settle_charge(self, lease: Lease, charge: Charge, signal: Signal) -> None:
        """Count what an attempt has really taken: nothing where it was refused for load."""
        line = self._budgets.of(lease.request.cost)
        tokens = 0 if signal.is_overload else lease.tokens
        if line is not None and tokens is not None:
            line.spending.settle(charge, tokens)

    def _release_unsent(self, lease: Lease, now: float) -> None:
        lease.partition.release_unsent(lease, now)
        line = self._budgets.of(lease.request.cost)
        if line is not None and lease.charge is not None:
            line.spending.refund(lease.charge)
        if lease.foretold is not None and lease.partition.forecast is not None:
            lease.partition.forecast.withdrawn(lease.foretold)

    def _hear(self, lease: Lease, signal: Signal, now: float) -> None:
        """Learn from the headers of an answer how much the server's own limit leaves."""
        partition, rate, sent = lease.partition, lease.rate, lease.foretold
        if partition.forecast is None:
            partition.forecast = Forecast()
        lease.rate = None
        if sent is None:
            return  # sent before anything was known: the next answer tells
        if rate is not None:
            partition.forecast.hear(sent, rate, now, is_refusal=signal.is_overload)
        if signal.is_overload:
            partition.forecast.refused(sent, rate)
        elif signal is Signal.SUCCESS:
            partition.forecast.accepted(sent, now)

    def _opens_at(self, partition: Partition, request: Standing | None, now: float) -> float:
        """Return when budget and forecast let a request go: ``now`` if at once."""
        at, line = now, None
        if partition.forecast is not None:
            partition.forecast.tick(now)
            at = partition.forecast.ready_at(now, 1.0)
        if self._budgets and request is not None and request.cost is not None:
            line = self._budgets.of(request.cost)
            at = at if line is None else max(at, line.ready_at(partition, now, request.cost))
        return at

    def _has_to_wait(self, partition: Partition, waiter: Waiter, now: float) -> bool:
        """Tell whether a budget or a forecast holds a request back.

        For a budget its partition then stands in line.
        """
        at = self._opens_at(partition, waiter.request, now)
        if at <= now:
            return False
        partition.opens_at = max(at, now + _LEAST_WAIT)
        cost = waiter.request.cost
        line = self._budgets.of(cost)
        if line is not None and cost is not None and line.ready_at(partition, now, cost) > now:
            line.join(partition)
        return True

    def _unpaid(self, partition: Partition, waiter: Waiter) -> Budget | None:
        """Return the budget for which alone a request waits, if any."""
        line = None if partition.opens_at is None else self._budgets.of(waiter.request.cost)
        return None if line is None else line.spending.budget

    def _may_pass(self, partition: Partition, host: Gate, now: float) -> bool:
        return partition.gate.has_room(now) and host.has_room(now)

    def _pump_around(
        self,
        lease: Lease,
        now: float,
        loop: EventLoop | None,
        was_closed: bool,
        was_open_wide: bool,
    ) -> None:
        """Pump what an attempt's end may have made free: all of a host whose gate has moved."""
        partition, host = lease.partition, lease.host
        if was_open_wide and host.is_open_wide:
            self._pump(partition, now, loop)
            return
        around = self._gates.at(host)
        for one in around:
            if was_closed and not host.is_closed and one.gate.is_closed:
                one.gate.test_now(now)
        for one in around:
            if one.waiting or one is partition:
                self._pump(one, now, loop)

    def _pump(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Give free slots to those who wait, and set the timer if time alone will free more."""
        if partition.blame is not None:
            self._go_round(partition, now, loop)
        else:
            self._pump_alone(partition, now, loop)
        for line in self._budgets:
            self._pump_line(line, now, loop)

    def _pump_line(self, line: Line, now: float, loop: EventLoop | None) -> None:
        """Serve the partitions that stand in line for a budget, as far as it reaches."""
        while (first := line.first) is not None:
            charged = line.spending.requests
            self._pump_alone(first, now, loop)
            if line.first is first and line.spending.requests == charged:
                return

    def _pump_alone(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        host = partition.host
        partition.algorithm.tick(now)
        partition.gate.tick(now)
        host.tick(now)
        if host.is_closed:
            self._send_canaries(host, now, loop)
        if self._is_ready(partition, now):
            self._give_out(partition, now, loop)
        if partition.waiting and partition.is_deadlocked:
            self._lend(partition, now, loop)
        if partition.gate.is_closed or host.is_closed:
            self._turn_away(partition, now, loop)
        if partition.above is not None:
            self._go_round(partition.above, now, loop)
        self._settle(partition, now, loop)

    def _give_out(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Serve those who wait; below an account the partition takes its turn in the ring."""
        if partition.above is not None:
            partition.above.ring.setdefault(partition)
            return
        while self._is_ready(partition, now):
            self._serve(partition, partition.next_up(), now, loop)

    def _go_round(self, account: Partition, now: float, loop: EventLoop | None) -> None:
        """Give the account's free slots to the partitions below that need no more, in turn."""
        account.algorithm.tick(now)
        ring = account.ring
        if not ring and account.timer is None and account.limit == account.algorithm.limit:
            return
        while ring:
            partition = next(iter(ring))
            is_ready = self._is_ready(partition, now)
            if is_ready and not account.has_room:
                account.has_bound = True
                break
            del ring[partition]
            if is_ready:
                self._serve(partition, partition.next_up(), now, loop)
                if self._is_ready(partition, now):
                    ring[partition] = None
                self._settle(partition, now, loop)
        if ring and account.is_deadlocked:
            self._lend(account, now, loop)
        self._settle(account, now, loop)

    def _is_ready(self, partition: Partition, now: float) -> bool:
        """Tell whether a partition's next request may go, whatever the account says."""
        waiter = None
        if partition.waiting and partition.has_room and not partition.host.is_closed:
            waiter = partition.next_up()
            if not self._may_pass(partition, waiter.host, now):
                waiter = None
        partition.opens_at = None
        if waiter is None:
            for line in self._budgets:
                line.leave(partition)
            return False
        if not self._budgets and partition.forecast is None:
            return True
        return not self._has_to_wait(partition, waiter, now)

    def _settle(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Note what has changed, and when to look at it next."""
        self._note_change(partition, now)
        if partition.waiting or partition.timer is not None:
            self._arm(partition, loop)

    def _serve(
        self, partition: Partition, waiter: Waiter, now: float, loop: EventLoop | None
    ) -> None:
        partition.pop(waiter)
        order, request, host = waiter.order, waiter.request, waiter.host
        waiter.lease = self._grant(partition, now, order, waiter.loop, request, host)
        if not waiter.wake(loop):
            self._release_unsent(waiter.lease, now)

    def _send_canaries(self, host: Gate, now: float, loop: EventLoop | None) -> None:
        """Send as canaries the requests of a host's partitions that were sent least often."""
        while host.has_room(now):
            ready = [
                (partition.next_up(), partition)
                for partition in self._gates.at(host)
                if partition.waiting and partition.may_send and partition.gate.has_room(now)
            ]
            ready = [one for one in ready if not self._has_to_wait(one[1], one[0], now)]
            if not ready:
                return
            waiter, partition = min(ready, key=lambda one: one[0].request.sent)
            self._serve(partition, waiter, now, loop)

    def _turn_away(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Wake those whom no slot could reach in time."""
        for waiter in self._gates.hopeless(partition, now):
            partition.leave(waiter)
            waiter.wake(loop)

    def _lend(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Give one request a slot beyond the limit whose task holds slots that wait for it.

        One at a time: the others follow as it ends, so never more than one attempt is beyond.
        """
        waiter = partition.borrower()
        while waiter is not None and not self._has_to_wait(waiter.partition, waiter, now):
            self._serve(waiter.partition, waiter, now, loop)
            if waiter.lease is not None and not waiter.lease.released:
                return
            waiter = partition.borrower()

    def _note_change(self, partition: Partition, now: float) -> None:
        change = partition.change()
        if change is not None and partition.has_bound and self._observers.wanted():
            self._events.append(change)
        if partition.gate.has_news or partition.host.has_news:
            self._events.extend(self._gates.news(partition, partition.host, now))

    def _arm(self, partition: Partition, loop: EventLoop | None) -> None:
        """Set the partition's timer on the loop of the first who waits, or cancel it."""
        wake_at = partition.wake_at
        owner = partition.loop if wake_at is not None else None
        if partition.timer is not None:
            if owner is partition.timer_loop and wake_at == partition.timer_at:
                return
            partition.cancel_timer(loop)
        if wake_at is None or owner is None:
            return
        if owner is not loop:  # only a loop itself can set its timers
            owner.call_soon(lambda: self._on_timer(partition))
            return
        partition.timer_at, partition.timer_loop = wake_at, owner
        partition.timer = owner.call_at(wake_at, lambda: self._on_timer(partition))

    def _on_timer(self, partition: Partition) -> None:
        now, loop = time_and_loop()
        with self._lock:
            if partition.timer_loop is loop:
                partition.timer = None
            generation = partition.look(now)
            standstill = partition.standstill()
            if standstill is not None:
                self._events.append(standstill)
            if partition.is_entangled(now):
                self._lend(partition, now, loop)
            self._pump(partition, now, loop)
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
        f"an outage keeps the gate of {key!r} closed ({gate.seen}); the next canary goes out in"
        f" {closed_for:.1f} s, and this request cannot wait for longer",
        closed_for,
    )


def _out_of_time(waiter: Waiter, queue_timeout: float | None) -> str:
    """Say what a request has waited for in vain."""
    key, within = waiter.partition.key, f"within queue_timeout={queue_timeout or 0.0:g} s"
    if waiter.unpaid is None:
        return f"no slot for {key!r} was free {within}"
    return f"the budget of {waiter.unpaid} left nothing for {key!r} {within}"


_limiters: WeakSet[Limiter] = WeakSet()


def _after_fork() -> None:
    for limiter in _limiters:
        limiter._start_afresh()  # noqa: SLF001 - the parent's requests are not the child's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
