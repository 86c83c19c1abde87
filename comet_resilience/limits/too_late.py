"""The order under overload: a request that can still be answered in time goes first. Pure.

When more calls arrive than a limit lets through, strict FIFO order sends each one when its caller
is about to give up, and hardly any is answered. Sending whatever has just enough time left does not
help either: the queue settles there, and many answers take a little longer. So the order turns
around (adaptive LIFO): the latest request has nearly all of its time left for its answer.

* The first is too late if it has less time left than three of four of the latest answers took.
* It keeps its place. It is overtaken only by requests that cannot wait for ever either and are in
  time; while there is none, it is sent.
* Only waiting makes a request too late. If it had less time than that from the start, it asks for
  something quicker than what was answered (a few tokens beside long texts), of which nothing is
  known.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Protocol

#: Answers that are remembered, and from how many on they are believed.
_REMEMBERED: Final = 16
_BELIEVED: Final = 4


class AnswerTimes:
    """The times that the latest answers of one partition took to begin."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def note(self, seconds: float) -> None:
        """Note how long an answer took to begin."""
        self._seconds.append(seconds)

    @property
    def usual(self) -> float:
        """Return the seconds within which three of four answers begin, 0 while unknown."""
        known = len(self._seconds)
        return sorted(self._seconds)[known * 3 // 4] if known >= _BELIEVED else 0.0


class Timed(Protocol):
    """A request that waits: since when, and until when an answer is of use."""

    since: float
    useful_until: float


def is_too_late(one: Timed, now: float, usual: float) -> bool:
    """Return True if waiting has left too little time for an answer that takes as ``usual``."""
    return one.useful_until - now < usual <= one.useful_until - one.since


def is_in_time(one: Timed, now: float, usual: float) -> bool:
    """Return True if a request that cannot wait for ever would be answered in time."""
    return one.useful_until != math.inf and not is_too_late(one, now, usual)
