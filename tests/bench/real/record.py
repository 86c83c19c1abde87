"""What a gateway's record says: how many were in flight when, who was served, who refused. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from .gateway import Move


class Record:
    """The moves of one run from ``begins`` to ``ends``; all times in its own seconds."""

    def __init__(self, moves: Sequence[Move], begins: float, ends: float) -> None:
        self.seconds = ends - begins
        self._moves = [Move(move.at - begins, move.member, move.change) for move in moves]
        self._times = [0.0]
        self._levels = [0]
        for move in self._moves:
            self._times.append(move.at)
            self._levels.append(self._levels[-1] + move.change)

    def most(self, since: float = 0.0, until: float | None = None) -> int:
        """The most in flight at any time."""
        return max(self._within(since, until))

    def least(self, since: float, until: float) -> int:
        """The least in flight at any time."""
        return min(self._within(since, until))

    def mean(self, since: float, until: float | None = None) -> float:
        """How many were in flight on average."""
        until = self.seconds if until is None else until
        area, at = 0.0, since
        place = bisect_right(self._times, since)
        level = self._levels[place - 1]
        for when, after in zip(self._times[place:], self._levels[place:], strict=True):
            if when >= until:
                break
            area += level * (when - at)
            level, at = after, when
        return (area + level * (until - at)) / (until - since)

    def least_mean(self, since: float, until: float, width: float) -> float:
        """The lowest mean of any stretch so wide, a tenth of it apart."""
        steps = max(1, round((until - since - width) / width * 10) + 1)
        starts = [since + step * width / 10 for step in range(steps)]
        return min(self.mean(start, start + width) for start in starts)

    def full_after(self, since: float, level: float, width: float = 0.25) -> float | None:
        """Seconds until the mean of a stretch that begins then reaches a level."""
        start = since
        while start + width <= self.seconds:
            if self.mean(start, start + width) >= level:
                return start - since
            start += 0.01
        return None

    def served(self, since: float = 0.0, until: float | None = None) -> Counter[int]:
        """How many requests of each member ended."""
        until = self.seconds if until is None else until
        ends = [move for move in self._moves if move.change == -1 and since <= move.at < until]
        return Counter(move.member for move in ends)

    def taken(self, since: float = 0.0, until: float | None = None) -> list[float]:
        """When requests began."""
        until = self.seconds if until is None else until
        return [move.at for move in self._moves if move.change == 1 and since <= move.at < until]

    def refused(self, since: float = 0.0, until: float | None = None) -> int:
        """How many requests were refused."""
        until = self.seconds if until is None else until
        return sum(move.change == 0 and since <= move.at < until for move in self._moves)

    def _within(self, since: float, until: float | None) -> list[int]:
        until = self.seconds if until is None else until
        place = bisect_right(self._times, since)
        return [self._levels[place - 1], *self._levels[place : bisect_right(self._times, until)]]
