"""The budgets of one client, and the order in which partitions draw on each. Not thread-safe.

Budgets are one source of the ``Pacer``. A budget belongs to all partitions whose requests it
counts. While it is exhausted, the partitions whose first request waits for it form a line, and
take turns: one request each. A partition whose account has no room keeps its place and is skipped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from ..errors import BudgetExceededError
from ..verdict.vocabulary import Signal
from .budget import EVERY_MODEL, Budget, Cost, Shortage, Spending
from .gate import Standing
from .snapshot import BudgetView

if TYPE_CHECKING:
    from .account import Account
    from .partition import Lease, Partition, Waiter

#: Seconds after which a partition that is not first in line checks whether the line has moved: a
#: fallback, as each send wakes the next in line.
LOOK_AFTER: Final = 0.25
#: The weights of the latest answer in mean and mean deviation, as in TCP (RFC 6298, section 2).
_LATEST: Final = 1 / 8
_LATEST_DEVIATION: Final = 1 / 4
#: Seconds; the least value of ``Lease.begun_after``, whose 0 means that no answer has begun.
_INSTANT: Final = 1e-6


class AnswerTime:
    """The time to the first byte of an answer: mean and mean deviation, as in RFC 6298."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean = self._deviation = 0.0

    @property
    def expected(self) -> float:
        """Return the seconds after which most answers have begun, 0 while unknown."""
        return self._mean + self._deviation

    def note(self, seconds: float) -> None:
        """Add one measurement, in seconds."""
        self._mean = self._mean or seconds
        self._deviation += _LATEST_DEVIATION * (abs(seconds - self._mean) - self._deviation)
        self._mean += _LATEST * (seconds - self._mean)


#: A factory of spendings: (name, budget, function that counts the requests waiting for it).
MakeSpending: TypeAlias = Callable[[str, Budget, Callable[[], int]], Spending]


def own_spending(_name: str, budget: Budget, _waiting: Callable[[], int]) -> Spending:
    """Return the spending of a budget that this process does not share."""
    return Spending(budget)


class Line:
    """One budget, its charges, and the partitions that wait for it in order."""

    __slots__ = ("_accounts", "_waiting", "answer", "name", "spending")

    def __init__(self, name: str, budget: Budget, make_spending: MakeSpending) -> None:
        self.name: str = name
        self.answer: AnswerTime = AnswerTime()
        self._waiting: dict[Partition, None] = {}
        self._accounts: Counter[Account[Partition] | None] = Counter()  # of those who wait
        self.spending: Spending = make_spending(name, budget, self.count_waiting)

    @property
    def first(self) -> Partition | None:
        """Return the first partition in line that could send, ``None`` if there is none."""
        if not any(account is None or account.slots.has_room for account in self._accounts):
            return None
        return next((one for one in self._waiting if one.account_has_room), None)

    def count_waiting(self) -> int:
        """Count the waiting requests of all partitions in line."""
        return sum(partition.slots.waiting for partition in self._waiting)

    def ready_at(self, partition: Partition, now: float, cost: Cost) -> float:
        """Return when a partition may send: ``now`` if at once.

        A partition whose account has no room does not wait for its turn as well.
        """
        ready = self.spending.ready_at(now, cost.tokens_of(self.spending.budget))
        if not partition.account_has_room or self.first in (None, partition):
            return ready
        return ready + LOOK_AFTER

    def soonest(self, partition: Partition, now: float, cost: Cost, ahead: int) -> float:
        """Return the earliest time for a request behind ``ahead`` others of its partition.

        Each of the other partitions in line that could send has a turn whenever this one has.
        """
        others = sum(
            min(one.slots.waiting, ahead)
            for one in self._waiting
            if one is not partition and one.account_has_room
        )
        tokens = cost.tokens_of(self.spending.budget)
        return self.spending.soonest(now, tokens, ahead + others)

    def view(self, now: float) -> BudgetView:
        """Return its current state."""
        spending = self.spending
        requests_left, tokens_left = spending.left(now)
        return BudgetView(
            model=self.name,
            budget=spending.budget,
            requests_left=requests_left,
            tokens_left=tokens_left,
            requests=spending.requests,
            tokens=spending.tokens,
            waiting=len(self._waiting),
        )

    def join(self, partition: Partition) -> None:
        """Append a partition, unless it is in line already."""
        if partition not in self._waiting:
            self._waiting[partition] = None
            self._accounts[partition.above] += 1

    def leave(self, partition: Partition) -> None:
        """Remove a partition, served or not."""
        if partition in self._waiting:
            del self._waiting[partition]
            self._accounts[partition.above] -= 1
            if not self._accounts[partition.above]:
                del self._accounts[partition.above]


class Budgets:
    """The budgets of a client by model, and the line of each."""

    __slots__ = ("_lines", "count_tokens")

    def __init__(self, budgets: Mapping[str, Budget], make_spending: MakeSpending) -> None:
        self._lines = {name: Line(name, budget, make_spending) for name, budget in budgets.items()}
        self.count_tokens: bool = any(budget.tokens for budget in budgets.values())

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when the budget of a request lets it go: ``now`` if at once."""
        if (cost := request.cost) is None or (line := self.of(cost)) is None:
            return now
        return line.ready_at(partition, now, cost)

    def sent(self, lease: Lease, now: float) -> None:
        """Charge an attempt that is sent; its partition has had its turn."""
        if (cost := lease.request.cost) is not None and (line := self.of(cost)) is not None:
            lease.charge = line.spending.charge(now, cost.tokens_of(line.spending.budget))
            line.leave(lease.partition)

    def accepted(self, lease: Lease, now: float) -> None:
        """Learn the time to the first byte of an answer."""
        line = self.of(lease.request.cost)
        if line is not None and lease.charge is not None and not lease.begun_after:
            lease.begun_after = max(_INSTANT, now - lease.charge.at)
            line.answer.note(lease.begun_after)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Settle the charge of an attempt."""
        line = self.of(lease.request.cost)
        if line is None or lease.charge is None:
            return
        if signal is Signal.SUCCESS:
            self.accepted(lease, now)
        if signal.is_overload:
            line.spending.refuse(lease.charge)
        elif lease.tokens is None:
            line.spending.close(lease.charge)
        else:
            line.spending.settle(lease.charge, lease.tokens)

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Undo the charge of an attempt that was never sent."""
        line = self.of(lease.request.cost)
        if line is not None and lease.charge is not None:
            line.spending.refund(lease.charge)

    def shortage(self, waiter: Waiter, now: float, ahead: int) -> Shortage | None:
        """Return the shortage if the budget has no room for a request in time.

        In time means before its caller gives up, and early enough for the answer to begin.
        ``ahead`` counts the requests ahead of it in its partition.
        """
        if waiter.latest == math.inf:
            return None
        if (cost := waiter.request.cost) is None or (line := self.of(cost)) is None:
            return None
        at, answer = line.soonest(waiter.partition, now, cost, ahead), line.answer.expected
        is_late = at > waiter.latest or at + answer > waiter.useful_until
        return Shortage(line.spending.budget, at - now, answer) if is_late and at > now else None

    def missing(self, waiter: Waiter, now: float) -> Shortage | None:
        """Return the shortage of a request that cannot wait any longer, if there is one."""
        if (cost := waiter.request.cost) is None or (line := self.of(cost)) is None:
            return None
        at = line.soonest(waiter.partition, now, cost, 0)
        return Shortage(line.spending.budget, at - now, 0.0) if at > now else None

    def queue_up(self, partition: Partition, request: Standing, now: float) -> None:
        """Append a partition to the line of its first request's budget, if that has no room."""
        line = self.of(request.cost)
        if line is not None and self.ready_at(partition, request, now) > now:
            line.join(partition)

    def leave(self, partition: Partition) -> None:
        """Remove a partition from every line: something other than a budget holds it back."""
        for line in self._lines.values():
            line.leave(partition)

    def in_turn(self) -> Iterator[Partition]:
        """Iterate over the first in line, again after each charge.

        Until the next charge no partition is yielded twice: it may leave and join again.
        """
        for line in self._lines.values():
            charged = line.spending.requests
            asked: set[Partition] = set()
            while (first := line.first) is not None and first not in asked:
                asked.add(first)
                yield first
                if line.spending.requests != charged:
                    charged = line.spending.requests
                    asked.clear()

    def views(self, now: float) -> tuple[BudgetView, ...]:
        """Return the current state of each budget."""
        return tuple(line.view(now) for line in self._lines.values())

    def of(self, cost: Cost | None) -> Line | None:
        """Return the line of the budget that counts a request, ``None`` if none does."""
        if cost is None:
            return None
        return self._lines.get(cost.model) or self._lines.get(EVERY_MODEL)

    def check(self, cost: Cost | None) -> None:
        """Refuse a request that exceeds its whole budget.

        Raises:
            BudgetExceededError: If it takes more tokens than the budget has per period.

        """
        if cost is None or (line := self.of(cost)) is None:
            return
        budget = line.spending.budget
        tokens = cost.tokens_of(budget)
        if budget.tokens is not None and tokens > budget.tokens:
            answer = f" and {cost.output_tokens} of its answer" if cost.is_bound else ""
            raise BudgetExceededError(
                f"budget: this request takes some {tokens} tokens ({cost.prompt_tokens} of its"
                f" prompt{answer}), more than the whole budget of {budget}; it was not sent"
            )
