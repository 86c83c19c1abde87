"""The log of attempts below one limit, and their outcomes. Pure.

It starts with the first refusal; earlier attempts are filled in as far as they are known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

#: Attempts that are judged in detail. The log reaches back two minutes (twice the longest window
#: that ``explanations`` considers), within a bound of memory.
JUDGED: Final = 128
LOG_MOST: Final = 512
_LOG_TIME: Final = 120.0
#: Seconds until a refusal arrives: the first guess, and the weight of the latest in the average.
_REFUSAL_TIME: Final = 0.2
_LATEST: Final = 0.2
#: An attempt counts as accepted after so many times that average, or after a second (as a probe of
#: ``algorithm`` does): nearly all refusals have arrived by then.
_SILENCE: Final = 2.5
_SILENCE_MOST: Final = 1.0


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt, sent ``at`` a time with ``in_flight`` attempts under way.

    It counts as accepted until it is refused; ``is_answered`` once its answer has begun. ``rate``
    is the one that delayed it (requests a second, 0 for none); it ``explores`` if that was a trial.
    """

    at: float
    in_flight: int
    is_accepted: bool = True
    is_answered: bool = False
    number: int = 0
    rate: float = 0.0
    explores: bool = False


class AttemptLog:
    """The latest attempts in the order of sending.

    ``numbered`` attempts were sent between ``born`` and the start of the log. They are assumed to
    have been accepted at equal intervals, with at most the accepted ``level`` in flight.
    """

    __slots__ = ("_early", "_refusal_time", "attempts", "born", "is_complete", "numbered")

    def __init__(self, numbered: int, level: int, born: float, now: float) -> None:
        first, gap = max(1, numbered - JUDGED + 1), (now - born) / max(1, numbered)
        self._early = {
            number: Attempt(born + number * gap, max(1, min(number, level)), number=number)
            for number in range(first, numbered + 1)
        }
        self.attempts: deque[Attempt] = deque(self._early.values())
        self.born: float = born
        self.numbered: int = numbered
        self.is_complete: bool = first == 1
        self._refusal_time = _REFUSAL_TIME

    def sent_before(self, number: int, at: float, in_flight: int) -> Attempt:
        """Return an attempt from before the log, corrected by what is known now."""
        attempt = self._early.get(number) or Attempt(at, in_flight, number=number)
        attempt.at, attempt.in_flight = at, in_flight
        for one in self._early.values():
            one.at = min(one.at, at) if one.number < number else max(one.at, at)
        return attempt

    def add(self, attempt: Attempt) -> None:
        """Append an attempt that is sent; drop the oldest."""
        log = self.attempts
        while len(log) >= LOG_MOST or (len(log) >= JUDGED and log[0].at < attempt.at - _LOG_TIME):
            log.popleft()
            self.is_complete = False
            self._early.clear()
        log.append(attempt)
        self.numbered = attempt.number

    def refuse(self, attempt: Attempt, now: float) -> None:
        """Mark an attempt as refused."""
        attempt.is_accepted = False
        took = min(now - attempt.at, 3 * self._refusal_time)
        self._refusal_time += _LATEST * (took - self._refusal_time)

    def withdraw(self, attempt: Attempt) -> None:
        """Remove an attempt that was never sent."""
        if attempt in self.attempts:
            self.attempts.remove(attempt)

    @property
    def silence(self) -> float:
        """Return the seconds after which an attempt that was not refused counts as accepted."""
        return min(_SILENCE_MOST, _SILENCE * self._refusal_time)

    @property
    def accepted(self) -> int:
        """Count the attempts that were not refused."""
        return sum(one.is_accepted for one in self.attempts)

    def decided(self, now: float) -> list[Attempt]:
        """Return the attempts whose outcome is known, or assumed after ``silence``."""
        since = now - self.silence
        return [
            one
            for one in self.attempts
            if one.at <= since or one.is_answered or not one.is_accepted
        ]

    def accepted_at(self, place: int) -> float | None:
        """Return the time of the accepted attempt at a place, 0 for the latest, if there is one."""
        for one in reversed(self.attempts):
            place -= one.is_accepted
            if place < 0:
                return one.at
        return None
