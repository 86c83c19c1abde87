"""How the limit moves, and why. Pure: plain state, time and randomness as arguments.

A gateway that refuses above a hidden capacity gives one kind of news: an attempt was accepted, or
it was not. ``StepBack`` reads it so:

1. ``level`` is what was accepted with that many in flight; ``allowance`` is how many more may be
   tried. The limit is their sum. At the start nothing is known: level 0, allowance as configured.
2. An attempt sent above the level is a probe. Accepted, it raises the level to where it was sent
   and widens the allowance (1, 2, 4, then 4 or a quarter of the level): growth happens only where
   requests really were in flight.
3. A refused probe is no disaster: the level steps back to what is in flight now, which is what
   the gateway did accept, and growth holds still for a while. Nothing is cut by a factor.
4. One refusal at or below the level may be noise and changes nothing. Two in a row lower the
   level by one below what is in flight. Refusals of attempts sent before the last step back are
   the same news, and can only lower the level to what is in flight.
5. A hold lasts 2 to 10 s and three accepted attempts per second of it, whichever is later, but at
   most three times as long; then one probe is allowed. Refused probes double the hold, accepted
   ones halve it.
6. Three refusals in a row close the gate: what ends is not replaced. After half the hold, or the
   server's Retry-After where it is longer, one probe goes out as a canary; if it is accepted the
   gate is open and rule 2 ramps up again.

The constants come from a simulation study of some seventy variants; the landscape around them is
flat. An attempt counts as accepted when its answer begins, or after a second without a refusal.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

#: The allowance never exceeds the larger of these: a number, and a share of the level.
WIDEST_ALLOWANCE: Final = 4
ALLOWANCE_SHARE: Final = 4
#: Seconds after which an attempt that was not refused counts as accepted.
VERDICT_TIME: Final = 1.0
HOLD_MIN: Final = 2.0
HOLD_MAX: Final = 10.0
HOLD_SPREAD: Final = 0.2
#: A hold also lasts this many accepted attempts per second, and at most this many times as long.
HOLD_QUOTA: Final = 3.0
REFUSALS_TO_LOWER: Final = 2
REFUSALS_TO_CLOSE: Final = 3
CLOSED_MIN: Final = 1.0
CLOSED_MAX: Final = 5.0
RETRY_AFTER_MAX: Final = 60.0
RETRY_AFTER_SPREAD: Final = 0.05


@dataclass(slots=True, eq=False)
class Ticket:
    """One attempt as the algorithm knows it: its number, how many were in flight, and when."""

    number: int
    in_flight: int
    sent_at: float
    decided: bool = False


class LimitAlgorithm(Protocol):
    """The seam: bring your own by ``wrap(algorithm=...)``, one instance per partition.

    All methods are called under a lock and must not wait. ``now`` is in seconds, ``in_flight``
    is the number of attempts under way after the event, ``draw`` a random number in [0, 1).
    The limiter sends while ``in_flight < limit`` and calls ``tick`` no later than ``wake_at``.
    """

    @property
    def limit(self) -> int:
        """How many may be in flight now; 0 while closed."""
        ...

    @property
    def closed_until(self) -> float | None:
        """When the gate opens again for a canary, ``None`` while it is open."""
        ...

    @property
    def wake_at(self) -> float | None:
        """When the limit may rise without any event, ``None`` if it will not."""
        ...

    @property
    def reason(self) -> str:
        """Why the limit last moved, in words."""
        ...

    def sent(self, now: float, in_flight: int) -> Ticket:
        """An attempt goes out."""
        ...

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Its answer has begun, and is no refusal."""
        ...

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, draw: float
    ) -> None:
        """It was refused for load."""
        ...

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Its slot is free, for whatever reason; called after the event that says why."""
        ...

    def tick(self, now: float) -> None:
        """Time has passed."""
        ...


@dataclass(slots=True)
class FixedLimit:
    """A limit that never moves, for a ceiling that is known.

    Raises:
        ValueError: If ``limit`` is no whole number above 0.
    """

    limit: int
    reason: str = "fixed"
    _sent: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1:
            raise ValueError(f"limit={self.limit!r}: expected a whole number, 1 or more")

    @property
    def closed_until(self) -> float | None:
        """Never closed."""
        return None

    @property
    def wake_at(self) -> float | None:
        """Never moves by itself."""
        return None

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Number the attempt."""
        self._sent += 1
        return Ticket(self._sent, in_flight, now)

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Teaches nothing."""

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, draw: float
    ) -> None:
        """Teaches nothing."""

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Teaches nothing."""

    def tick(self, now: float) -> None:
        """Teaches nothing."""


@dataclass(slots=True)
class StepBack:
    """Step back to what was accepted, and probe one request at a time: see the module's head.

    ``initial``, ``minimum`` and ``maximum`` are requests in flight; while the gate is closed or
    growth holds still the limit may be below ``minimum``.
    """

    initial: int
    minimum: int
    maximum: int
    level: int = 0
    allowance: int = 0
    hold: float = HOLD_MIN
    row: int = 0
    closed: bool = False
    reason: str = "start"
    _sent: int = 0
    _last_refused: int = 0
    _last_step: int = 0
    _hold_until: float | None = None
    _hold_latest: float = 0.0
    _hold_quota: int = 0
    _undecided: deque[Ticket] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.allowance = max(self.minimum, min(self.initial, self.maximum))

    @property
    def limit(self) -> int:
        """How many may be in flight now; 0 while closed and drained."""
        return min(self.maximum, self.level + self.allowance)

    @property
    def closed_until(self) -> float | None:
        """When the canary may go; ``None`` while the gate is open."""
        return self._hold_until if self.closed else None

    @property
    def wake_at(self) -> float | None:
        """The end of the hold, or the time at which a pending probe counts as accepted."""
        if self._hold_until is not None:
            return self._hold_until if self._time_only or self._hold_quota <= 0 else (
                self._hold_latest
            )
        while self._undecided and self._undecided[0].decided:
            self._undecided.popleft()
        return self._undecided[0].sent_at + VERDICT_TIME if self._undecided else None

    @property
    def _time_only(self) -> bool:
        """Whether only time can end the hold: with nothing accepted there is no quota to fill."""
        return self.closed or self.level == 0

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Number the attempt; one above the level is a probe, to be decided within a second."""
        self._sent += 1
        ticket = Ticket(self._sent, in_flight, now)
        if in_flight > self.level:
            self._undecided.append(ticket)
        return ticket

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Rule 2, and one more of the quota of rule 5."""
        if ticket.decided:
            return
        ticket.decided = True
        self._hold_quota -= 1
        if ticket.number > self._last_refused:
            self.row = 0
            if self.closed:
                self._open()
        if ticket.in_flight > self.level and self.allowance > 0:
            self._grow(ticket.in_flight)
        self._end_hold(now)

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, draw: float
    ) -> None:
        """Rules 3, 4 and 6."""
        ticket.decided = True
        self.row = self.row + 1 if ticket.number - 1 == self._last_refused else 1
        self._last_refused = max(self._last_refused, ticket.number)
        if ticket.number <= self._last_step:
            self._lower(min(self.level, in_flight), "an older attempt was refused too")
        elif self.closed or self.row >= REFUSALS_TO_CLOSE:
            self._close(ticket, now, in_flight, retry_after, draw)
        elif ticket.in_flight > self.level:
            self.hold = min(HOLD_MAX, 2 * self.hold)
            self._lower(in_flight, "a probe was refused: back to what is in flight")
            self._hold_still(now, self.hold, draw)
        elif self.row >= REFUSALS_TO_LOWER:
            self.hold = max(HOLD_MIN, self.hold / 2)
            self._lower(min(self.level, in_flight - 1), "refused twice in a row at a known level")
            self._hold_still(now, self.hold, draw)

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """While closed, what ends is not replaced. What failed otherwise was not accepted."""
        ticket.decided = True
        if self.closed and self.allowance == 0:
            self.level = min(self.level, in_flight)

    def tick(self, now: float) -> None:
        """End a hold whose time has come; count probes without a refusal as accepted."""
        while self._undecided and (
            self._undecided[0].decided or self._undecided[0].sent_at + VERDICT_TIME <= now
        ):
            self.accepted(self._undecided.popleft(), now)
        self._end_hold(now)

    def _grow(self, accepted_at: int) -> None:
        widest = max(WIDEST_ALLOWANCE, accepted_at // ALLOWANCE_SHARE)
        self.allowance = min(self.allowance + accepted_at - self.level, max(widest, 1))
        self.level = accepted_at
        self.hold = max(HOLD_MIN, self.hold / 2)
        self.reason = "a probe was accepted"

    def _lower(self, level: int, reason: str) -> None:
        self.level = max(self.minimum - 1, level, 0)
        self.reason = reason

    def _hold_still(self, now: float, seconds: float, draw: float) -> None:
        self.allowance = 0
        self._last_step = self._sent
        self._hold_until = now + seconds * (1 + HOLD_SPREAD * (2 * draw - 1))
        self._hold_latest = now + HOLD_QUOTA * seconds
        self._hold_quota = math.ceil(HOLD_QUOTA * seconds)

    def _close(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, draw: float
    ) -> None:
        was_until = self._hold_until if self.closed else None
        self.reason = "still closed: refused again" if self.closed else (
            "closed: three refusals in a row"
        )
        if ticket.in_flight > self.level:
            self.hold = min(HOLD_MAX, 2 * self.hold)
        self.closed = True
        self.level = min(self.level, in_flight)
        self._hold_still(now, min(CLOSED_MAX, max(CLOSED_MIN, self.hold / 2)), draw)
        wished = min(retry_after or 0.0, RETRY_AFTER_MAX) * (1 + RETRY_AFTER_SPREAD * draw)
        assert self._hold_until is not None
        self._hold_until = max(self._hold_until, now + wished, was_until or now)

    def _open(self) -> None:
        self.closed = False
        self.reason = "reopened: the canary was accepted"

    def _end_hold(self, now: float) -> None:
        if self._hold_until is None or now < self._hold_until:
            return
        if self._time_only or self._hold_quota <= 0 or now >= self._hold_latest:
            self._hold_until = None
            self.allowance = 1
            self.reason = "canary" if self.closed else "the hold is over: one probe"
