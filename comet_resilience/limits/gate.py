"""The gate that an outage closes: a circuit breaker. Pure: time and jitter are arguments.

An open gate lets requests pass, a closed one holds them back (a circuit breaker is called closed
while it lets them pass). The gate is apart from the limit on concurrency, which no outage moves.

1. It closes after a row of failures, in the order in which the attempts were sent, that were due
   neither to load nor to their requests, and that came from different requests: five, or three
   where no connection could be made. A failure counts half if its request had failed before and
   others were answered since.
2. While it is closed requests wait, use up no retries and hold nothing. Canaries go out one by
   one: after 0.4 s, then after half the time that the gate has been closed (less where more than
   twenty requests wait), up to 5 s or ``backoff_max``. Each wait is multiplied by 1 - 1/present, so
   that a single request is never held back: it has its own backoff. A request that would lose half
   of its caller's time until the next canary brings that forward, to 0.4 s after the one before.
3. A server's ``Retry-After`` replaces these times once a canary that did not wait for it has
   failed.
4. The first canary that is answered opens the gate. So does one that is still under way after
   three times as long as the failures took, and at least one second.
5. It opens step by step, so that a service that has just come back meets no burst: four attempts
   at once, one more for each answer, and twice as many after each second.

Each partition has a gate, which failures of the service close. Each host has one, which failed
connections close, and so do two of its partitions whose gates close without an answer in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .budget import Cost
from .snapshot import Load

#: Points of a failure, of one where no connection was made, and the sum in a row that closes.
POINTS: Final = 6
POINTS_UNREACHABLE: Final = 10
POINTS_TO_CLOSE: Final = 30
#: How many outcomes are remembered, to find rows among failures that overtake each other.
OUTCOMES_KEPT: Final = 64
#: Seconds before the first canary; for later ones the share of the time that the gate has been
#: closed, and the most seconds; and the random share that keeps clients from falling into step.
FIRST_CANARY: Final = 0.4
CANARY_SHARE: Final = 0.5
CLOSED_MAX: Final = 5.0
CANARY_SPREAD: Final = 0.1
#: Above so many requests the longest wait shrinks with their square root: more of them lose time.
MANY_PRESENT: Final = 20
#: Canaries that may be under way at once, where failures take longer than the time between them.
CANARIES_MOST: Final = 3
#: A canary counts as answered after so many times the failures' time, and at least so many seconds.
SILENCE_SHARE: Final = 3.0
SILENCE_LEAST: Final = 1.0
#: Attempts at once when the gate has just opened, and how many at once mean that it is wide open.
OPENING_WINDOW: Final = 4
OPENED_WIDE: Final = 256
OPENING_STEP: Final = 1.0
#: Of a time that the server names so many seconds count, stretched by a random share at the most.
RETRY_AFTER_MAX: Final = 60.0
RETRY_AFTER_SPREAD: Final = 0.05


@dataclass(slots=True, eq=False)
class Standing:
    """One request as gates and budgets know it, over all its attempts.

    ``sent`` counts attempts; ``failed_at`` is when the last one that met an outage was sent.
    ``ahead`` is the length of the queue when it joined the tail, ``None`` if it did not.
    ``held_by_account`` are the account's figures, if only its limit held the request back when it
    left the queue. ``cost`` is what an attempt takes of a budget; ``takes_more_than`` is the number
    of tokens that a server had left when it refused the request all the same.
    """

    sent: int = 0
    failed_at: float = -math.inf
    ahead: int | None = None
    held_by_account: Load | None = None
    cost: Cost | None = None
    takes_more_than: float = 0.0


@dataclass(slots=True, eq=False)
class Passage:
    """One attempt as a gate numbered it."""

    number: int
    sent_at: float
    request: Standing
    is_canary: bool = False
    decided: bool = False


class Prospect(NamedTuple):
    """The state of a gate as far as waiters depend on it; equal while nothing changes for them.

    ``canaries`` is the number under way.
    """

    closed_since: float | None
    next_at: float = 0.0
    canaries: int = 0
    is_wide: bool = False

    @property
    def is_closed(self) -> bool:
        """Return True if canaries alone may pass."""
        return self.closed_since is not None


_WIDE_OPEN: Final = Prospect(None, is_wide=True)
_OPENING: Final = Prospect(None)


@dataclass(slots=True, frozen=True)
class _Failed:
    request: Standing
    points: int
    sent_at: float
    took: float


@dataclass(slots=True, eq=False)
class Gate:
    """One gate: open, closed, or opening; the rules are in the module's docstring.

    ``longest`` bounds the waits that it names itself, ``seen`` is the latest failure, in words.
    Three times at which attempts were sent: ``began_at`` is that of the first failure in the row
    that closed it, ``answered_at`` that of the latest attempt that got a response, ``well_at`` that
    of the latest success. ``of_service`` says that a host's service fails, not its connections.
    ``told_since`` is ``closed_since`` as observers know it. ``is_wide_open`` says that it holds
    nobody; it is kept because each attempt asks for it several times.
    """

    longest: float = CLOSED_MAX
    closed_since: float | None = None
    seen: str = ""
    next_at: float = 0.0
    began_at: float = 0.0
    answered_at: float = -math.inf
    of_service: bool = False
    host: str = ""
    well_at: float = -math.inf
    told_since: float | None = None
    is_wide_open: bool = True
    _window: float = math.inf
    _widens_at: float = math.inf
    _under_way: int = 0
    _numbered: int = 0
    _opened: int = 0
    _answered: int = 0
    _failure_time: float = 0.0
    _planned_at: float = 0.0
    _hint_until: float = 0.0
    _hint_tested: bool = False
    _canaries: list[Passage] = field(default_factory=list)
    _row: dict[int, _Failed | None] = field(default_factory=dict)

    @property
    def is_closed(self) -> bool:
        """Return True if canaries alone may pass."""
        return self.closed_since is not None

    @property
    def prospect(self) -> Prospect:
        """Return the state as far as waiters depend on it."""
        if self.closed_since is None:
            return _WIDE_OPEN if self.is_wide_open else _OPENING
        return Prospect(self.closed_since, self.next_at, len(self._canaries))

    @property
    def is_proven(self) -> bool:
        """Return True if anything was ever answered here."""
        return self.answered_at > -math.inf

    def opens_at(self, now: float) -> float:
        """Return when it may open at the earliest: now, if open or with a canary under way."""
        return now if self.closed_since is None or self._canaries else max(now, self.next_at)

    def has_room(self, now: float) -> bool:
        """Return True if an attempt may pass now."""
        if self.closed_since is None:
            return self._under_way < self._window
        return now >= self.next_at and len(self._canaries) < CANARIES_MOST

    @property
    def wake_at(self) -> float | None:
        """Return when an attempt may pass without any event, ``None`` if time changes nothing."""
        if self.closed_since is None:
            return None if self.is_wide_open else self._widens_at
        times = [canary.sent_at + self._silence for canary in self._canaries[:1]]
        if len(self._canaries) < CANARIES_MOST:
            times.append(self.next_at)
        return min(times)

    def tick(self, now: float) -> None:
        """Do what is due by now: open after a canary's silence, or open a step wider."""
        if self.closed_since is not None:
            if self._canaries and now >= self._canaries[0].sent_at + self._silence:
                self._open(now)
        elif now >= self._widens_at:
            self._widens_at = now + OPENING_STEP
            self._widen(2 * self._window)

    def sent(self, now: float, request: Standing, present: int, jitter: float) -> Passage:
        """Return the passage of an attempt, which is a canary if the gate is closed.

        ``present`` and ``jitter`` matter only then: they set the time of the next canary.
        """
        self._numbered += 1
        passage = Passage(self._numbered, now, request)
        if self.closed_since is None:
            self._under_way += 1
        else:
            passage.is_canary = True
            self._canaries.append(passage)
            self._plan(now, present, jitter)
        return passage

    def answered(self, passage: Passage, now: float, *, well: bool = True) -> None:
        """Note an answer, or (not ``well``) a response that shows the other side to be there."""
        if not self._decide(passage):
            return
        if well and passage.sent_at > self.well_at:
            self.well_at = passage.sent_at
        if passage.sent_at > self.answered_at:
            self.answered_at = passage.sent_at
        if passage.number > self._answered:
            self._answered = passage.number
        if self.closed_since is None:
            if not self.is_wide_open:
                self._widen(self._window + 1)
        elif passage.is_canary or passage.number > max(self._row, default=0):
            self._open(now)

    def failed(
        self,
        passage: Passage,
        now: float,
        *,
        unreachable: bool,
        seen: str,
        retry_after: float | None,
        present: int,
        jitter: float,
    ) -> None:
        """Note a failure that is neither load nor the request's fault."""
        if not self._decide(passage):
            return
        request, took = passage.request, now - passage.sent_at
        points = POINTS_UNREACHABLE if unreachable else POINTS
        if -math.inf < request.failed_at < self.answered_at:
            points //= 2
        self._keep(passage.number, _Failed(request, points, passage.sent_at, took))
        if self.closed_since is not None:
            if passage.is_canary:
                self.seen = seen
                self._failure_time = max(self._failure_time, took)
                self._hint(now, retry_after, jitter)
                self._hint_tested = self._hint_tested or retry_after is not None
                self.next_at = max(self.next_at, self._hint_until if self._hint_tested else 0.0)
            return
        if passage.number <= max(self._opened, self._answered):
            return
        row = self._row_with(passage.number)
        worth: dict[int, int] = {}
        for one in row:
            worth[id(one.request)] = max(one.points, worth.get(id(one.request), 0))
        if sum(worth.values()) >= POINTS_TO_CLOSE:
            self._failure_time = max(one.took for one in row)
            self.began_at = min(one.sent_at for one in row)
            self._hint(now, retry_after, jitter)
            self.close(now, seen, present, jitter)

    def passed(self, passage: Passage, now: float, *, unsent: bool = False) -> None:
        """Note an end that proves nothing; the turn of an ``unsent`` canary goes to another."""
        if self._decide(passage):
            self._keep(passage.number, None)
            if unsent and passage.is_canary:
                self.next_at = min(self.next_at, now)

    def close(
        self, now: float, seen: str, present: int, jitter: float, *, of_service: bool = False
    ) -> None:
        """Close the gate, whatever was counted."""
        self.closed_since, self.seen, self.of_service = now, seen, of_service
        self.is_wide_open = False
        self._window = self._widens_at = math.inf
        self._hint_tested = False
        self._plan(now, present, jitter)

    def test_now(self, now: float) -> None:
        """Let the next canary go at once: another gate of the host has opened."""
        self.next_at = min(self.next_at, now)

    def hasten(self, now: float) -> None:
        """Bring the next canary forward: a caller cannot wait for it as it is planned."""
        if not self._hint_tested:
            self.next_at = min(self.next_at, max(now, self._planned_at + FIRST_CANARY))

    @property
    def _silence(self) -> float:
        return max(SILENCE_LEAST, SILENCE_SHARE * self._failure_time)

    def _open(self, now: float) -> None:
        self.closed_since = None
        self.of_service = False
        self._window, self._widens_at = OPENING_WINDOW, now + OPENING_STEP
        self._under_way, self._opened = 0, self._numbered
        self._canaries.clear()
        self._row.clear()
        self._hint_until, self._hint_tested = 0.0, False

    def _widen(self, window: float) -> None:
        self.is_wide_open = window >= OPENED_WIDE
        self._window = math.inf if self.is_wide_open else window

    def _plan(self, now: float, present: int, jitter: float) -> None:
        """Set the time of the next canary."""
        haste = min(1.0, math.sqrt(MANY_PRESENT / max(1, present)))
        most = min(self.longest, CLOSED_MAX * haste) * (1 - 1 / max(1, present))
        since = now if self.closed_since is None else self.closed_since
        wait = min(max(FIRST_CANARY, CANARY_SHARE * haste * (now - since)), most)
        self._planned_at = now
        self.next_at = now + wait * (1 + CANARY_SPREAD * (2 * jitter - 1))
        if self._hint_tested:
            self.next_at = max(self.next_at, self._hint_until)

    def _hint(self, now: float, retry_after: float | None, jitter: float) -> None:
        hint = min(retry_after or 0.0, RETRY_AFTER_MAX) * (1 + RETRY_AFTER_SPREAD * jitter)
        self._hint_until = max(self._hint_until, now + hint) if hint else self._hint_until

    def _decide(self, passage: Passage) -> bool:
        if passage.decided:
            return False
        passage.decided = True
        if passage in self._canaries:
            self._canaries.remove(passage)
        elif passage.number > self._opened and not passage.is_canary:
            self._under_way -= 1
        return True

    def _keep(self, number: int, outcome: _Failed | None) -> None:
        self._row[number] = outcome
        if len(self._row) > OUTCOMES_KEPT:
            del self._row[next(iter(self._row))]

    def _row_with(self, number: int) -> list[_Failed]:
        """Return the row of failures, by consecutive numbers, that contains this number."""
        row, first, last = self._row, number, number
        while first - 1 in row and first - 1 > self._opened:
            first -= 1
        while last + 1 in row:
            last += 1
        return [one for one in map(row.get, range(first, last + 1)) if one is not None]
