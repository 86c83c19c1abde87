"""The pacer: when the next attempt of a partition may go, by all that is known about rates.

Limits say how many at once; rates say *not yet*. Each ``RateSource`` knows one kind of rate: what
the user told (``budgets``), what the server's headers tell (``forecasts``), what refusals have
taught (``learnt``). The scheduler asks the pacer alone, and tells it of each attempt that is sent,
accepted, ended or withdrawn. A further source is one more class with these methods, made in
``__init__``.

A budget is the user's word, all else is evidence, and may be wrong. Where a caller cannot wait for
long (a deadline, a cancel scope, ``queue_timeout``), this decides:

* What a budget cannot let go in time fails at once, with the time that it would have taken.
* What evidence alone holds back is held for half of the time that the caller leaves, and only if
  that helps; then it goes, as it would without this library. Where it is refused the evidence was
  right: the next goes so only a second later, then two, and so on. The limit on calls at once
  learns nothing of it. What the server asks for itself, by a ``Retry-After`` or by refusing what
  evidence did not hold back, is no evidence but its word, and not a rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from ..verdict.vocabulary import Signal
from .budget import Budget, Shortage
from .budgets import Budgets, MakeSpending, own_spending
from .forecasts import Forecasts
from .gate import Standing
from .learnt import Learnt
from .pressed import half_way
from .snapshot import BudgetView

if TYPE_CHECKING:
    from .partition import Lease, Partition, Waiter

#: No timer for a rate is set sooner than in so many seconds.
_LEAST_WAIT: Final = 0.001


class Pace(Enum):
    """The word of all rates on a request that wants to go now: ``HELD`` says *not yet*.

    One that is ``PRESSED`` goes although evidence would hold it back: its caller cannot wait.
    """

    HELD = auto()
    FREE = auto()
    PRESSED = auto()


class RateSource(Protocol):
    """One kind of knowledge about rates.

    What it knows of one partition it keeps there (as ``Partition.told``), what it has to
    remember of one attempt on its lease (as ``Lease.charge``): both end by themselves.
    """

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when a request of the partition may go: ``now`` if at once."""
        ...

    def sent(self, lease: Lease, now: float) -> None:
        """Note that an attempt goes out."""

    def accepted(self, lease: Lease, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Note that an attempt is over: the slot came back with a signal."""

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Note that an attempt was never sent: whoever had the slot went before."""


class Pacer:
    """All that one limiter knows about rates. Its methods are called under the limiter's lock."""

    __slots__ = ("_budgets", "_evidence", "_forecasts", "_has_budgets", "_learnt", "_sources")

    def __init__(
        self, budgets: Mapping[str, Budget], make_spending: MakeSpending = own_spending
    ) -> None:
        self._budgets = Budgets(budgets, make_spending)
        self._has_budgets = bool(budgets)
        told: tuple[RateSource, ...] = (self._budgets,) if budgets else ()
        self._forecasts = Forecasts()
        self._learnt = Learnt()
        self._evidence: tuple[RateSource, ...] = (self._forecasts, self._learnt)
        self._sources: tuple[RateSource, ...] = (*told, *self._evidence)

    @property
    def counts_requests(self) -> bool:
        """Tell whether anybody asks what requests cost."""
        return self._has_budgets or self._forecasts.count_tokens

    @property
    def counts_tokens(self) -> bool:
        """Tell whether anybody asks for tokens as well."""
        return self._budgets.count_tokens or self._forecasts.count_tokens

    def check(self, request: Standing) -> None:
        """Refuse what no budget could ever pay for; needs no lock.

        Raises:
            BudgetExceededError: If a request takes more tokens than its whole budget.

        """
        self._budgets.check(request.cost)

    def pace(self, partition: Partition, request: Standing, now: float, latest: float) -> Pace:
        """Return how a request may go that has not waited, and is of use until ``latest``."""
        return self._pace(partition, request, now, half_way(now, latest))[0]

    def pace_of(self, waiter: Waiter, now: float) -> Pace:
        """Return how one who waits may go."""
        return self._pace(waiter.partition, waiter.request, now, waiter.paced_until)[0]

    def pace_of_first(self, waiter: Waiter, now: float) -> Pace:
        """Return how the first of a partition may go.

        Where it is held the partition knows until when, and stands in line for a budget.
        """
        partition, request = waiter.partition, waiter.request
        pace, at = self._pace(partition, request, now, waiter.paced_until)
        if pace is not Pace.HELD:
            partition.opens_at = None
        else:
            partition.opens_at = max(at, now + _LEAST_WAIT)
            self._budgets.queue_up(partition, request, now)
        return pace

    def _pace(
        self, partition: Partition, request: Standing, now: float, paced_until: float
    ) -> tuple[Pace, float]:
        """Return how a request may go, and when: ``now`` if at once.

        What is evidence alone holds it back until ``paced_until`` or not at all, unless others
        that it would have held back were refused just now.
        """
        at = now
        for source in self._evidence:
            at = max(at, source.ready_at(partition, request, now))
        pace = Pace.FREE
        if at > max(now, paced_until) and not partition.pressed.is_paused(now):
            pace, at = Pace.PRESSED, now
        if self._has_budgets:
            at = max(at, self.paid_at(partition, request, now))
        return (pace, at) if at <= now else (Pace.HELD, at)

    def paid_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when the budget lets a request go: ``now`` if at once."""
        at = self._budgets.ready_at(partition, request, now) if self._has_budgets else now
        return at if at <= now else max(at, now + _LEAST_WAIT)

    def shortage(self, waiter: Waiter, now: float, ahead: int) -> Shortage | None:
        """Return what is missing where a budget cannot let a request go in time.

        ``ahead`` of it so many wait in its partition.
        """
        if not self._has_budgets:
            return None
        return self._budgets.shortage(waiter, now, ahead)

    def let_go(self, partition: Partition) -> None:
        """Note that something other than a rate holds a partition back, or nobody waits there."""
        partition.opens_at = None
        if self._has_budgets:
            self._budgets.leave(partition)

    def in_turn(self) -> Iterator[Partition]:
        """Iterate over the partitions in line for a budget, each once the one before was served."""
        return self._budgets.in_turn() if self._has_budgets else iter(())

    def unpaid(self, waiter: Waiter, now: float) -> Shortage | None:
        """Return what is missing of the budget for which alone a request has waited in vain."""
        if waiter.partition.opens_at is None or not self._has_budgets:
            return None
        return self._budgets.missing(waiter, now)

    def sent(self, lease: Lease, pace: Pace, now: float) -> None:
        """Note that an attempt goes out, and how."""
        if pace is Pace.PRESSED:
            lease.is_pressed = True
            lease.partition.pressed.went(now)
        for source in self._sources:
            source.sent(lease, now)

    def accepted(self, lease: Lease, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""
        for source in self._sources:
            source.accepted(lease, now)

    def explains(self, lease: Lease, signal: Signal, now: float) -> bool:
        """Tell, before the limits are told of a refusal, whether a rate alone explains it."""
        return self._learnt.explains(lease, signal, now)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Note that an attempt is over."""
        if lease.is_pressed:
            lease.partition.pressed.ended(now, is_refused=signal.is_overload)
        for source in self._sources:
            source.ended(lease, signal, now)

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Note that an attempt was never sent."""
        for source in self._sources:
            source.withdrawn(lease, now)

    def views(self, now: float) -> tuple[BudgetView, ...]:
        """Return the state of each budget at this moment."""
        return self._budgets.views(now)
