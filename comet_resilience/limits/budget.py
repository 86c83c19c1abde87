"""A budget: so many requests and tokens in so much time, as the caller was told. Pure.

Three rules say when a request may go:

1. The state counts in virtual time: the generic cell rate algorithm, in its virtual scheduling form
   (ITU-T I.371, annex A). Each charge is paid for by the time that the budget needs to earn it, and
   nothing is sent before what went before is paid for, or all but ``burst`` seconds of it.
2. No period holds more than the budget, wherever it begins: not at the edge of a server's window,
   nor after a burst.
3. Tokens are known only once the answer ends. What was charged too much is worth something only
   while the bucket is not full, and a bucket without a burst is full at each send: half of all
   errors would be lost. So a bucket of tokens is as deep as the largest of the latest answers: a
   server that admitted it has room for it. The envelope is that of evenly spaced requests, so many
   tokens at once and the rate from then on. A refusal in spite of the budget says that a period
   was fuller than counted: twice that largest answer is then kept back of it, a little less with
   each answer.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: The name under which a budget counts all models that have none of their own.
EVERY_MODEL: Final = "*"
#: A period is remembered in at most so many slices; what a slice holds leaves it all at once.
_SLICES: Final = 512
#: Keeps the rounding of a long sum from admitting one too many.
_ROUNDING: Final = 1e-9
#: By so much of the difference a smaller answer lowers what counts as the largest of the latest.
_LATEST: Final = 0.05
#: Largest answers that are kept back after a refusal, and what each further answer leaves of them.
_KEPT_BACK: Final = 2.0
_STILL_KEPT_BACK: Final = 0.99
#: The longest period of a budget, in seconds.
LONGEST: Final = 31 * 86_400.0
_MOST: Final = 10**12


@dataclass(frozen=True, slots=True)
class Budget:
    """The requests and tokens that an account or a model is allowed: ``wrap(budget=...)``.

    ``requests`` and ``tokens`` are allowed in each ``per`` seconds; at least one is given.
    ``burst`` says how much may go at once after a pause, as the number of seconds that earn it: 0
    spaces requests evenly, which no server refuses, ``burst=per`` sends the whole budget at once,
    which only servers with a window of that length or a bucket of that size accept.

    Raises:
        ValueError: If neither is given, or a value is out of its bounds.

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
    """The cost of one attempt: a request, and tokens as estimated.

    ``is_bound`` says that the request itself bounds its answer, by ``output_tokens``.
    """

    model: str
    prompt_tokens: int = 0
    output_tokens: int = 0
    is_bound: bool = False

    def tokens_of(self, budget: Budget) -> int:
        """Return the tokens to charge: of an answer without a bound no more than there can be."""
        tokens = self.prompt_tokens + self.output_tokens
        if budget.tokens is None or self.is_bound:
            return tokens
        return max(self.prompt_tokens, min(tokens, budget.tokens))


@dataclass(frozen=True, slots=True)
class Shortage:
    """A budget that has room for a request too late for it, in so many ``seconds`` at best.

    ``answer`` is how long (seconds) answers take to begin, 0 while unknown.
    """

    budget: Budget
    seconds: float
    answer: float


@dataclass(slots=True, eq=False)
class Slice:
    """A part of the last period: when its last charge was made, and how much it holds."""

    began: float
    at: float
    amount: float
    is_over: bool = False


@dataclass(slots=True, eq=False)
class Meter:
    """One amount per period (seconds), and what has been charged of it.

    ``paid_until`` is when all that was charged will be paid for; ``busy_since`` is since when it
    has never been, so that a charge which is corrected later moves only the time that it moved.
    ``largest`` is the largest of the latest answers, ``kept_back`` what no period holds although
    the budget allows it; both are 0 where the cost of a request is known when it is sent.
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
        """Return when so much may be charged: ``now`` if at once, infinity if it is too much."""
        if amount > self.total:
            return math.inf
        paid = self.paid_until - self._tolerance(amount)
        return max(now, paid, self._period_has_room_at(now, amount))

    def soonest(self, now: float, amount: float, before: float, open_charges: float) -> float:
        """Return the earliest time at which so much could go, once ``before`` has gone.

        That is if what is under way (``open_charges``) turns out to take nothing.
        """
        if amount > self.total:
            return math.inf
        more = before - open_charges
        paid = max(now, self.paid_until - open_charges * self._time_for_one)
        paid += before * self._time_for_one - self._tolerance(amount)
        amount = min(self.total, amount + max(-self.in_period, more))
        return max(now, paid, self._period_has_room_at(now, amount))

    def charge(self, now: float, amount: float) -> Slice:
        """Charge so much, and return where it is remembered."""
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
        """Count so much more, or less, of what was charged at a time."""
        if amount > 0 or charged_at >= self.busy_since:
            self.paid_until += amount * self._time_for_one
        if not place.is_over:
            place.amount += amount
            self.in_period += amount

    def note_answer(self, amount: float) -> None:
        """Learn what an answer took."""
        smaller = self.largest + _LATEST * (amount - self.largest)
        self.largest = min(self.total, max(amount, smaller))
        self.kept_back *= _STILL_KEPT_BACK

    def note_refusal(self) -> None:
        """Learn that the server had no room although the budget had some."""
        self.kept_back = _KEPT_BACK * self.largest

    def left(self, now: float) -> float:
        """Return how much of the budget the last period has not used."""
        self._forget(now)
        return max(0.0, self.total - self.in_period)

    @property
    def _time_for_one(self) -> float:
        return self.per * (1 + _ROUNDING) / self.total

    def _tolerance(self, amount: float) -> float:
        """Return how much earlier than paid for: what is sent itself is part of the burst."""
        largest = self.largest * self._time_for_one
        told = self.burst * (1 + 2 * _ROUNDING) - self._time_for_one
        return max(0.0, told, largest - amount * self._time_for_one)

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
        return now  # what is corrected below zero leaves nothing behind


@dataclass(slots=True, eq=False)
class Charge:
    """One attempt as it was charged to a budget."""

    at: float
    tokens: int
    of_requests: Slice | None
    of_tokens: Slice | None
    is_settled: bool = False


class Spending:
    """The spending of one budget.

    ``requests`` and ``tokens`` are all that was ever charged, as corrected since.
    """

    __slots__ = ("_open", "_requests", "_tokens", "budget", "requests", "tokens")

    def __init__(self, budget: Budget) -> None:
        self.budget: Budget = budget
        self.requests: int = 0
        self.tokens: int = 0
        self._requests = _meter(budget.requests, budget)
        self._tokens = _meter(budget.tokens, budget)
        self._open = 0  # tokens of charges that are not settled yet

    def ready_at(self, now: float, tokens: int) -> float:
        """Return when a request of so many tokens may go: ``now`` if at once."""
        at = now if self._requests is None else self._requests.ready_at(now, 1)
        return at if self._tokens is None else max(at, self._tokens.ready_at(now, tokens))

    def soonest(self, now: float, tokens: int, ahead: int) -> float:
        """Return the earliest time at which a request may go that stands behind so many others.

        They are taken to cost what requests did on average, and what is under way to cost nothing
        in the end.
        """
        at = now if self._requests is None else self._requests.soonest(now, 1, ahead, 0)
        if self._tokens is None:
            return at
        average = self.tokens / self.requests if self.requests else tokens
        return max(at, self._tokens.soonest(now, tokens, ahead * average, self._open))

    def begin_after(self, requests: float, tokens: float) -> None:
        """Take all requests and tokens until two times for spent."""
        for meter, until in ((self._requests, requests), (self._tokens, tokens)):
            if meter is not None:
                meter.paid_until = max(meter.paid_until, until)

    def charge(self, now: float, tokens: int) -> Charge:
        """Charge a request that goes now."""
        self.requests += 1
        self.tokens += tokens
        self._open += tokens
        return Charge(
            now,
            tokens,
            None if self._requests is None else self._requests.charge(now, 1),
            None if self._tokens is None else self._tokens.charge(now, tokens),
        )

    def settle(self, charge: Charge, tokens: int) -> None:
        """Count what it really took, once; what comes later of it is ignored."""
        if not charge.is_settled and self._tokens is not None:
            self._tokens.note_answer(tokens)
        self._correct(charge, tokens)

    def close(self, charge: Charge) -> None:
        """Leave a charge as it was estimated: its answer ended without a word."""
        self._correct(charge, charge.tokens)

    def refuse(self, charge: Charge) -> None:
        """Count a refusal for load: a request, and no tokens."""
        if not charge.is_settled and self._tokens is not None:
            self._tokens.note_refusal()
        self._correct(charge, 0)

    def refund(self, charge: Charge) -> None:
        """Take a charge back: nothing was sent."""
        if charge.is_settled:
            return
        self._correct(charge, 0)
        self.requests -= 1
        if self._requests is not None and charge.of_requests is not None:
            self._requests.correct(charge.at, charge.of_requests, -1)

    def _correct(self, charge: Charge, tokens: int) -> None:
        if charge.is_settled:
            return
        charge.is_settled = True
        self._open -= charge.tokens
        self.tokens += tokens - charge.tokens
        if self._tokens is not None and charge.of_tokens is not None:
            self._tokens.correct(charge.at, charge.of_tokens, tokens - charge.tokens)

    def left(self, now: float) -> tuple[int | None, int | None]:
        """Return the requests and tokens that the last period has not used."""
        requests, tokens = self._requests, self._tokens
        return (
            None if requests is None else int(requests.left(now)),
            None if tokens is None else int(tokens.left(now)),
        )


def _meter(amount: int | None, budget: Budget) -> Meter | None:
    return None if amount is None else Meter(amount, budget.per, budget.burst)
