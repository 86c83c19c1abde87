"""Two algorithms from the literature, behind the library's own seam, to compare with.

Each was written from its description: additive increase with multiplicative decrease as in TCP,
and the gradient of latency with which the Netflix library steers by default.
"""

from __future__ import annotations

from comet_resilience.limits.algorithm import Ticket


class _Open:
    """What both have in common: never closed, never moved by time."""

    closed_until: float | None = None
    wake_at: float | None = None
    reason = ""

    def __init__(self, initial: float) -> None:
        self._limit = initial
        self._sent = 0

    @property
    def limit(self) -> int:
        """The whole part of what was learned."""
        return int(self._limit)

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Number the attempt."""
        self._sent += 1
        return Ticket(self._sent, in_flight, now)

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Nothing to learn."""

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Nothing to learn."""

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Nothing to learn."""

    def tick(self, now: float) -> None:
        """Nothing to learn."""


class Aimd(_Open):
    """One more for each limit's worth of successes; times 0.7, once for one burst of refusals."""

    def __init__(self) -> None:
        super().__init__(8.0)
        self._last_cut = 0

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Grow by one over the limit, if the limit was in use."""
        if not ticket.decided:
            ticket.decided = True
            if 2 * ticket.in_flight >= self._limit:
                self._limit += 1 / self._limit

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Cut, unless the attempt was sent before the last cut."""
        if ticket.number > self._last_cut:
            self._limit = max(1.0, 0.7 * self._limit)
            self._last_cut = self._sent


class Gradient2(_Open):
    """Steers on latency alone: refusals, which are quick, look like very good news."""

    LOW, HIGH = 20.0, 200.0
    SMOOTHING, TOLERANCE, SLACK = 0.2, 1.5, 4.0
    LONG, WARM_UP = 600, 10

    def __init__(self) -> None:
        super().__init__(self.LOW)
        self._long = 0.0
        self._seen = 0

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Take a sample, refused or not."""
        latency = now - ticket.sent_at
        self._average(latency)
        if self._long > 2 * latency:
            self._long *= 0.95
        if 2 * ticket.in_flight < self._limit:
            return
        gradient = max(0.5, min(1.0, self.TOLERANCE * self._long / latency))
        wanted = self._limit * gradient + self.SLACK
        smoothed = (1 - self.SMOOTHING) * self._limit + self.SMOOTHING * wanted
        self._limit = max(self.LOW, min(self.HIGH, smoothed))

    def _average(self, latency: float) -> None:
        self._seen += 1
        if self._seen <= self.WARM_UP:
            self._long += (latency - self._long) / self._seen
        else:
            self._long += (latency - self._long) * 2 / (self.LONG + 1)
