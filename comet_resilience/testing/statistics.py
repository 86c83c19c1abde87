"""Counts of what happened at the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Outcome(Enum):
    """The end of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    ABANDONED = "abandoned"


class Sample(NamedTuple):
    """The number of requests in flight from a time on (in seconds), and the limit at that time."""

    at: float
    in_flight: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The counts at one moment; requests = in_flight + the four outcomes.

    answered: sent to the last byte, with a status below 400. refused: by the capacity model.
    failed: every other reply, cut ones included. abandoned: the client left before the end.
    """

    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    abandoned: int = 0


class Recorder:
    """A count of requests by their ends. Its counters and samples are mutable.

    A refused request is never in flight: the gateway does not work on it.
    """

    __slots__ = ("_in_flight", "_limit_at", "_outcomes", "_peak", "samples")

    def __init__(self, limit_at: Callable[[float], int | None]) -> None:
        self._limit_at = limit_at
        self._in_flight = 0
        self._peak = 0
        self._outcomes = dict.fromkeys(Outcome, 0)
        self.samples: list[Sample] = []

    def begin(self, now: float) -> None:
        """Note a request that was let in."""
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        self._sample(now)

    def end(self, now: float, outcome: Outcome) -> None:
        """Note the end of a request; one that was not refused is no longer in flight."""
        self._outcomes[outcome] += 1
        if outcome is not Outcome.REFUSED:
            self._in_flight -= 1
            self._sample(now)

    def statistics(self) -> Statistics:
        """Return the counts as they are now."""
        ended = {outcome.value: count for outcome, count in self._outcomes.items()}
        return Statistics(
            requests=self._in_flight + sum(ended.values()),
            in_flight=self._in_flight,
            peak_in_flight=self._peak,
            **ended,
        )

    def _sample(self, now: float) -> None:
        self.samples.append(Sample(now, self._in_flight, self._limit_at(now)))
