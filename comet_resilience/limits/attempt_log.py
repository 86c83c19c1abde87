"""The log of what was sent below one limit, and what became of it. Pure.

It begins with the first refusal: what was sent before is put in as far as it is known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

#: Attempts that are judged. The log is longer: it reaches back two minutes, within a bound.
JUDGED: Final = 128
LOG_MOST: Final = 512
_LOG_TIME: Final = 120.0
#: Seconds in which a refusal comes, as assumed at first, and the weight of the latest; after so
#: many times as long, or a second, an attempt that was not refused is taken for accepted.
_REFUSAL_TIME: Final = 0.2
_LATEST: Final = 0.2
_SILENCE: Final = 2.5
_SILENCE_MOST: Final = 1.0


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt: when it was sent, with how many in flight, and whether it was accepted.

    It counts as accepted until it is refused; ``is_answered`` says that an answer has begun.
    ``rate`` is what it was sent at, 0 where none held it back; ``explores`` if that was a trial.
    """

    at: float
    in_flight: int
    is_accepted: bool = True
    is_answered: bool = False
    number: int = 0
    rate: float = 0.0
    explores: bool = False


class AttemptLog:
    """The latest attempts in the order in which they were sent.

    ``numbered`` were sent since ``born`` when it begins. They are taken to have been accepted, one
    after the other, with no more in flight than the ``level`` that is known to be.
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
        """Return an attempt that was sent before the log began, of which more is known now."""
        attempt = self._early.get(number) or Attempt(at, in_flight, number=number)
        attempt.at, attempt.in_flight = at, in_flight
        for one in self._early.values():
            one.at = min(one.at, at) if one.number < number else max(one.at, at)
        return attempt

    def add(self, attempt: Attempt) -> None:
        """Append an attempt that goes out; forget the oldest."""
        log = self.attempts
        while len(log) >= LOG_MOST or (len(log) >= JUDGED and log[0].at < attempt.at - _LOG_TIME):
            log.popleft()
            self.is_complete = False
            self._early.clear()
        log.append(attempt)
        self.numbered = attempt.number

    def refuse(self, attempt: Attempt, now: float) -> None:
        """Note that an attempt was refused."""
        attempt.is_accepted = False
        took = min(now - attempt.at, 3 * self._refusal_time)
        self._refusal_time += _LATEST * (took - self._refusal_time)

    def withdraw(self, attempt: Attempt) -> None:
        """Note that an attempt was never sent, and so tells nothing."""
        if attempt in self.attempts:
            self.attempts.remove(attempt)

    @property
    def silence(self) -> float:
        """Return the seconds after which an attempt that was not refused counts as accepted."""
        return min(_SILENCE_MOST, _SILENCE * self._refusal_time)

    @property
    def accepted(self) -> int:
        """Count those that were not refused."""
        return sum(one.is_accepted for one in self.attempts)

    def decided(self, now: float) -> list[Attempt]:
        """Return the attempts without those of which nothing can be known yet."""
        since = now - self.silence
        return [
            one
            for one in self.attempts
            if one.at <= since or one.is_answered or not one.is_accepted
        ]

    def accepted_at(self, place: int) -> float | None:
        """Return when the last but so many of those that were not refused was sent, if any."""
        for one in reversed(self.attempts):
            place -= one.is_accepted
            if place < 0:
                return one.at
        return None
