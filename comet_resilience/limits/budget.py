"""A budget: the requests and tokens per period that the caller states. Pure.

1. Charges are spaced by the generic cell rate algorithm, in its virtual scheduling form (ITU-T
   I.371, annex A): each is paid for by the time in which the budget earns it, and nothing is sent
   before the earlier charges are paid for, all but ``burst`` seconds of them.
2. No period holds more than the budget, wherever it begins: neither across the edge of a server's
   window nor after a burst.
3. Tokens are known only once the answer ends. A full bucket gains nothing from a refund, and one
   without a burst is full at each send, so half of all estimation errors would be lost. So a bucket
   of tokens is as deep as the largest recent answer: a server that admitted it has room for it. The
   envelope stays that of evenly spaced requests of that size.
4. A refusal within the budget means that the server counted more than this process. Then twice the
   largest recent answer is kept back of each period, and 1 % less after each further answer.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: The key of the budget for all models without one of their own.
EVERY_MODEL: Final = "*"
#: Slices per period, which bounds memory: a charge leaves its period up to 1/512 of it late.
_SLICES: Final = 512
#: A relative margin, so that the rounding errors of a long sum never admit one too many.
_ROUNDING: Final = 1e-9
#: The weight of a smaller answer in ``Meter.largest``: a peak fades over some twenty answers.
_LATEST: Final = 0.05
#: Rule 4: multiples of the largest answer that are kept back, and the factor for each answer since.
_KEPT_BACK: Final = 2.0
_STILL_KEPT_BACK: Final = 0.99
#: The longest period of a budget, in seconds (a month), and the largest amount.
LONGEST: Final = 31 * 86_400.0
_MOST: Final = 10**12


@dataclass(frozen=True, slots=True)
class Budget:
    """The requests and tokens per period of an account or a model: ``wrap(budget=...)``.

    ``requests`` and ``tokens`` (whole numbers, 1 or more; at least one is given) are allowed in
    each ``per`` seconds (0.001 to 31 days). ``burst``, 0 to ``per`` seconds, is how much may go at
    once after a pause, as the time that earns it: 0 spaces requests evenly, which every server
    accepts; ``burst=per`` sends the whole budget at once, which only servers with a window of that
    length or a bucket of that size accept.

    Raises:
        ValueError: If neither is given, or a value is out of bounds.

    """

    requests: int | None = None
    tokens: int | None = None
    per: float = 60.0
    burst: float = 0.0

    def __post_init__(self) -> None:
        if self.requests is None and self.tokens is None:
            raise ValueError("budget: expected Budget(requests=...), Budget(tokens=...), or both")
        for name in ("requests", "tokens"):
            amount = getattr(self, name)
            is_whole = isinstance(amount, int) and not isinstance(amount, bool)
            if amount is not None and not (is_whole and 1 <= amount <= _MOST):
                raise ValueError(f"budget: {name}={amount!r}: expected a whole number, 1 or more")
        if not (_is_number(self.per) and 0.001 <= self.per <= LONGEST):
            raise ValueError(f"budget: per={self.per!r}: expected seconds, 0.001 to {LONGEST:g}")
        if not (_is_number(self.burst) and 0 <= self.burst <= self.per):
            raise ValueError(
                f"budget: burst={self.burst!r}: expected seconds, 0 to per={self.per:g}"
            )

    def __str__(self) -> str:
        amounts = (("requests", self.requests), ("tokens", self.tokens))
        said = " and ".join(f"{amount} {name}" for name, amount in amounts if amount is not None)
        return f"{said} in {self.per:g} s"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Cost:
    """The estimated cost of one attempt, in tokens.

    ``is_bound`` means that the request itself bounds its answer to ``output_tokens``.
    """

    model: str
    prompt_tokens: int = 0
    output_tokens: int = 0
    is_bound: bool = False

    def tokens_of(self, budget: Budget) -> int:
        """Return the tokens to charge; an unbounded answer is charged the whole budget at most."""
        tokens = self.prompt_tokens + self.output_tokens
        if budget.tokens is None or self.is_bound:
            return tokens
        return max(self.prompt_tokens, min(tokens, budget.tokens))


@dataclass(frozen=True, slots=True)
class Shortage:
    """A budget without room for a request in time: there will be room in ``seconds`` at best.

    ``answer`` is the expected time to the first byte of the answer in seconds, 0 while unknown.
    """

    budget: Budget
    seconds: float
    answer: float


@dataclass(slots=True, eq=False)
class Slice:
    """A part of the last period: the times of its first and last charge, and their sum."""

    began: float
    at: float
    amount: float
    is_over: bool = False


@dataclass(slots=True, eq=False)
class Meter:
    """The charges of one unit: ``total`` per ``per`` seconds, with ``burst`` seconds at once.

    ``total`` is infinity for a unit that the budget does not limit.

    ``paid_until`` is the time at which all charges are paid for (the theoretical arrival time of
    the algorithm); ``busy_since`` is the start of the current stretch with unpaid charges, as a
    correction of an earlier charge changes nothing any more. ``largest`` is the largest recent
    answer and ``kept_back`` the part of rule 4; both stay 0 for requests.
    """

    total: float
    per: float
    burst: float
    paid_until: float = -math.inf
    busy_since: float = -math.inf
    largest: float = 0.0
    kept_back: float = 0.0
    in_period: float = 0.0
    slices: deque[Slice] = field(default_factory=deque)

    def ready_at(self, now: float, amount: float) -> float:
        """Return the earliest time for a charge: ``now`` if at once, infinity beyond the budget."""
        return self.soonest(now, amount, 0, 0)

    def soonest(self, now: float, amount: float, before: float, open_charges: float) -> float:
        """Return a lower bound of ``ready_at`` once ``before`` more is charged.

        It assumes that ``open_charges``, those under way, turn out to cost nothing.
        """
        if amount > self.total:
            return math.inf
        more = before - open_charges
        paid = max(now, self.paid_until - open_charges * self._time_for_one)
        paid += before * self._time_for_one - self._tolerance(amount)
        amount = min(self.total, amount + max(-self.in_period, more))
        return max(now, paid, self._period_has_room_at(now, amount))

    def charge(self, now: float, amount: float) -> Slice:
        """Charge an amount; return the slice that holds it."""
        if self.paid_until <= now:
            self.busy_since = now
        self.paid_until = max(now, self.paid_until) + amount * self._time_for_one
        self._forget(now)
        self.in_period += amount
        last = self.slices[-1] if self.slices else None
        if last is None or now - last.began >= self.per / _SLICES:
            last = Slice(now, now, amount)
            self.slices.append(last)
        else:
            last.at = now
            last.amount += amount
        return last

    def correct(self, charged_at: float, place: Slice, amount: float) -> None:
        """Add a (negative) amount to an earlier charge."""
        if amount > 0 or charged_at >= self.busy_since:
            self.paid_until += amount * self._time_for_one
        if not place.is_over:
            place.amount += amount
            self.in_period += amount

    def note_answer(self, amount: float) -> None:
        """Learn the tokens of an answer."""
        smaller = self.largest + _LATEST * (amount - self.largest)
        self.largest = min(self.total, max(amount, smaller))
        self.kept_back *= _STILL_KEPT_BACK

    def note_refusal(self) -> None:
        """Learn of a refusal within the budget: rule 4."""
        self.kept_back = _KEPT_BACK * self.largest

    def left(self, now: float) -> float:
        """Return how much of the last period is unused."""
        self._forget(now)
        return max(0.0, self.total - self.in_period)

    @property
    def _time_for_one(self) -> float:
        return self.per * (1 + _ROUNDING) / self.total

    def _tolerance(self, amount: float) -> float:
        """Return the seconds of unpaid charges that are tolerated, less the request itself."""
        largest = self.largest * self._time_for_one
        burst = self.burst * (1 + 2 * _ROUNDING) - self._time_for_one
        return max(0.0, burst, largest - amount * self._time_for_one)

    def _forget(self, now: float) -> None:
        while self.slices and self.slices[0].at + self.per <= now:
            gone = self.slices.popleft()
            gone.is_over = True
            self.in_period -= gone.amount
        if not self.slices:
            self.in_period = 0.0

    def _period_has_room_at(self, now: float, amount: float) -> float:
        self._forget(now)
        over = self.in_period + min(self.total, amount + self.kept_back) - self.total
        if over <= 0:
            return now
        for each in self.slices:
            over -= each.amount
            if over <= 0:
                return each.at + self.per
        return now  # only negative corrections are left


@dataclass(slots=True, eq=False)
class Charge:
    """The charge of one attempt to a budget."""

    at: float
    tokens: int
    of_requests: Slice | None
    of_tokens: Slice | None
    is_settled: bool = False


class Spending:
    """The charges of one budget; ``requests`` and ``tokens`` are their corrected sums."""

    __slots__ = ("_open", "_requests", "_tokens", "budget", "requests", "tokens")

    def __init__(self, budget: Budget) -> None:
        self.budget: Budget = budget
        self.requests: int = 0
        self.tokens: int = 0
        self._requests = Meter(budget.requests or math.inf, budget.per, budget.burst)
        self._tokens = Meter(budget.tokens or math.inf, budget.per, budget.burst)
        self._open = 0  # tokens of unsettled charges

    def ready_at(self, now: float, tokens: int) -> float:
        """Return when a request of so many tokens may go: ``now`` if at once."""
        return max(self._requests.ready_at(now, 1), self._tokens.ready_at(now, tokens))

    def soonest(self, now: float, tokens: int, ahead: int) -> float:
        """Return a lower bound of ``ready_at`` for a request behind ``ahead`` others.

        Those are assumed to cost the average, and the charges under way nothing.
        """
        average = self.tokens / self.requests if self.requests else tokens
        return max(
            self._requests.soonest(now, 1, ahead, 0),
            self._tokens.soonest(now, tokens, ahead * average, self._open),
        )

    def begin_after(self, requests: float, tokens: float) -> None:
        """Treat the budget as spent until two times, of its requests and its tokens."""
        self._requests.paid_until = max(self._requests.paid_until, requests)
        self._tokens.paid_until = max(self._tokens.paid_until, tokens)

    def charge(self, now: float, tokens: int) -> Charge:
        """Charge a request that is sent now."""
        self.requests += 1
        self.tokens += tokens
        self._open += tokens
        of_requests, of_tokens = self._requests.charge(now, 1), self._tokens.charge(now, tokens)
        return Charge(now, tokens, of_requests, of_tokens)

    def settle(self, charge: Charge, tokens: int) -> None:
        """Correct a charge to the tokens that were used; the first correction counts."""
        if not charge.is_settled:
            self._tokens.note_answer(tokens)
        self._correct(charge, tokens)

    def close(self, charge: Charge) -> None:
        """Settle a charge as estimated: its answer did not report its tokens."""
        self._correct(charge, charge.tokens)

    def refuse(self, charge: Charge) -> None:
        """Settle a request that was refused for load: it counts, without tokens."""
        if not charge.is_settled:
            self._tokens.note_refusal()
        self._correct(charge, 0)

    def refund(self, charge: Charge) -> None:
        """Undo a charge: nothing was sent."""
        if charge.is_settled:
            return
        self._correct(charge, 0)
        self.requests -= 1
        if charge.of_requests is not None:
            self._requests.correct(charge.at, charge.of_requests, -1)

    def _correct(self, charge: Charge, tokens: int) -> None:
        if charge.is_settled:
            return
        charge.is_settled = True
        self._open -= charge.tokens
        self.tokens += tokens - charge.tokens
        if charge.of_tokens is not None:
            self._tokens.correct(charge.at, charge.of_tokens, tokens - charge.tokens)

    def left(self, now: float) -> tuple[int | None, int | None]:
        """Return the unused requests and tokens of the last period, ``None`` without a limit."""
        return _whole(self._requests.left(now)), _whole(self._tokens.left(now))


def _whole(amount: float) -> int | None:
    return None if amount == math.inf else int(amount)
