"""A limit that never moves. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from .algorithm import Ticket


@dataclass(slots=True)
class FixedLimit:
    """A limit that never moves: ``wrap(algorithm=lambda: FixedLimit(5))``.

    ``limit`` is the number of requests in flight, 1 or more.

    Raises:
        ValueError: If it is no whole number, or below 1.

    """

    limit: int
    closed_until: float | None = field(default=None, init=False, repr=False)
    wake_at: float | None = field(default=None, init=False, repr=False)
    reason: str = field(default="fixed", init=False, repr=False)
    _sent: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1:
            raise ValueError(f"limit={self.limit!r}: expected a whole number, 1 or more")

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Return the attempt's ticket."""
        self._sent += 1
        return Ticket(self._sent, in_flight, now)

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Do nothing."""

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Do nothing."""

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Do nothing."""

    def tick(self, now: float) -> None:
        """Do nothing."""
