"""The budgets of one client, and the order in which partitions draw on each. Nothing here locks.

The rates that the user tells are one source of the pacer. A budget belongs to all partitions whose
requests it counts. Where it says *not yet*, those whose first request waits for it stand in line:
each is served once, and then it is the next one's turn. Those whose account has no room keep their
place, and hold nobody up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from ..errors import BudgetExceededError
from ..verdict.vocabulary import Signal
from .budget import EVERY_MODEL, Budget, Charge, Cost, Shortage, Spending
from .gate import Standing
from .snapshot import BudgetView

if TYPE_CHECKING:
    from .account import Account
    from .partition import Lease, Partition, Waiter

#: Seconds after which one who is not the first in line looks if the line has moved at all.
LOOK_AFTER: Final = 0.25
#: The weight of the latest answer in the time that answers take to begin, as in TCP.
_LATEST: Final = 1 / 8
_LATEST_DEVIATION: Final = 1 / 4
#: Seconds; no answer begins sooner than that.
_INSTANT: Final = 1e-6


class AnswerTime:
    """The time that answers take to begin: mean and mean deviation, as in TCP (RFC 6298)."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0

    @property
    def expected(self) -> float:
        """Return the seconds after which most answers have begun, 0 while nothing is known."""
        return 0.0 if self._mean is None else self._mean + self._deviation

    def note(self, seconds: float) -> None:
        """Learn how long one took."""
        if self._mean is None:
            self._mean, self._deviation = seconds, 0.0
            return
        self._deviation += _LATEST_DEVIATION * (abs(seconds - self._mean) - self._deviation)
        self._mean += _LATEST * (seconds - self._mean)


#: Makes the spending of a budget of its name; the function counts the requests that wait for it.
MakeSpending: TypeAlias = Callable[[str, Budget, Callable[[], int]], Spending]


def own_spending(_name: str, budget: Budget, _waiting: Callable[[], int]) -> Spending:
    """Return the spending of a budget that this process spends alone."""
    return Spending(budget)


class Line:
    """One budget, what was spent of it, and the partitions that wait for it in order."""

    __slots__ = ("_accounts", "_waiting", "answer", "name", "spending")

    def __init__(self, name: str, budget: Budget, make_spending: MakeSpending) -> None:
        self.name: str = name
        self.answer: AnswerTime = AnswerTime()
        self._waiting: dict[Partition, None] = {}
        self._accounts: Counter[Account[Partition] | None] = Counter()  # of those who wait
        self.spending: Spending = make_spending(name, budget, self.count_waiting)

    @property
    def first(self) -> Partition | None:
        """Return the partition whose turn it is, ``None`` if nobody waits that could send."""
        if not any(account is None or account.slots.has_room for account in self._accounts):
            return None
        return next((one for one in self._waiting if one.account_has_room), None)

    def count_waiting(self) -> int:
        """Count the requests of all partitions that stand in line."""
        return sum(partition.slots.waiting for partition in self._waiting)

    def ready_at(self, partition: Partition, now: float, cost: Cost) -> float:
        """Return when a partition may send: ``now`` if at once.

        One whose account has no room is not asked to wait for its turn: it has to wait anyway.
        """
        ready = self.spending.ready_at(now, cost.tokens_of(self.spending.budget))
        if not partition.account_has_room or self.first in (None, partition):
            return ready
        return ready + LOOK_AFTER

    def soonest(self, partition: Partition, now: float, cost: Cost, ahead: int) -> float:
        """Return the earliest time at which a request of a partition may go, behind so many.

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
        """Return its state at this moment."""
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
        """Let a partition stand in line, unless it does already."""
        if partition not in self._waiting:
            self._waiting[partition] = None
            self._accounts[partition.above] += 1

    def leave(self, partition: Partition) -> None:
        """Let a partition leave the line, served or not."""
        if partition in self._waiting:
            del self._waiting[partition]
            self._accounts[partition.above] -= 1
            if not self._accounts[partition.above]:
                del self._accounts[partition.above]

    def charge(self, now: float, cost: Cost) -> Charge:
        """Charge an attempt that goes out."""
        return self.spending.charge(now, cost.tokens_of(self.spending.budget))


class Budgets:
    """The lines of all budgets, by the model that they are for."""

    __slots__ = ("_lines", "count_tokens")

    def __init__(self, budgets: Mapping[str, Budget], make_spending: MakeSpending) -> None:
        self._lines = {name: Line(name, budget, make_spending) for name, budget in budgets.items()}
        self.count_tokens: bool = any(budget.tokens for budget in budgets.values())

    def __bool__(self) -> bool:
        return bool(self._lines)

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when the budget of a request lets it go: ``now`` if at once."""
        cost = request.cost
        line = self.of(cost)
        return now if line is None or cost is None else line.ready_at(partition, now, cost)

    def sent(self, lease: Lease, now: float) -> None:
        """Charge an attempt that goes out; its partition has had its turn."""
        cost = lease.request.cost
        line = self.of(cost)
        if line is not None and cost is not None:
            lease.charge = line.charge(now, cost)
            line.leave(lease.partition)

    def accepted(self, lease: Lease, now: float) -> None:
        """Learn how long answers take to begin; what they took they tell at their end."""
        line = self.of(lease.request.cost)
        if line is not None and lease.charge is not None and not lease.begun_after:
            lease.begun_after = max(_INSTANT, now - lease.charge.at)
            line.answer.note(lease.begun_after)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Count what an attempt has really taken: nothing where it was refused for load."""
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
        """Take the charge of an attempt back that was never sent."""
        line = self.of(lease.request.cost)
        if line is not None and lease.charge is not None:
            line.spending.refund(lease.charge)

    def shortage(self, waiter: Waiter, now: float, ahead: int) -> Shortage | None:
        """Return what is missing where a budget cannot let a request go in time.

        That is before its caller gives up, and as long before as answers take to begin. ``ahead``
        of it so many wait in its partition.
        """
        if waiter.latest == math.inf:
            return None
        cost = waiter.request.cost
        line = self.of(cost)
        if line is None or cost is None:
            return None
        at, answer = line.soonest(waiter.partition, now, cost, ahead), line.answer.expected
        is_late = at > waiter.latest or at + answer > waiter.useful_until
        return Shortage(line.spending.budget, at - now, answer) if is_late and at > now else None

    def missing(self, waiter: Waiter, now: float) -> Shortage | None:
        """Return what is missing of its budget to one who cannot wait any longer, if anything."""
        cost = waiter.request.cost
        line = self.of(cost)
        if line is None or cost is None:
            return None
        at = line.soonest(waiter.partition, now, cost, 0)
        return Shortage(line.spending.budget, at - now, 0.0) if at > now else None

    def queue_up(self, partition: Partition, request: Standing, now: float) -> None:
        """Let a partition stand in line for the budget of its first request, if that is short."""
        line = self.of(request.cost)
        if line is not None and self.ready_at(partition, request, now) > now:
            line.join(partition)

    def leave(self, partition: Partition) -> None:
        """Let a partition leave every line: nothing but a budget may keep it there."""
        for line in self._lines.values():
            line.leave(partition)

    def in_turn(self) -> Iterator[Partition]:
        """Iterate over the partitions in line, each once the one before was served.

        Each is asked once until another charge: it may leave the line and join it again.
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
        """Return the state of each budget at this moment."""
        return tuple(line.view(now) for line in self._lines.values())

    def of(self, cost: Cost | None) -> Line | None:
        """Return the line of what a request costs, ``None`` if no budget counts it."""
        if cost is None:
            return None
        return self._lines.get(cost.model) or self._lines.get(EVERY_MODEL)

    def check(self, cost: Cost | None) -> None:
        """Refuse what no budget could ever pay for.

        Raises:
            BudgetExceededError: If a request takes more tokens than its whole budget.

        """
        line = self.of(cost)
        if line is None or cost is None:
            return
        budget = line.spending.budget
        tokens = cost.tokens_of(budget)
        if budget.tokens is not None and tokens > budget.tokens:
            answer = f" and {cost.output_tokens} of its answer" if cost.is_bound else ""
            raise BudgetExceededError(
                f"budget: this request takes some {tokens} tokens ({cost.prompt_tokens} of its"
                f" prompt{answer}), more than the whole budget of {budget}; it was not sent"
            )
