"""The pacer: when the next attempt of a partition may go, by all that is known about rates.

Limits say how many at once; rates say *not yet*. Each ``RateSource`` knows one kind of rate: what
the user told (``budgets``), what the server's headers tell (``forecasts``). The scheduler asks the
pacer alone, and tells it of each attempt that is sent, accepted, ended or withdrawn. A further
source, such as a rate that was learnt, is one more class with these methods, made in ``__init__``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from ..verdict.vocabulary import Signal
from .budget import Budget
from .budgets import Budgets
from .forecasts import Forecasts
from .gate import Standing
from .snapshot import BudgetView

if TYPE_CHECKING:
    from .partition import Lease, Partition

#: No timer for a rate is set sooner than in so many seconds.
_LEAST_WAIT: Final = 0.001


class RateSource(Protocol):
    """One kind of knowledge about rates.

    What it knows of one partition it keeps there (as ``Partition.told``), what it has to
    remember of one attempt on its lease (as ``Lease.charge``): both end by themselves.
    """

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when a request of the partition may go: ``now`` if at once."""

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

    __slots__ = ("_budgets", "_forecasts", "_sources")

    def __init__(self, budgets: Mapping[str, Budget]) -> None:
        self._budgets = Budgets(budgets)
        told: tuple[RateSource, ...] = (self._budgets,) if self._budgets else ()
        self._forecasts = Forecasts()
        self._sources: tuple[RateSource, ...] = (*told, self._forecasts)

    @property
    def counts_requests(self) -> bool:
        """Tell whether anybody asks what requests cost."""
        return bool(self._budgets) or self._forecasts.count_tokens

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

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when a request of a partition may go by all rates: ``now`` if at once."""
        at = now
        for source in self._sources:
            at = max(at, source.ready_at(partition, request, now))
        return at

    def holds(self, partition: Partition, request: Standing, now: float) -> bool:
        """Tell whether a rate holds back the first request of a partition.

        The partition then knows until when, and for a budget it stands in line.
        """
        at = self.ready_at(partition, request, now)
        if at <= now:
            partition.opens_at = None
            return False
        partition.opens_at = max(at, now + _LEAST_WAIT)
        self._budgets.queue_up(partition, request, now)
        return True

    def let_go(self, partition: Partition) -> None:
        """Note that something other than a rate holds a partition back, or nobody waits there."""
        partition.opens_at = None
        self._budgets.leave(partition)

    def in_turn(self) -> Iterator[Partition]:
        """Iterate over the partitions in line for a budget, each once the one before was served."""
        return self._budgets.in_turn()

    def unpaid(self, partition: Partition, request: Standing) -> Budget | None:
        """Return the budget for which the first request of a partition waits, if any."""
        line = None if partition.opens_at is None else self._budgets.of(request.cost)
        return None if line is None else line.spending.budget

    def sent(self, lease: Lease, now: float) -> None:
        """Note that an attempt goes out."""
        for source in self._sources:
            source.sent(lease, now)

    def accepted(self, lease: Lease, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""
        for source in self._sources:
            source.accepted(lease, now)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Note that an attempt is over."""
        for source in self._sources:
            source.ended(lease, signal, now)

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Note that an attempt was never sent."""
        for source in self._sources:
            source.withdrawn(lease, now)

    def views(self, now: float) -> tuple[BudgetView, ...]:
        """Return the state of each budget at this moment."""
        return self._budgets.views(now)
