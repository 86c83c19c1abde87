"""One budget of a fleet in one process: its draws, and the corrections that it has to report. Pure.

For the limiter it is a budget like any other. Requests are sent at the times drawn for them from
the fleet's budget; the coordinator's thread sends the draw requests (``ask``) and delivers the
draws (``conclude``). When none arrives in time, for whatever reason, the process spends an even
part of the budget by itself, and reports it to the fleet afterwards.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ..limits.budget import LONGEST, Budget, Charge, Meter, Spending
from .draws import MOST_DRAWN, Amount, DrawReply, DrawRequest
from .pace import GAP, GAP_PER_MEMBER, RENEW_EVERY, time_to_live

#: Draws that are unused for so many seconds are returned, and wants are dropped.
STALE: Final = 1.0
#: Where requests wait, the next draw is made so many seconds before the last one may be used.
REFILL: Final = 0.1
#: Seconds that a request waits without a reply before the process spends by itself.
LOCAL_AFTER: Final = 2.0
#: Seconds until the next look while nothing is drawn yet.
_LOOK_AGAIN: Final = 0.25
_TYPICAL_SHARE: Final = 0.1
_NOTHING: Final = Amount()


class SharedSpending(Spending):
    """A budget that all processes of a fleet spend together.

    ``waiting`` counts the requests that wait for it. ``wake`` is called, under the limiter's lock,
    when a draw is due sooner than ``planned``, and returns why none is possible.
    """

    def __init__(
        self,
        budget: Budget,
        member: str,
        key: str,
        waiting: Callable[[], int],
        wake: Callable[[SharedSpending], str],
        jitter: Callable[[], float],
    ) -> None:
        super().__init__(budget)
        self.requests: int
        self.tokens: int
        self.member: str = member
        self.key: str = key
        self._waiting, self._wake, self._next_jitter = waiting, wake, jitter
        self._meter = Meter(budget.tokens or 0, budget.per, budget.burst)
        self._typical = 0.0
        self._serial = 0
        self._unconfirmed = self._unreported = _NOTHING
        self._unconfirmed_since = self._unreported_since = math.inf
        self._jitter = jitter()
        self._reset()

    def _reset(self) -> None:
        """Start without draws; corrections that were not reported are kept."""
        self.planned: float = math.inf
        self._local: Spending | None = None
        self._local_since = 0.0
        self._reply: DrawReply | None = None
        self._paid_until = Amount(-math.inf, -math.inf)
        self._stock, self._stock_at = _NOTHING, 0.0
        self._drawn: deque[tuple[float, Amount]] = deque()
        self._asked_at = -math.inf
        self._need: Amount | None = None
        self._need_at = 0.0
        self._waits_since: float | None = None
        self._failures = 0

    # -- Called by the limiter, under its lock ----------------------------------------------------

    def ready_at(self, now: float, tokens: int) -> float:
        """Return when a request of that many tokens may be sent: ``now`` if at once."""
        need = self._cost(tokens)
        self._collect(now)
        if self._local is None and _covers(self._stock, need):
            return now
        at = self._covered_at(need)
        if at == math.inf or self._waiting() > self._unused.requests:
            self._want(now, need)
        if self._local is not None:
            return self._local.ready_at(now, tokens)
        return at if at < math.inf else now + _LOOK_AGAIN

    def soonest(self, now: float, tokens: int, ahead: int) -> float:
        """Return the earliest time for a request that is behind ``ahead`` others.

        In a fleet it is unknown: other members may return what they have drawn.
        """
        return now if self._local is None else self._local.soonest(now, tokens, ahead)

    def charge(self, now: float, tokens: int) -> Charge:
        """Charge a request that is sent now."""
        self.requests += 1
        self.tokens += tokens
        self._typical += _TYPICAL_SHARE * (tokens - self._typical) if self._typical else tokens
        self._need, self._waits_since = None, None
        cost = self._cost(tokens)
        if self._local is None:
            self._stock -= cost
            return Charge(now, tokens, None, None)
        self._add_correction(now, cost)
        return self._local.charge(now, tokens)

    def settle(self, charge: Charge, tokens: int) -> None:
        """Replace the estimate by the actual tokens, once."""
        if not charge.is_settled:
            self._meter.note_answer(tokens)
            self._settle(charge, tokens)

    def close(self, charge: Charge) -> None:
        """Keep the estimate of a charge: its answer did not name its tokens."""
        if (local := self._charged_by(charge)) is not None:
            local.close(charge)
        charge.is_settled = True

    def refuse(self, charge: Charge) -> None:
        """Count a refusal for load: a request, and no tokens."""
        if not charge.is_settled:
            self._meter.note_refusal()
            self._settle(charge, 0)

    def refund(self, charge: Charge) -> None:
        """Take a charge back: nothing was sent."""
        if charge.is_settled:
            return
        cost = self._cost(charge.tokens)
        self.requests -= 1
        self.tokens -= charge.tokens
        if self._local is None:
            self._stock += cost
        else:
            self._add_correction(charge.at, _NOTHING - cost)
        if (local := self._charged_by(charge)) is not None:
            local.refund(charge)
        charge.is_settled = True

    def _settle(self, charge: Charge, tokens: int) -> None:
        self.tokens += tokens - charge.tokens
        self._add_correction(charge.at, self._cost(tokens) - self._cost(charge.tokens))
        if (local := self._charged_by(charge)) is not None:
            local.settle(charge, tokens)
        charge.is_settled = True

    def _charged_by(self, charge: Charge) -> Spending | None:
        """Return the local spending if the charge belongs to it."""
        return self._local if charge.at >= self._local_since else None

    def left(self, now: float) -> tuple[int | None, int | None]:
        """Return the requests and tokens that the last period leaves, by the last reply."""
        if self._local is not None:
            return self._local.left(now)
        budget, reply = self.budget, self._reply
        if reply is None:
            return budget.requests, budget.tokens
        return (
            None if budget.requests is None else int(reply.left.requests),
            None if budget.tokens is None else int(reply.left.tokens),
        )

    def _cost(self, tokens: int) -> Amount:
        """Return the cost of a request; tokens cost nothing if the budget does not count them."""
        return Amount(1, tokens if self.budget.tokens is not None else 0)

    def _add_correction(self, at: float, correction: Amount) -> None:
        """Keep a correction of what was sent at a time, for the next report."""
        if correction:
            self._unreported_since = min(self._unreported_since, at)
            self._unreported += correction

    def _collect(self, now: float) -> None:
        """Move draws whose time has come into the stock; return what is unused."""
        if self._stock and now - max(self._stock_at, self._need_at) > STALE:
            self._add_correction(now, _NOTHING - self._stock)
            self._stock = _NOTHING
        while self._drawn and self._drawn[0][0] <= now:
            self._stock_at, amount = self._drawn.popleft()
            self._stock += amount
            if now - self._stock_at > STALE:  # long overdue: together they would be a burst
                self._add_correction(now, _NOTHING - amount)
                self._stock -= amount

    def _covered_at(self, need: Amount) -> float:
        """Return when the draws cover a request, infinity if they do not."""
        covered = self._stock
        for at, amount in self._drawn:
            covered += amount
            if _covers(covered, need):
                return at
        return math.inf

    def _want(self, now: float, need: Amount) -> None:
        if self._need is None or now - self._need_at > STALE:  # or after a pause of everything
            self._waits_since = now
        self._need, self._need_at = need, now
        if self._local is None and self._waited_too_long(now):
            self._go_local(now)
        elif self.due_at() < self.planned:
            self.planned = -math.inf  # wake it once
            if self._wake(self):  # no thread
                self._asked_at = now
                self.planned = math.inf
                self._failures += 1
                if self._local is None:
                    self._go_local(now)

    def _waited_too_long(self, now: float) -> bool:
        """Return whether a request has waited too long without a reply."""
        is_overdue = self._waits_since is not None and now - self._waits_since > LOCAL_AFTER
        return is_overdue and now - self._asked_at > LOCAL_AFTER and not self._drawn

    # -- Called by the coordinator -----------------------------------------------------------------

    def due_at(self) -> float:
        """Return the time of the next draw, by this process' clock; infinity while unused."""
        regular = self._asked_at + RENEW_EVERY * (0.5 + self._jitter)
        if self._local is None and self._need is not None and not self._failures:
            gap = max(GAP, self._members * GAP_PER_MEMBER)
            return max(self._asked_at + gap, self._drawn_until - REFILL)
        is_busy = self._need is not None or self._unused or self._unreported or self._unconfirmed
        return regular if is_busy else math.inf

    def ask(self, now: float) -> DrawRequest:
        """Return the next draw request, with corrections."""
        self._asked_at = now
        self._jitter = self._next_jitter()
        self._collect(now)
        if self._need is not None and now - self._need_at > STALE and not self._waiting():
            self._need, self._waits_since = None, None
        if not self._unconfirmed and self._unreported:
            self._number_corrections(self._unreported)
        total = Amount(self.budget.requests or 0, self.budget.tokens or 0)
        return DrawRequest(
            member=self.member,
            budget=self.budget,
            ttl=time_to_live(self._members),
            serial=self._serial,
            wants=self._wants(),
            has_unused=self._drawn_until > now + REFILL,
            corrections=self._unconfirmed,
            age=max(0.0, now - self._unconfirmed_since) if self._unconfirmed else 0.0,
            depth=self._meter.largest,
            kept_back=self._meter.kept_back,
            paid_for=Amount(self._paid_until.requests - now, self._paid_until.tokens - now),
            held=total - self._reply.left if self._reply else _NOTHING,
        )

    def conclude(self, request: DrawRequest, result: DrawReply | Exception, now: float) -> None:
        """Apply the result of a draw."""
        if not isinstance(result, DrawReply):
            self._failures += 1
            is_left = bool(self._drawn) or _covers(self._stock, self._need or _NOTHING)
            if self._local is None and self._need is not None and not is_left:
                self._go_local(now)
            return
        self._failures = 0
        self._local, self._reply, self._unconfirmed = None, result, _NOTHING
        self._waits_since = now
        paid = result.paid_for
        self._paid_until = Amount(now + paid.requests, now + paid.tokens)
        draws = zip(result.delays, request.wants, strict=False)
        times = [(now + delay, amount) for delay, amount in draws]
        self._drawn = deque(sorted([*self._drawn, *times], key=lambda draw: draw[0]))

    def leave(self, now: float) -> DrawRequest | None:
        """Return the request that returns unused draws; ``None`` if there is nothing to report."""
        has_joined = self._reply is not None
        if not self._unconfirmed:
            self._number_corrections(self._unreported - self._unused)
        request = replace(self.ask(now), ttl=0.0, wants=())
        self._reset()
        self._unconfirmed = self._unreported = _NOTHING
        return request if has_joined or request.corrections else None

    def _number_corrections(self, corrections: Amount) -> None:
        """Give corrections a serial: no others are reported until they have arrived."""
        self._unconfirmed, self._unreported = corrections, _NOTHING
        self._unconfirmed_since, self._unreported_since = self._unreported_since, math.inf
        self._serial += 1

    def _wants(self) -> tuple[Amount, ...]:
        """Return what to draw: what the first waiting request lacks, averages for others."""
        if self._need is None or self._local is not None:
            return ()  # a server that replies too late would lose them
        unused = self._unused
        missing = self._need - unused
        first = Amount(max(0.0, missing.requests), max(0.0, missing.tokens))
        tokens = (self._typical or self._need.tokens) if self.budget.tokens is not None else 0.0
        number = min(self._waiting(), MOST_DRAWN) - max(1, math.floor(unused.requests))
        others = (Amount(1, min(tokens, self.budget.tokens or 0)),) * max(0, number)
        return ((first,) if first else ()) + others

    @property
    def _unused(self) -> Amount:
        """Return all unused draws."""
        return sum((amount for _, amount in self._drawn), self._stock)

    @property
    def _drawn_until(self) -> float:
        """Return the time of the last draw."""
        return self._drawn[-1][0] if self._drawn else -math.inf

    @property
    def _members(self) -> int:
        return self._reply.members if self._reply is not None else 1

    def _go_local(self, now: float) -> None:
        """Spend an even part of the budget, once what is known to be drawn is paid for.

        Its period is longer, not its amount smaller: a large request stays possible.
        """
        part = min(LONGEST, self.budget.per * self._members)
        self._local, self._local_since = Spending(replace(self.budget, per=part)), now
        self._local.begin_after(self._paid_until.requests, self._paid_until.tokens)


def _covers(stock: Amount, need: Amount) -> bool:
    return stock.requests >= need.requests and stock.tokens >= need.tokens
