"""The account above partitions: one more limit, which all of them share.

Partitions that nothing but the account holds back stand in its ring, and a free slot goes to the
most urgent, of these to the one with the fewest in flight, in steps of ``FAIR_STEP``, and in turn.
A refusal is blamed on the partition, on the account, or on both: see ``blame``. The limiter calls
every method under its lock.
"""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

from ..verdict.vocabulary import Signal
from .algorithm import StepBack, Ticket
from .blame import AccountLimit, Blame, Blamed
from .eventloop import EventLoop
from .ring import Ring
from .slots import Slots
from .timer import Timer
from .told import Told

#: Partitions whose requests in flight differ by less than this take turns: each can find its own
#: limit, and slow answers of one do not take all slots.
FAIR_STEP: Final = 4


class Below(Blamed, Protocol):
    """A partition below the account."""

    slots: Slots

    @property
    def loop(self) -> EventLoop:
        """Return the loop of the first who waits there."""
        ...

    @property
    def urgency(self) -> int:
        """Return the priority of the most urgent request that waits there."""
        ...


class HeldBelow(Protocol):
    """The lease of a partition below: ``ticket`` is the partition's, ``upper`` the account's."""

    ticket: Ticket
    upper: Ticket | None
    met_account: bool

    @property
    def partition(self) -> Below:
        """Return the partition."""
        ...

    @property
    def turns(self) -> int:
        """Count the reads of its answer that began or ended."""
        ...


BelowT = TypeVar("BelowT", bound=Below)


class Account(Generic[BelowT]):
    """The slots of an account, the evidence about its ceiling, and the ring of its partitions."""

    __slots__ = (
        "__weakref__",
        "blame",
        "key",
        "ring",
        "slots",
        "timer",
        "told",
        "witnesses",
    )

    def __init__(self, name: str, limit: AccountLimit) -> None:
        self.key: str = name
        self.slots: Slots = Slots(name, limit, has_bound=False)
        self.blame: Blame = Blame(limit)
        self.ring: Ring[BelowT] = Ring()
        self.timer: Timer = Timer()
        self.told: Told = Told()
        self.witnesses: dict[BelowT, float] = {}  # those refused of late, and when

    @property
    def wake_at(self) -> float | None:
        """Return when time alone may free a slot for a waiter, ``None`` if there is none."""
        if not self.slots.waiting or not self.ring:
            return None
        at = self.slots.algorithm.wake_at
        return self.slots.lookout.at if at is None else min(at, self.slots.lookout.at)

    @property
    def loop(self) -> EventLoop:
        """Return the loop of the first whose turn it is; there must be one."""
        return self.ring.head().loop

    @property
    def is_open(self) -> bool:
        """Return True if its limit is not closed."""
        return not self.slots.is_closed

    @property
    def is_paced(self) -> bool:
        """Return ``False``: rates hold back partitions, not their account."""
        return False

    def place(self, partition: BelowT) -> None:
        """Put a partition into the ring, or where it belongs there now."""
        self.ring.place(partition, partition.urgency, partition.slots.in_flight // FAIR_STEP)

    def accept(self, lease: HeldBelow, now: float) -> None:
        """Note that the answer to an attempt below has begun."""
        self.slots.holders.answers.add(lease)
        self._note_acceptance(lease, now)

    def release(
        self,
        lease: HeldBelow,
        signal: Signal,
        retry_after: float | None,
        now: float,
        jitter: float,
        *,
        is_explained: bool = False,
    ) -> bool:
        """Take back a slot of a partition below; tell whether that is to learn of the outcome."""
        slots, upper, is_told = self.slots, lease.upper, True
        slots.free(lease)
        if upper is None:
            return True
        if signal is Signal.SUCCESS:
            slots.ok += 1
            self._note_acceptance(lease, now)
        elif is_explained:
            upper.decided = True
        elif signal.is_overload:
            judgement = self.blame.judge(lease.partition, lease.ticket, upper, signal, now)
            is_told, lease.met_account = judgement.partition, bool(judgement.account)
            for ticket in judgement.account:
                slots.refused += 1
                slots.has_bound = True
                slots.refuse(ticket, now, retry_after, jitter)
                self.blame.stepped_back(ticket)
        else:
            slots.other += 1
        slots.algorithm.ended(upper, now, slots.in_flight)
        return is_told

    def _note_acceptance(self, lease: HeldBelow, now: float) -> None:
        """Report an accepted attempt to the evidence and the limit of the account."""
        if lease.upper is not None:
            self.blame.accepted(lease.partition, lease.ticket, lease.upper)
            self.slots.algorithm.accepted(lease.upper, now)
            below = lease.partition.slots.algorithm
            if isinstance(below, StepBack):
                below.note_account(self.blame.limit.level)
