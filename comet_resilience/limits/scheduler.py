"""The scheduler: which waiter gets a free slot next. Nothing here waits or locks.

Whatever may have freed a slot ends in ``pump``, which gives slots to waiters while there is room,
and sets the timer if time alone will free more. Four things may hold a request back: its
partition's limit, a gate, a rate, and the account's limit. ``_next_due`` asks the first three;
below an account, a partition that is ready then takes its turn in the ring.

The limiter calls every method under its lock. Waking a task never runs it here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from ..events import (
    AlgorithmRetired,
    FleetChanged,
    GateClosed,
    GateOpened,
    LimitChanged,
    RateChanged,
    Standstill,
)
from .account import Account
from .eventloop import EventLoop
from .gate import Gate, Prospect, Standing
from .gates import Gates
from .pacer import Pace, Pacer
from .partition import (
    Lease,
    Level,
    Origin,
    Outcome,
    Partition,
    Waiter,
    borrower,
    is_deadlocked,
    is_entangled,
)

#: Seconds until the next look at something that is due and still has to wait.
_LOOK_AGAIN: Final = 0.25

#: The events of a limiter; observers get them once its lock is free.
LimiterEvent: TypeAlias = (
    LimitChanged
    | RateChanged
    | GateClosed
    | GateOpened
    | FleetChanged
    | AlgorithmRetired
    | Standstill
)


class Scheduler:
    """Gives out the slots of all partitions of one limiter, and takes them back.

    ``limiter`` is the origin of its leases. ``events`` collects what observers will get, where
    ``is_observed`` says that there are any. ``on_timer`` is called, without the lock, when the
    timer of a partition or an account goes off.
    """

    def __init__(
        self,
        limiter: Origin,
        gates: Gates,
        pacer: Pacer,
        *,
        jitter: Callable[[], float],
        events: deque[LimiterEvent],
        is_observed: Callable[[], bool],
        on_timer: Callable[[Level], None],
    ) -> None:
        self._limiter = limiter
        self._gates = gates
        self._pacer = pacer
        self._jitter = jitter
        self._events = events
        self._is_observed = is_observed
        self._on_timer = on_timer

    # -- A slot goes out, and comes back ----------------------------------------------------------

    def take(
        self,
        partition: Partition,
        now: float,
        loop: EventLoop | None,
        order: int | None,
        request: Standing,
        latest: float,
    ) -> Lease | None:
        """Return a lease if a slot is free and nobody waits for it, else ``None``."""
        host, above = partition.host, partition.above
        _tick(partition, now)
        self._note_change(partition, now)
        if above is not None:
            above.slots.algorithm.tick(now)
            if above.ring or not above.slots.has_room:
                return None
        if (
            partition.slots.waiting
            or not partition.slots.has_room
            or not _may_pass(partition, host, now)
            or not (order is None or partition.lets_retries_pass)
        ):
            return None
        pace = self._pacer.pace(partition, request, now, latest)
        if pace is Pace.HELD:
            return None
        order = order or partition.next_order()
        return self._grant(partition, now, order, loop, request, host, pace)

    def accept(self, lease: Lease, now: float, loop: EventLoop | None) -> None:
        """Note that an answer has begun, and give out the slots that this freed."""
        before = lease.host.prospect
        lease.partition.accept(lease, now)
        self._pacer.accepted(lease, now)
        self._pump_around(lease.partition, lease.host, now, loop, before)

    def release(self, lease: Lease, outcome: Outcome, now: float, loop: EventLoop | None) -> None:
        """Take a slot back, report the outcome to limits, rates and gates, and give out slots."""
        before, signal = lease.host.prospect, outcome.signal
        is_explained = signal.is_overload and self._pacer.explains(lease, signal, now)
        lease.partition.release(lease, outcome, now, self._jitter(), is_explained=is_explained)
        self._pacer.ended(lease, signal, now)
        self._gates.judge(lease, outcome, now)
        self._pump_around(lease.partition, lease.host, now, loop, before)

    def leave(self, waiter: Waiter, now: float, loop: EventLoop | None) -> None:
        """Let a waiter leave, cancelled or out of time; a slot it was given goes to the next."""
        partition, before = waiter.partition, waiter.host.prospect
        if waiter.lease is not None:
            self.release_unsent(waiter.lease, now)
        elif not waiter.left:  # it may have been turned away in the same moment
            waiter.turned_away = partition.shut_by(waiter)
            waiter.request.held_by_account = partition.account_awaited
            waiter.unpaid = self._pacer.unpaid(waiter, now)
            partition.leave(waiter)
        self._pump_around(partition, waiter.host, now, loop, before)

    def release_unsent(self, lease: Lease, now: float) -> None:
        """Take back a slot whose owner left before sending anything."""
        lease.partition.release_unsent(lease, now)
        self._pacer.withdrawn(lease, now)

    def _grant(
        self,
        partition: Partition,
        now: float,
        order: int,
        loop: EventLoop | None,
        request: Standing,
        host: Gate,
        pace: Pace,
    ) -> Lease:
        passages = self._gates.sent(partition, host, request, now)
        lease = partition.grant(self._limiter, now, order, loop, request, host, passages)
        self._pacer.sent(lease, pace, now)
        return lease

    def _serve(self, waiter: Waiter, pace: Pace, now: float, loop: EventLoop | None) -> None:
        waiter.partition.pop(waiter)
        waiter.lease = self._grant(
            waiter.partition, now, waiter.order, waiter.loop, waiter.request, waiter.host, pace
        )
        if not waiter.wake(loop):
            self.release_unsent(waiter.lease, now)

    # -- The next in turn -------------------------------------------------------------------------

    def pump(self, level: Level | None, now: float, loop: EventLoop | None) -> None:
        """Give free slots to waiters, and set the timer if time alone will free more.

        Without a level, look only at partitions that a budget held back.
        """
        if isinstance(level, Account):
            self._go_round(level, now, loop)
        elif level is not None:
            self._pump_alone(level, now, loop)
        for partition in self._pacer.in_turn():
            self._pump_alone(partition, now, loop)

    def _pump_around(
        self,
        partition: Partition,
        host: Gate,
        now: float,
        loop: EventLoop | None,
        before: Prospect,
    ) -> None:
        """Pump the partitions for which the end of an attempt may have freed something.

        If the host's gate has moved, that is all of its partitions. If it only has room for more,
        it is those in line for it, as many as may pass.
        """
        if host.prospect != before:
            self._pump_host(partition, host, now, loop, was_closed=before.is_closed)
            return
        self.pump(partition, now, loop)
        while (one := self._gates.next_in_line(host, now)) is not None:
            self.pump(one, now, loop)

    def _pump_host(
        self,
        partition: Partition,
        host: Gate,
        now: float,
        loop: EventLoop | None,
        *,
        was_closed: bool,
    ) -> None:
        """Pump all partitions of a host whose gate has moved, and the one that moved it."""
        self._gates.dissolve_line(host)
        around = self._gates.at(host)
        if was_closed and not host.is_closed:
            for one in around:
                if one.gate.is_closed:
                    one.gate.test_now(now)
        for one in around:
            if one.slots.waiting or one is partition:
                self.pump(one, now, loop)

    def _pump_alone(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        host = partition.host
        _tick(partition, now)
        if partition.slots.waiting:
            self._serve_waiting(partition, host, now, loop)
        else:
            self._pacer.let_go(partition)
        if partition.above is not None:
            self._go_round(partition.above, now, loop)
        self._settle(partition, now, loop)

    def _serve_waiting(
        self, partition: Partition, host: Gate, now: float, loop: EventLoop | None
    ) -> None:
        if host.is_closed:
            self._send_canaries(partition, host, now, loop)
        self._turn_away_unpaid(partition, now, loop)
        self._give_out(partition, now, loop)
        if partition.is_paced:
            self._serve_pressed(partition, now, loop)
        if partition.slots.waiting and is_deadlocked(partition):
            self._lend(partition, now, loop)
        if partition.gate.is_closed or host.is_closed:
            self._turn_away(partition, now, loop)

    def _next_due(self, partition: Partition, now: float) -> tuple[Waiter, Pace] | None:
        """Return the next waiter of a partition that may go, and how, the account's limit aside."""
        slots = partition.slots
        if slots.waiting and slots.has_room and not partition.host.is_closed:
            waiter = partition.next_up(now)
            if _may_pass(partition, waiter.host, now):
                pace = self._pacer.pace_of_first(waiter, now)
                return None if pace is Pace.HELD else (waiter, pace)
            if not waiter.host.has_room(now):
                self._gates.queue_up(partition, waiter.host)
        self._pacer.let_go(partition)
        return None

    def _give_out(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Serve the waiters; below an account, let the partition take its turn in the ring."""
        while (due := self._next_due(partition, now)) is not None:
            if partition.above is not None:
                partition.above.place(partition)
                return
            self._serve(*due, now, loop)

    def _go_round(self, account: Account[Partition], now: float, loop: EventLoop | None) -> None:
        """Give the account's free slots, in turn, to the partitions that need nothing else."""
        slots, ring = account.slots, account.ring
        slots.algorithm.tick(now)
        if not ring and account.timer.at is None and slots.limit == slots.algorithm.limit:
            return
        while ring:
            partition = ring.head()
            due = self._next_due(partition, now)
            if due is None:
                ring.leave(partition)
                self._settle(partition, now, loop)
            elif ring.priority_of(partition) != partition.urgency:
                account.place(partition)
            elif slots.has_room:
                ring.pop()
                self._serve(*due, now, loop)
                if self._next_due(partition, now) is not None:
                    account.place(partition)
                self._settle(partition, now, loop)
            else:
                slots.has_bound = True
                break
        if ring and is_deadlocked(account):
            self._lend(account, now, loop)
        self._settle(account, now, loop)

    def _send_canaries(
        self, partition: Partition, host: Gate, now: float, loop: EventLoop | None
    ) -> None:
        """Send canaries to a host: of all its partitions, the requests sent least often.

        Does nothing unless this partition has one to send; each partition is asked in turn.
        """
        while host.has_room(now) and self._next_canary(partition, now) is not None:
            canaries = [self._next_canary(one, now) for one in self._gates.at(host)]
            due = min(filter(None, canaries), key=lambda one: one[0].request.sent, default=None)
            if due is None:
                return
            self._serve(*due, now, loop)

    def _next_canary(self, partition: Partition, now: float) -> tuple[Waiter, Pace] | None:
        """Return the next waiter of a partition that may pass its host's closed gate, and how.

        It does not join the line for a budget, which it could not leave in its turn.
        """
        if not (partition.slots.waiting and partition.may_send and partition.gate.has_room(now)):
            return None
        waiter = partition.next_up(now)
        pace = self._pacer.pace_of(waiter, now)
        return None if pace is Pace.HELD else (waiter, pace)

    def _turn_away(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Wake the waiters whom no slot could reach in time."""
        for waiter in self._gates.hopeless(partition, now):
            partition.leave(waiter)
            waiter.wake(loop)

    def _turn_away_unpaid(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Wake waiters at the head for whom a budget has no room in time."""
        while partition.slots.waiting:
            waiter = partition.head()
            shortage = self._pacer.shortage(waiter, now, 0)
            if shortage is None:
                return
            waiter.unpaid = shortage
            partition.leave(waiter)
            waiter.wake(loop)

    def _serve_pressed(self, partition: Partition, now: float, loop: EventLoop | None) -> None:
        """Send, out of turn, waiters whom evidence alone would hold back for too long."""
        while (opens_at := partition.opens_at) is not None and partition.may_send:
            waiter = partition.pressed.due(now, opens_at)
            if waiter is None or not _may_pass(partition, waiter.host, now):
                break
            paid_at = self._pacer.paid_at(partition, waiter.request, now)
            if paid_at > now:
                partition.look_by(paid_at, now)
                return
            self._serve(waiter, Pace.PRESSED, now, loop)
        if partition.opens_at is not None:
            partition.look_by(partition.pressed.look_at(partition.opens_at), now)

    def _lend(self, level: Level, now: float, loop: EventLoop | None) -> None:
        """Lend a slot beyond the limit to a request whose own task holds the slots.

        One at a time: the others follow when it ends, so at most one attempt is beyond the limit.
        """
        while (waiter := borrower(level)) is not None:
            pace = self._pacer.pace_of_first(waiter, now)
            if pace is Pace.HELD:
                return
            self._serve(waiter, pace, now, loop)
            if waiter.lease is not None and not waiter.lease.released:
                return

    # -- Time -------------------------------------------------------------------------------------

    def look(self, level: Level, now: float, loop: EventLoop | None) -> int | None:
        """Do what time has made due; return the generation of objects to collect, if any."""
        slots = level.slots
        level.timer.went_off(loop)
        generation = slots.look(now, is_paced=level.is_paced)
        standstill = slots.standstill()
        if standstill is not None:
            self._events.append(standstill)
        if is_entangled(level, now):
            self._lend(level, now, loop)
        self.pump(level, now, loop)
        return generation

    def _settle(self, level: Level, now: float, loop: EventLoop | None) -> None:
        """Note what has changed, and set the timer for the next look."""
        self._note_change(level, now)
        if level.slots.waiting or level.timer.at is not None:
            wake_at = level.wake_at
            if wake_at is not None and wake_at <= now:
                wake_at = _look_again(level, now)
            owner = None if wake_at is None else level.loop
            level.timer.set(wake_at, owner, loop, lambda: self._on_timer(level))

    def _note_change(self, level: Level, now: float) -> None:
        slots = level.slots
        if slots.limit != slots.algorithm.limit or slots.spacing is not None:
            changes = (slots.change(), slots.rate_change())
            if slots.has_bound and self._is_observed():
                self._events.extend(change for change in changes if change is not None)
        if isinstance(level, Partition):
            gate, host = level.gate, level.host
            if gate.closed_since != gate.told_since or host.closed_since != host.told_since:
                self._events.extend(self._gates.news(level, host, now))


def _look_again(level: Level, now: float) -> float:
    """Return when to look again at something due that is held up for an unknown time.

    An example is a canary that is due while its account has no free slot.
    """
    soon, at = now + _LOOK_AGAIN, level.timer.at
    return at if at is not None and now < at <= soon else soon


def _tick(partition: Partition, now: float) -> None:
    """Do what time has made due: at a partition's limit, and at gates that are not wide open."""
    partition.slots.algorithm.tick(now)
    for gate in (partition.gate, partition.host):
        if not gate.is_wide_open:
            gate.tick(now)


def _may_pass(partition: Partition, host: Gate, now: float) -> bool:
    own = partition.gate
    if own.is_wide_open and host.is_wide_open:
        return True
    return own.has_room(now) and host.has_room(now)
