"""Slots that are held by open answers, and the standstill where nobody reads them. Pure.

An answer holds its slot until its body ends, so a caller that leaves a stream open holds one for
as long as it likes. Two things can come of it. Where whoever holds a slot waits for another one
itself, no slot will ever come back: that is a deadlock, and the limiter lends. Where nobody reads
and nothing else moves for seconds, it is a standstill, and the caller is told.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from ..events import Standstill

#: How many slots came back so far, and how often a read of the open answers began or ended.
Turns = tuple[int, int]


class OpenAnswer(Protocol):
    """An answer that its caller has in hand; ``turns`` is odd while a read of it is under way."""

    @property
    def turns(self) -> int:
        """Count the reads that began or ended."""
        ...


class Holders:
    """The open answers that hold slots of one limit.

    ``waits_for`` counts the requests that wait here although their task has such an answer open.
    """

    __slots__ = ("answers", "waits_for")

    def __init__(self) -> None:
        self.answers: set[OpenAnswer] = set()
        self.waits_for: dict[OpenAnswer, int] = {}

    def forget(self, answer: OpenAnswer) -> None:
        """Forget one whose slot came back."""
        self.answers.discard(answer)
        self.waits_for.pop(answer, None)

    def block(self, answer: OpenAnswer) -> None:
        """Note that its holder waits here itself, with one more request."""
        self.waits_for[answer] = self.waits_for.get(answer, 0) + 1

    def unblock(self, answer: OpenAnswer) -> None:
        """Note that one such request waits no more."""
        waiters = self.waits_for.get(answer, 0)
        if waiters > 1:
            self.waits_for[answer] = waiters - 1
        else:
            self.waits_for.pop(answer, None)

    def all_wait(self, in_flight: int) -> bool:
        """Tell whether whoever holds a slot waits for one here, and reads nothing meanwhile."""
        return 0 < in_flight == len(self.waits_for) and not _any_is_read(self.waits_for)

    def all_idle(self, in_flight: int) -> bool:
        """Tell whether each slot is held by an answer that nobody reads at this moment."""
        return 0 < in_flight == len(self.answers) and not _any_is_read(self.answers)

    def turns(self, moved: int) -> Turns:
        """Return what changes with each slot that comes back and each read."""
        return moved, sum(answer.turns for answer in self.answers)


def _any_is_read(answers: set[OpenAnswer] | dict[OpenAnswer, int]) -> bool:
    return any(answer.turns % 2 for answer in answers)


class Stillness:
    """The time for which all slots of a partition have been held by answers that nobody reads.

    ``turns`` changes with each slot that comes back and with each read of an answer that begins or
    ends. Looked at together with the ``Lookout``, which waits ``LOOK_EVERY`` between looks.
    """

    __slots__ = ("_lasts", "_since", "_told", "_turns")

    def __init__(self) -> None:
        self._since = 0.0
        self._turns: Turns = (0, 0)
        self._lasts: float | None = None
        self._told = False

    def begin(self, now: float, turns: Turns) -> None:
        """Begin to watch: somebody waits, for the first time in a while."""
        self._since, self._turns, self._lasts, self._told = now, turns, None, False

    def look(self, now: float, turns: Turns, held_up: bool) -> None:
        """Compare with the last look; ``held_up`` says whether nobody reads at this moment."""
        if held_up and turns == self._turns:
            self._lasts = now - self._since
        else:
            self.begin(now, turns)

    def lasts(self, now: float) -> float | None:
        """Return the seconds since anything moved, ``None`` where something did lately."""
        return None if self._lasts is None else max(0.0, now - self._since)

    def untold(self) -> float | None:
        """Return the seconds of a standstill once; ``None`` where there is none, or it is told."""
        if self._told or self._lasts is None:
            return None
        self._told = True
        return self._lasts


def standstill(key: Hashable, *, limit: int, held: int, waiting: int, seconds: float) -> Standstill:
    """Return the event for a standstill: what the matter is, and what to do about it."""
    return Standstill(
        partition=key,
        limit=limit,
        held=held,
        waiting=waiting,
        seconds=seconds,
        reason=(
            f"all {held} slots are held by answers that their callers have open"
            f" and do not read, and {waiting} requests wait. Read each stream to its end"
            " or close it (async with) before the next call, raise max_concurrency, or give"
            " inner calls a partition of their own"
        ),
    )
