"""The slots held by open answers, and how a deadlock or a standstill is noticed. Pure.

An answer holds its slot until its body ends, so a caller that leaves a stream open holds one for as
long as it likes. If every holder of a slot itself waits for another one, none will ever be
released: that is a deadlock, and the limiter lends one. If nobody reads an open answer and no slot
is released for seconds, that is a standstill, and the caller is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable
from typing import Protocol

from ..events import Standstill

#: The number of released slots, and of reads of open answers that began or ended: while neither
#: changes, nothing moves.
Turns = tuple[int, int]


class OpenAnswer(Protocol):
    """An answer whose body its caller may read; ``turns`` is odd during a read."""

    @property
    def turns(self) -> int:
        """Count the reads that began or ended."""
        ...


class Holders:
    """The open answers that hold slots of one limit.

    ``waits_for`` counts, for each answer, the requests here of the task that has it open.
    """

    __slots__ = ("answers", "waits_for")

    def __init__(self) -> None:
        self.answers: set[OpenAnswer] = set()
        self.waits_for: Counter[OpenAnswer] = Counter()

    def forget(self, answer: OpenAnswer) -> None:
        """Remove an answer whose slot was released."""
        self.answers.discard(answer)
        self.waits_for.pop(answer, None)

    def block(self, answer: OpenAnswer) -> None:
        """Count one more request that waits while its task has this answer open."""
        self.waits_for[answer] += 1

    def unblock(self, answer: OpenAnswer) -> None:
        """Count one such request less."""
        self.waits_for[answer] -= 1
        if self.waits_for[answer] <= 0:
            del self.waits_for[answer]

    def all_wait(self, in_flight: int) -> bool:
        """Return True if each slot's holder waits for another one here and reads nothing."""
        return 0 < in_flight == len(self.waits_for) and not _any_is_read(self.waits_for)

    def all_idle(self, in_flight: int) -> bool:
        """Return True if each slot is held by an answer that nobody reads at this moment."""
        return 0 < in_flight == len(self.answers) and not _any_is_read(self.answers)

    def turns(self, released: int) -> Turns:
        """Return the state that changes with each released slot and each read."""
        return released, sum(answer.turns for answer in self.answers)


def _any_is_read(answers: Collection[OpenAnswer]) -> bool:
    return any(answer.turns % 2 for answer in answers)


class Stillness:
    """The time (seconds) for which all slots of a partition have been held by unread answers.

    ``Lookout`` sets the times of the looks: ``LOOK_EVERY`` apart.
    """

    __slots__ = ("_is_reported", "_lasts", "_since", "_turns")

    def __init__(self) -> None:
        self.begin(0.0, (0, 0))

    def begin(self, now: float, turns: Turns) -> None:
        """Start from zero: a request waits, or something moved."""
        self._since, self._turns = now, turns
        self._lasts: float | None = None
        self._is_reported = False

    def look(self, now: float, turns: Turns, held_up: bool) -> None:
        """Compare with the last look; ``held_up`` means that no open answer is read right now."""
        if held_up and turns == self._turns:
            self._lasts = now - self._since
        else:
            self.begin(now, turns)

    def lasts(self, now: float) -> float | None:
        """Return the seconds since anything moved, ``None`` if there is no standstill."""
        return None if self._lasts is None else max(0.0, now - self._since)

    def untold(self) -> float | None:
        """Return the seconds of a standstill the first time it is asked, else ``None``."""
        if self._is_reported or self._lasts is None:
            return None
        self._is_reported = True
        return self._lasts


def standstill(key: Hashable, *, limit: int, held: int, waiting: int, seconds: float) -> Standstill:
    """Return the event for a standstill, with its cause and remedies."""
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
