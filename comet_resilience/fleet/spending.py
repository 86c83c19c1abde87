"""One budget as a process of a fleet spends it: what it has drawn, and what it still has to tell.

The limiter asks it when a request may go, as it asks a budget of its own. Requests go at the times
that were drawn for them from the fleet's budget; the coordinator's thread draws (``ask``) and
brings the draws (``conclude``). When none has come for too long, whatever the reason, the process
spends an even part of the budget by itself, and tells the fleet afterwards. Pure.
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

#: Draws that nobody used for so many seconds are given back, and wants are forgotten.
STALE: Final = 1.0
#: So many seconds before the last draw may be used others are drawn, where somebody waits.
REFILL: Final = 0.1
#: How long somebody waits without a word from the fleet before the process spends alone.
ALONE_AFTER: Final = 2.0
#: How soon to look again where nothing is drawn yet.
_LOOK_AGAIN: Final = 0.25
_TYPICAL_SHARE: Final = 0.1
_NOTHING: Final = Amount()


class SharedSpending(Spending):
    """A budget that all processes of a fleet spend together.

    ``waiting`` counts the requests that wait for it. ``wake`` is called, under the limiter's lock,
    when a draw is due sooner than ``planned``, and says why if none can be made.
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
        self._learnt = Meter(budget.tokens or 0, budget.per, budget.burst)
        self._typical = 0.0
        self._serial = 0
        self._sent = self._fresh = _NOTHING
        self._sent_since = self._fresh_since = math.inf
        self._jitter = jitter()
        self._forget()

    def _forget(self) -> None:
        """Begin as one who has drawn nothing; what was not told yet is still to be told."""
        self.planned: float = math.inf
        self._alone: Spending | None = None
        self._alone_since = 0.0
        self._reply: DrawReply | None = None
        self._paid_until = Amount(-math.inf, -math.inf)
        self._stock, self._stock_at = _NOTHING, 0.0
        self._drawn: deque[tuple[float, Amount]] = deque()
        self._asked_at = -math.inf
        self._need: Amount | None = None
        self._need_at = 0.0
        self._waits_since: float | None = None
        self._failures = 0

    # -- What the limiter asks and tells, under its lock ------------------------------------------

    def ready_at(self, now: float, tokens: int) -> float:
        """Return when a request of so many tokens may go: ``now`` if at once."""
        need = self._cost(tokens)
        self._collect(now)
        if self._alone is None and _covers(self._stock, need):
            return now
        at = self._covered_at(need)
        if at == math.inf or self._waiting() > self._unused.requests:
            self._want(now, need)
        if self._alone is not None:
            return self._alone.ready_at(now, tokens)
        return at if at < math.inf else now + _LOOK_AGAIN

    def soonest(self, now: float, tokens: int, ahead: int) -> float:
        """Return the earliest time at which a request may go that stands behind so many others.

        In the fleet nobody knows it: what others have drawn may be given back.
        """
        return now if self._alone is None else self._alone.soonest(now, tokens, ahead)

    def charge(self, now: float, tokens: int) -> Charge:
        """Charge a request that goes now."""
        self.requests += 1
        self.tokens += tokens
        self._typical += _TYPICAL_SHARE * (tokens - self._typical) if self._typical else tokens
        self._need, self._waits_since = None, None
        cost = self._cost(tokens)
        if self._alone is None:
            self._stock -= cost
            return Charge(now, tokens, None, None)
        self._tell(now, cost)
        return self._alone.charge(now, tokens)

    def settle(self, charge: Charge, tokens: int) -> None:
        """Count what it really took, once; what comes later of it is ignored."""
        if not charge.is_settled:
            self._learnt.note_answer(tokens)
            self._settle(charge, tokens)

    def close(self, charge: Charge) -> None:
        """Leave a charge as it was estimated: its answer ended without a word."""
        if (alone := self._charged_by(charge)) is not None:
            alone.close(charge)
        charge.is_settled = True

    def refuse(self, charge: Charge) -> None:
        """Count a refusal for load: a request, and no tokens."""
        if not charge.is_settled:
            self._learnt.note_refusal()
            self._settle(charge, 0)

    def refund(self, charge: Charge) -> None:
        """Take a charge back: nothing was sent."""
        if charge.is_settled:
            return
        cost = self._cost(charge.tokens)
        self.requests -= 1
        self.tokens -= charge.tokens
        if self._alone is None:
            self._stock += cost
        else:
            self._tell(charge.at, _NOTHING - cost)
        if (alone := self._charged_by(charge)) is not None:
            alone.refund(charge)
        charge.is_settled = True

    def _settle(self, charge: Charge, tokens: int) -> None:
        self.tokens += tokens - charge.tokens
        self._tell(charge.at, self._cost(tokens) - self._cost(charge.tokens))
        if (alone := self._charged_by(charge)) is not None:
            alone.settle(charge, tokens)
        charge.is_settled = True

    def _charged_by(self, charge: Charge) -> Spending | None:
        """Return what this process spends alone, if the charge is one of those."""
        return self._alone if charge.at >= self._alone_since else None

    def left(self, now: float) -> tuple[int | None, int | None]:
        """Return the requests and tokens that the last period leaves, as last heard."""
        if self._alone is not None:
            return self._alone.left(now)
        budget, reply = self.budget, self._reply
        if reply is None:
            return budget.requests, budget.tokens
        return (
            None if budget.requests is None else int(reply.left.requests),
            None if budget.tokens is None else int(reply.left.tokens),
        )

    def _cost(self, tokens: int) -> Amount:
        """Return the cost of a request of so many tokens, as far as the budget counts them."""
        return Amount(1, tokens if self.budget.tokens is not None else 0)

    def _tell(self, at: float, correction: Amount) -> None:
        """Keep a correction of what was sent at a time, for the fleet."""
        if correction:
            self._fresh_since = min(self._fresh_since, at)
            self._fresh += correction

    def _collect(self, now: float) -> None:
        """Take the draws whose time has come; give back what nobody has used."""
        if self._stock and now - max(self._stock_at, self._need_at) > STALE:
            self._tell(now, _NOTHING - self._stock)
            self._stock = _NOTHING
        while self._drawn and self._drawn[0][0] <= now:
            self._stock_at, amount = self._drawn.popleft()
            self._stock += amount
            if now - self._stock_at > STALE:  # long overdue: together they would be a burst
                self._tell(now, _NOTHING - amount)
                self._stock -= amount

    def _covered_at(self, need: Amount) -> float:
        """Return when what is drawn allows for a request, infinity if it does not."""
        covered = self._stock
        for at, amount in self._drawn:
            covered += amount
            if _covers(covered, need):
                return at
        return math.inf

    def _want(self, now: float, need: Amount) -> None:
        if self._need is None or now - self._need_at > STALE:  # also where all stood still
            self._waits_since = now
        self._need, self._need_at = need, now
        if self._alone is None and self._is_forsaken(now):
            self._go_alone(now)
        elif self.due_at() < self.planned:
            self.planned = -math.inf  # no need to say it twice
            if self._wake(self):  # nobody can ask
                self._asked_at = now
                self.planned = math.inf
                self._failures += 1
                if self._alone is None:
                    self._go_alone(now)

    def _is_forsaken(self, now: float) -> bool:
        """Tell whether somebody has waited for too long without a word from the fleet."""
        is_overdue = self._waits_since is not None and now - self._waits_since > ALONE_AFTER
        return is_overdue and now - self._asked_at > ALONE_AFTER and not self._drawn

    # -- What the coordinator asks, and brings -----------------------------------------------------

    def due_at(self) -> float:
        """Return when to draw next, on this process' clock; never while nothing is to be told."""
        regular = self._asked_at + RENEW_EVERY * (0.5 + self._jitter)
        if self._alone is None and self._need is not None and not self._failures:
            return max(self._asked_at + self._gap, self._drawn_until - REFILL)
        is_busy = self._need is not None or self._unused or self._fresh or self._sent
        return regular if is_busy else math.inf

    def ask(self, now: float) -> DrawRequest:
        """Return what to draw, and to tell."""
        self._asked_at = now
        self._jitter = self._next_jitter()
        self._collect(now)
        if self._need is not None and now - self._need_at > STALE and not self._waiting():
            self._need, self._waits_since = None, None
        if not self._sent and self._fresh:
            self._hand_over(self._fresh)
        return DrawRequest(
            member=self.member,
            budget=self.budget,
            ttl=time_to_live(self._members),
            serial=self._serial,
            wants=self._wants(),
            has_unused=self._drawn_until > now + REFILL,
            corrections=self._sent,
            age=max(0.0, now - self._sent_since) if self._sent else 0.0,
            depth=self._learnt.largest,
            kept_back=self._learnt.kept_back,
            paid_for=Amount(self._paid_until.requests - now, self._paid_until.tokens - now),
            held=self._held,
        )

    def conclude(self, request: DrawRequest, result: DrawReply | Exception, now: float) -> None:
        """Take what came of a draw."""
        if not isinstance(result, DrawReply):
            self._failures += 1
            is_left = bool(self._drawn) or _covers(self._stock, self._need or _NOTHING)
            if self._alone is None and self._need is not None and not is_left:
                self._go_alone(now)
            return
        self._failures = 0
        self._alone, self._reply, self._sent = None, result, _NOTHING
        self._waits_since = now
        paid = result.paid_for
        self._paid_until = Amount(now + paid.requests, now + paid.tokens)
        draws = zip(result.delays, request.wants, strict=False)
        times = [(now + delay, amount) for delay, amount in draws]
        self._drawn = deque(sorted([*self._drawn, *times], key=lambda draw: draw[0]))

    def leave(self, now: float) -> DrawRequest | None:
        """Give back what was not used, and forget the fleet; ``None`` if nothing is to be told."""
        has_told = self._reply is not None
        if not self._sent:
            self._hand_over(self._fresh - self._unused)
        request = replace(self.ask(now), ttl=0.0, wants=())
        self._forget()
        self._sent = self._fresh = _NOTHING
        return request if has_told or request.corrections else None

    def _hand_over(self, corrections: Amount) -> None:
        """Give what is to be told a number: until it has arrived nothing else is told."""
        self._sent, self._fresh = corrections, _NOTHING
        self._sent_since, self._fresh_since = self._fresh_since, math.inf
        self._serial += 1

    def _wants(self) -> tuple[Amount, ...]:
        """Return what to draw: for the first who waits what is missing, for others the usual."""
        if self._need is None or self._alone is not None:
            return ()  # what a silent server did later would be lost
        unused = self._unused
        missing = self._need - unused
        first = Amount(max(0.0, missing.requests), max(0.0, missing.tokens))
        tokens = (self._typical or self._need.tokens) if self.budget.tokens is not None else 0.0
        number = min(self._waiting(), MOST_DRAWN) - max(1, math.floor(unused.requests))
        others = (Amount(1, min(tokens, self.budget.tokens or 0)),) * max(0, number)
        return ((first,) if first else ()) + others

    @property
    def _unused(self) -> Amount:
        """Return all that was drawn and not used."""
        return sum((amount for _, amount in self._drawn), self._stock)

    @property
    def _drawn_until(self) -> float:
        """Return when the last of the draws may be used."""
        return self._drawn[-1][0] if self._drawn else -math.inf

    @property
    def _gap(self) -> float:
        """Return the least seconds between two draws."""
        return max(GAP, self._members * GAP_PER_MEMBER)

    @property
    def _members(self) -> int:
        return self._reply.members if self._reply is not None else 1

    @property
    def _held(self) -> Amount:
        """Return what the last period holds, as last heard."""
        if self._reply is None:
            return _NOTHING
        total = Amount(self.budget.requests or 0, self.budget.tokens or 0)
        return total - self._reply.left

    def _go_alone(self, now: float) -> None:
        """Spend an even part of the budget, once what is known to be drawn has been spent.

        The part is one of time: a request that takes much of the budget may still go.
        """
        part = min(LONGEST, self.budget.per * self._members)
        self._alone, self._alone_since = Spending(replace(self.budget, per=part)), now
        self._alone.begin_after(self._paid_until.requests, self._paid_until.tokens)


def _covers(stock: Amount, need: Amount) -> bool:
    return stock.requests >= need.requests and stock.tokens >= need.tokens
