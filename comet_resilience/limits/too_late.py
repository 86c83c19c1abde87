"""Requests whose answers would come too late: one that an answer still reaches goes first. Pure.

Under more load than a limit lets through, strict FIFO order sends each request when its caller is
about to give up: every answer is paid for, and hardly anybody gets one. Whoever has just enough
time left is no better off, since that is where the queue settles. So then the last who came goes
first, and has nearly all of its time for its answer.

* The first is too late if it has less time left than three of four of the latest answers took.
* It keeps its place, and is overtaken only by those who cannot wait for ever either and are in
  time. If there is none it goes.
* Only waiting makes a request too late. Whoever had less time than that from the start asks for
  something quicker than what was answered, a few tokens beside long texts: nothing is known of it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Protocol

#: Answers that are remembered, and from how many on they are believed.
_REMEMBERED: Final = 16
_BELIEVED: Final = 4


class AnswerTimes:
    """The times in which the latest answers of one partition began."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def note(self, seconds: float) -> None:
        """Note how long an answer took to begin."""
        self._seconds.append(seconds)

    @property
    def usual(self) -> float:
        """Return the seconds in which three of four answers begin, 0 while too few are known."""
        known = len(self._seconds)
        return sorted(self._seconds)[known * 3 // 4] if known >= _BELIEVED else 0.0


class Timed(Protocol):
    """A request that waits: since when, and until when an answer is of use."""

    since: float
    useful_until: float


def is_too_late(one: Timed, now: float, usual: float) -> bool:
    """Tell whether waiting has left too little time for an answer that takes as ``usual``."""
    return one.useful_until - now < usual <= one.useful_until - one.since


def is_in_time(one: Timed, now: float, usual: float) -> bool:
    """Tell whether an answer would reach a request that cannot wait for ever."""
    return one.useful_until != math.inf and not is_too_late(one, now, usual)
