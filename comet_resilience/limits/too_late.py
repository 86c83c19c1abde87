"""Requests whose answers would come too late: others, whom an answer still reaches, go first. Pure.

Under more load than a limit lets through, strict FIFO order sends each request when its caller is
about to give up: every answer is paid for, and nobody gets one. So whoever has less time left than
any of the latest answers took stands back. It is not turned away: if nobody else waits it goes.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: Answers that are remembered, and from how many on the quickest of them is believed.
_REMEMBERED: Final = 16
_BELIEVED: Final = 4
#: The share of the quickest time that an answer takes at the least.
_LEAST: Final = 0.9


class QuickestAnswers:
    """The time in which answers of one partition come at best."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def note(self, seconds: float) -> None:
        """Note how long an answer took to begin."""
        self._seconds.append(seconds)

    def are_too_late(self, seconds_left: float) -> bool:
        """Tell whether none of the latest answers took as little time as is left."""
        return len(self._seconds) >= _BELIEVED and seconds_left < _LEAST * min(self._seconds)
