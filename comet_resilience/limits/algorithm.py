"""The adaptive limit on concurrency, and the reasons of its changes. Pure: ``now`` is an argument.

A gateway that refuses above a hidden capacity gives one bit of feedback for each attempt: accepted
or refused. ``StepBack`` uses it as follows:

1. ``level`` is the number in flight that was accepted, ``allowance`` how many more may be tried;
   the limit is their sum, within its bounds. It starts with level 0 and the configured allowance.
2. An attempt sent above the level is a probe. It counts as accepted when its answer begins, or
   after a second without a refusal. Then the level rises to where it was sent, and the allowance
   widens by as much (1, 2, 4, then 4 or a quarter of the level), so growth happens only where
   requests really were in flight. No acceptance lowers the limit.
3. A refused probe lowers the level to what is in flight now, which the gateway did accept, and
   growth holds. Nothing is cut by a factor.
4. One refusal at or below the level may be noise and changes nothing. Two in a row lower the level
   to one below what is in flight, and growth holds. Refusals of attempts that were sent before the
   last step back add nothing new: they lower the level to what is in flight at most. "In a row"
   means numbered one after the other as sent, in whatever order the refusals arrive.
5. A hold lasts 1.5 to 10 s (+-20 %), and until two attempts were accepted for each second of it,
   but at most 4.5 times as long; then one probe is allowed. A refused probe doubles the next hold,
   an accepted one halves it, and so does rule 4.
6. If answers begin within half a second, the shortest hold and closure shrink in proportion, to a
   tenth at most: a probe costs less there, and a second without growth more.
7. Three refusals in a row close the gate: slots that are released are not reused, and ``minimum``
   does not hold. One probe is sent as a canary after half a hold, 1 to 5 s but no longer than
   ``longest``, times 1 - 1/``present``; or after the server's Retry-After if that is longer. If it
   is accepted the gate opens and rule 2 applies again. If it is refused, or was counted as accepted
   too soon, its number continues the row and the gate closes again.
8. A Retry-After of more than 5 s is tested once by a canary that does not wait for it. If that is
   refused such hints bind. If anything sent later is answered long before such a time they do not,
   unless three canaries in a row that did not wait are refused. (Not in a fleet, whose canaries
   belong to all.)
9. Until the first step back growth is quicker: the allowance widens to its initial value, or to
   four fifths of the level, and silence counts as acceptance after the quickest time to an answer,
   a quarter of a second at least, as a refusal mostly arrives sooner than an answer. This holds for
   accounts, below one that is known to accept twice as many, and once a caller waits that gives up
   within a minute; then a quarter of a second of silence is enough at once. (Not for partitions of
   a fleet, whose members learn of each other too late.)

Rates are not learnt here: ``spacing`` does that. It may ask for an early probe, and refusals that a
rate explains are not reported to this module. The constants were tuned with the tables of
``python -m tests.bench.simulate`` and ``python -m tests.bench.rates``: change one only with these.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

#: The allowance grows to the larger of a number and one in so many of the level.
WIDEST_ALLOWANCE: Final = 4
ALLOWANCE_SHARE: Final = 4
#: The share of the level with rule 9, and the most that an account's limit may reach.
START_SHARE: Final = 0.8
ACCOUNT_MOST: Final = 100_000
#: Seconds after which a probe that was not refused counts as accepted, and the least with rule 9.
VERDICT_TIME: Final = 1.0
QUICK_VERDICT: Final = 0.25
#: Seconds of a hold, and the random share that keeps clients from probing in step.
HOLD_MIN: Final = 1.5
HOLD_MAX: Final = 10.0
HOLD_SPREAD: Final = 0.2
#: Rule 6: the time to the first byte (seconds) below which holds shorten, the shortest share of
#: them, and the weight of the latest answer in its average.
UNHURRIED_ANSWER: Final = 0.5
HASTE_MOST: Final = 0.1
ANSWER_TIME_SHARE: Final = 0.2
#: Acceptances per second of a hold that end it, and the factor to its length without them.
HOLD_QUOTA: Final = 2.0
HOLD_STRETCH: Final = 4.5
#: Refusals in a row that lower the level, and that close the gate.
REFUSALS_TO_LOWER: Final = 2
REFUSALS_TO_CLOSE: Final = 3
#: Refusals that are kept, to find rows although responses overtake each other.
REFUSALS_KEPT: Final = 64
#: Seconds of a closure without a Retry-After; the most of a Retry-After that counts, and the random
#: share by which it is extended, so that clients do not come back together.
CLOSED_MIN: Final = 1.0
CLOSED_MAX: Final = 5.0
RETRY_AFTER_MAX: Final = 60.0
RETRY_AFTER_SPREAD: Final = 0.05
#: Refused canaries in a row after which a hint that was disproved binds again.
REFUSALS_TO_BELIEVE: Final = 3
#: ``present`` until it is set: so many that a closure is not shortened.
_MANY: Final = 1_000_000


@dataclass(slots=True, eq=False)
class Ticket:
    """One attempt: its number, how many were in flight with it, and when it was sent (seconds).

    It ``is_probe`` if it was sent above the level that was known to be accepted.
    """

    number: int
    in_flight: int
    sent_at: float
    decided: bool = False
    is_probe: bool = False


class LimitAlgorithm(Protocol):
    """The interface of a limit algorithm: ``wrap(algorithm=...)`` makes one for each partition.

    All methods are called under a lock and must not wait. ``now`` is in seconds on a monotonic
    clock, ``in_flight`` the number of attempts under way after the event, ``jitter`` a random
    number in [0, 1). The limiter sends while ``in_flight < limit`` and calls ``tick`` no later than
    ``wake_at``. An algorithm that spaces attempts in time also has a property ``ready``: the
    limiter sends nothing while it is false, and ``wake_at`` says when it will be true.
    """

    @property
    def limit(self) -> int:
        """Return how many may be in flight now; 0 while closed."""
        ...

    @property
    def closed_until(self) -> float | None:
        """Return the time of the next (or last) canary; ``None`` while the gate is open."""
        ...

    @property
    def wake_at(self) -> float | None:
        """Return the time at which the limit may rise by itself, ``None`` if it will not."""
        ...

    @property
    def reason(self) -> str:
        """Return the reason of the last change, in words."""
        ...

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Return the ticket of an attempt that is sent."""
        ...

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Note that its answer has begun."""

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Note that it was refused for load."""

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Note that its slot is released; called after ``accepted`` or ``refused``, if any."""

    def tick(self, now: float) -> None:
        """Do what is due by now."""


@dataclass(slots=True)
class StepBack:
    """Step back to what was accepted, and probe one request at a time: see the module's docstring.

    ``initial``, ``minimum`` and ``maximum`` are requests in flight. While the gate is closed the
    limit may be below ``minimum``, down to 0. ``longest`` (seconds) bounds closures without a
    Retry-After; ``tests_hints`` turns on rule 8, ``starts_quickly`` rule 9. ``present`` counts the
    requests that wait, run or are between two attempts.
    """

    initial: int
    minimum: int
    maximum: int
    longest: float = field(default=CLOSED_MAX, kw_only=True)
    tests_hints: bool = field(default=False, kw_only=True)
    starts_quickly: bool = field(default=False, kw_only=True)
    present: int = field(default=_MANY, kw_only=True)
    hints_disproved: bool = field(default=False, init=False, compare=False)
    level: int = 0
    allowance: int = 0
    hold: float = HOLD_MIN
    closed_until: float | None = None
    reason: str = "start"
    answer_time: float = UNHURRIED_ANSWER
    numbered: int = 0
    last_step: int = 0
    _hold_until: float | None = None
    _hold_latest: float = 0.0
    _hold_quota: int = 0
    refused_numbers: deque[int] = field(default_factory=lambda: deque(maxlen=REFUSALS_KEPT))
    _probes: deque[Ticket] = field(default_factory=deque)
    _hints_proven: bool = field(default=False, init=False, compare=False)
    _hint_until: float = field(default=0.0, init=False, compare=False)
    _hinted_at: int = field(default=0, init=False, compare=False)
    _canaries_refused: int = field(default=0, init=False, compare=False)
    _verdict_time: float = field(default=VERDICT_TIME, init=False, compare=False)
    _hurries: bool = field(default=False, init=False, compare=False)

    def __repr__(self) -> str:
        return f"StepBack({self.initial}, {self.minimum}, {self.maximum})"

    def __post_init__(self) -> None:
        self.allowance = max(self.minimum, min(self.initial, self.maximum))

    @property
    def limit(self) -> int:
        """Return how many may be in flight now; 0 while closed and drained."""
        limit = self.level + self.allowance
        if limit > self.maximum:
            return self.maximum
        return self.minimum if limit < self.minimum and self.closed_until is None else limit

    def hurry(self) -> None:
        """Follow rule 9: a caller waits that cannot afford a slow start."""
        self._hurries = True
        if not self.last_step:
            self._verdict_time = QUICK_VERDICT

    @property
    def _is_quick(self) -> bool:
        return (self.starts_quickly or self._hurries) and not self.last_step

    @property
    def holds_still(self) -> bool:
        """Return True if nothing may be tried above the level, as after a step back."""
        return self.allowance == 0

    def note_account(self, level: int) -> None:
        """Turn on rule 9 below an account that is known to accept twice as many."""
        self.starts_quickly = 0 < 2 * self.level <= level

    def is_above(self, ticket: Ticket) -> bool:
        """Return True if an attempt was sent above the level of then or of now."""
        return ticket.is_probe or ticket.in_flight > self.level

    def has_heard_of(self, ticket: Ticket) -> bool:
        """Return True if ``refused`` was called for this attempt."""
        return ticket.number in self.refused_numbers

    @property
    def wake_at(self) -> float | None:
        """Return the end of the hold, or the time at which a probe counts as accepted."""
        if self._hold_until is not None:
            return self._hold_ends(self._hold_until)
        verdict_time = self._verdict_time
        return next((p.sent_at + verdict_time for p in self._probes if not p.decided), None)

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Return an attempt's ticket; one above the level is a probe, decided within a second."""
        self.numbered += 1
        ticket = Ticket(self.numbered, in_flight, now, is_probe=in_flight > self.level)
        if ticket.is_probe:
            self._probes.append(ticket)
        return ticket

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Follow rules 2 and 8, and fill the quota of rule 5 by one."""
        if ticket.number > self._hinted_at and now < self._hint_until - CLOSED_MAX:
            self.hints_disproved, self._hints_proven = self.tests_hints, False
        if self._is_quick and not ticket.decided:
            quickest = min(self._verdict_time, now - ticket.sent_at)
            self._verdict_time = max(QUICK_VERDICT, quickest)
        self._take(ticket, now)

    def _take(self, ticket: Ticket, now: float) -> None:
        """Count an attempt as accepted, by its answer or by silence."""
        if ticket.decided:
            return
        ticket.decided = True
        self.answer_time += ANSWER_TIME_SHARE * (now - ticket.sent_at - self.answer_time)
        self._hold_quota -= 1
        if self.closed_until is not None and ticket.number > max(self.refused_numbers):
            self.closed_until = None
            self._hints_proven = self._hints_proven or 0.0 < self._hint_until <= now
            self.hints_disproved = self.hints_disproved and not self._hints_proven
            self.reason = "open again: the canary was accepted"
        sent_since = ticket.number > self.last_step
        if sent_since and ticket.in_flight > self.level and self.allowance > 0:
            self._grow(ticket.in_flight)
        if self._hold_until is not None:
            self._end_hold(self._hold_until, now)

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Follow rules 3, 4 and 7."""
        ticket.decided = True
        hint = min(retry_after or 0.0, RETRY_AFTER_MAX)
        if hint > CLOSED_MAX:
            self._hint_until, self._hinted_at = max(self._hint_until, now + hint), self.numbered
        row = self._row_with(ticket.number)
        if ticket.number <= self.last_step:
            self._lower(in_flight, "an older attempt was refused too")
        elif self.closed_until is not None or row >= REFUSALS_TO_CLOSE:
            self._close(ticket, now, in_flight, retry_after, jitter)
        elif ticket.in_flight > self.level:
            self.level = in_flight
            self.hold = min(HOLD_MAX, 2 * self.hold)
            self.reason = "a probe was refused: back to what is in flight"
            self._hold_still(now, self.hold, jitter)
        elif row >= REFUSALS_TO_LOWER:
            self.level = max(0, min(self.level, in_flight - 1))
            self.reason = "refused twice in a row at a known level"
            self.hold = max(HOLD_MIN * self._haste, self.hold / 2)
            self._hold_still(now, self.hold, jitter)

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Follow rule 7: while closed, what ends is not replaced."""
        ticket.decided = True
        if self.closed_until is not None and self.allowance == 0:
            self.level = min(self.level, in_flight)

    def probe_at(self, at: float) -> None:
        """Allow the next probe at a time already: the refusal may have met no ceiling."""
        if self._hold_until is not None and self.closed_until is None:
            self._hold_until = min(self._hold_until, at)
            self._hold_latest = min(self._hold_latest, at)
            self.hold = HOLD_MIN * self._haste

    def tick(self, now: float) -> None:
        """End a hold that is over; count probes without a refusal as accepted."""
        probes = self._probes
        while probes and (probes[0].decided or probes[0].sent_at + self._verdict_time <= now):
            self._take(probes.popleft(), now)
        if self._hold_until is not None:
            self._end_hold(self._hold_until, now)

    @property
    def _haste(self) -> float:
        """Return the factor of rule 6, below 1 if answers are fast."""
        return min(1.0, max(HASTE_MOST, self.answer_time / UNHURRIED_ANSWER))

    def _row_with(self, number: int) -> int:
        """Return the length of the row of refused attempts around this one."""
        refused = self.refused_numbers
        refused.append(number)
        first = last = number
        while first - 1 in refused:
            first -= 1
        while last + 1 in refused:
            last += 1
        return last - first + 1

    def _grow(self, accepted_at: int) -> None:
        gained = accepted_at - self.level
        widest = max(WIDEST_ALLOWANCE, accepted_at // ALLOWANCE_SHARE)
        if self._is_quick:
            widest = max(self.initial, int(accepted_at * START_SHARE))
        self.allowance = max(self.allowance - gained, min(self.allowance + gained, widest))
        self.level = accepted_at
        self.hold = max(HOLD_MIN * self._haste, self.hold / 2)
        self.reason = "a probe was accepted"

    def _lower(self, level: int, reason: str) -> None:
        if level < self.level:
            self.level = max(level, 0)
            self.reason = reason

    def _hold_still(self, now: float, seconds: float, jitter: float) -> None:
        self.allowance = 0
        self.last_step = self.numbered
        self._verdict_time = VERDICT_TIME
        self._hold_until = now + seconds * (1 + HOLD_SPREAD * (2 * jitter - 1))
        self._hold_latest = now + HOLD_STRETCH * seconds
        self._hold_quota = math.ceil(HOLD_QUOTA * seconds)

    def _close(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        self.reason = "closed: at least three refusals in a row"
        if ticket.in_flight > self.level:
            self.hold = min(HOLD_MAX, 2 * self.hold)
        self.level = min(self.level, in_flight)
        closed_for = min(CLOSED_MAX, self.longest, max(CLOSED_MIN * self._haste, self.hold / 2))
        self._hold_still(now, closed_for * (1 - 1 / max(1, self.present)), jitter)
        wished = min(retry_after or 0.0, RETRY_AFTER_MAX) * (1 + RETRY_AFTER_SPREAD * jitter)
        self._canaries_refused = 0 if self.closed_until is None else self._canaries_refused + 1
        hint = now + wished if self._hint_binds(wished) else now
        self.closed_until = max(self._hold_until or now, hint, self.closed_until or now)

    def _hint_binds(self, wished: float) -> bool:
        """Return True if a Retry-After of so many seconds binds: rule 8."""
        if not self.tests_hints or wished <= CLOSED_MAX or self._hints_proven:
            return True
        needed = REFUSALS_TO_BELIEVE if self.hints_disproved else 1
        if self._canaries_refused < needed:
            return False
        self._hints_proven = not self.hints_disproved
        return True

    def _hold_ends(self, at_the_earliest: float) -> float:
        """Return when the hold ends; if closed, or nothing was accepted, by time alone."""
        if self.closed_until is not None:
            return self.closed_until
        if self.level == 0 or self._hold_quota <= 0:
            return at_the_earliest
        return self._hold_latest

    def _end_hold(self, at_the_earliest: float, now: float) -> None:
        if now < self._hold_ends(at_the_earliest):
            return
        self._hold_until = None
        self.allowance = 1
        is_open = self.closed_until is None
        self.reason = "the hold is over: one probe" if is_open else "closed: one canary"
