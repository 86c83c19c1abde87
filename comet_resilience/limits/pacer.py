"""The pacer: when the next attempt of a partition may go, by all known rates.

A limit bounds concurrency; a rate says *not yet*. Each ``RateSource`` knows one kind of rate: the
user's budgets (``budgets``), the limits that the server reports (``forecasts``), and the rates
learnt from refusals (``learnt``). The scheduler asks the pacer alone, and reports to it each
attempt that is sent, accepted, ended or withdrawn. A further source is one more class with these
methods, made in ``__init__``.

A budget is binding. The other rates are evidence and may be wrong, which matters if a caller cannot
wait for long (a deadline, a cancel scope, ``queue_timeout``):

* A request for which a budget has no room in time fails at once, with the time that it would take.
* A request that evidence alone holds back waits for at most half of the time that its caller
  leaves, and only if that helps. Then it is sent, as it would be without this library. If it is
  refused the evidence was right: the next one is sent in this way a second later at the earliest,
  then two, and so on. The limit on concurrency does not learn from it.

A ``Retry-After``, and a refusal that no evidence predicted, are no rates: retries and the limit
obey them.
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

#: The least seconds for which a timer for a rate is set.
_LEAST_WAIT: Final = 0.001


class Pace(Enum):
    """The decision of all rates on a request that could go now: ``HELD`` says *not yet*.

    ``PRESSED`` lets it go although evidence would hold it back, since its caller cannot wait.
    """

    HELD = auto()
    FREE = auto()
    PRESSED = auto()


class RateSource(Protocol):
    """One kind of knowledge about rates.

    It keeps the state of a partition there (as ``Partition.told``) and that of an attempt on its
    lease (as ``Lease.charge``), so that both end by themselves.
    """

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when a request of the partition may go: ``now`` if at once."""
        ...

    def sent(self, lease: Lease, now: float) -> None:
        """Note that an attempt goes out."""

    def accepted(self, lease: Lease, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Note that an attempt has ended with a signal."""

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Note that an attempt was never sent: the owner of the slot left before."""


class Pacer:
    """The rates of one limiter. It calls every method under its lock."""

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
        """Return True if any rate counts what requests cost."""
        return self._has_budgets or self._forecasts.count_tokens

    @property
    def counts_tokens(self) -> bool:
        """Return True if any rate counts tokens."""
        return self._budgets.count_tokens or self._forecasts.count_tokens

    def check(self, request: Standing) -> None:
        """Refuse a request that no budget could ever pay for; needs no lock.

        Raises:
            BudgetExceededError: If a request takes more tokens than its whole budget.

        """
        self._budgets.check(request.cost)

    def pace(self, partition: Partition, request: Standing, now: float, latest: float) -> Pace:
        """Decide on a request that has not waited; a slot is of use to it until ``latest``."""
        return self._pace(partition, request, now, half_way(now, latest))[0]

    def pace_of(self, waiter: Waiter, now: float) -> Pace:
        """Decide on a waiter."""
        return self._pace(waiter.partition, waiter.request, now, waiter.paced_until)[0]

    def pace_of_first(self, waiter: Waiter, now: float) -> Pace:
        """Decide on the first waiter of a partition.

        If it is held, set the partition's ``opens_at`` and put it in line for the budget.
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
        """Decide on a request; return also when it may go, ``now`` if at once.

        Evidence holds it back until ``paced_until`` or, if that is not enough, not at all, unless
        one that went in this way was refused just now.
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
        """Return what is missing if a budget has no room for a request in time.

        ``ahead`` is the number of waiters before it in its partition.
        """
        if not self._has_budgets:
            return None
        return self._budgets.shortage(waiter, now, ahead)

    def let_go(self, partition: Partition) -> None:
        """Note that no rate holds a partition back: something else does, or it has no waiters."""
        partition.opens_at = None
        if self._has_budgets:
            self._budgets.leave(partition)

    def in_turn(self) -> Iterator[Partition]:
        """Iterate over the partitions in line for a budget, each once the one before was served."""
        return self._budgets.in_turn() if self._has_budgets else iter(())

    def unpaid(self, waiter: Waiter, now: float) -> Shortage | None:
        """Return what is missing of the budget if it alone kept a waiter from its slot."""
        if waiter.partition.opens_at is None or not self._has_budgets:
            return None
        return self._budgets.missing(waiter, now)

    def sent(self, lease: Lease, pace: Pace, now: float) -> None:
        """Note that an attempt goes out, and by which decision."""
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
        """Return True if a rate alone explains a refusal; asked before the limits learn of it."""
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
