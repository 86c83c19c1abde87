"""The slots of one limit: how many there are, who holds them, and how they came back.

A partition has slots and so has its account; a lease holds one of each. Nothing here waits, locks
or wakes: the limiter calls every method under its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final

from ..events import LimitChanged, RateChanged, Standstill
from .algorithm import LimitAlgorithm, StepBack, Ticket
from .belief import Listening
from .lookout import Lookout
from .snapshot import Load
from .spacing import Spacing
from .standstill import Holders, OpenAnswer, Stillness, standstill

_CHANGES_KEPT: Final = 16
#: The share by which a learnt rate has to move to be worth an event.
_RATE_STEP: Final = 0.1


class Slots:
    """The slots that one algorithm allows.

    ``waiting`` requests wait for one, ``resting`` ones are between two attempts; ``ok``,
    ``refused`` and ``other`` count the slots that came back. ``has_bound`` says whether events tell
    of the limit: those of an account do once it has held a request back.
    """

    __slots__ = (
        "algorithm", "began_at", "changes", "has_bound", "holders", "in_flight", "key", "limit",
        "lookout", "ok", "other", "per_minute", "refused", "resting", "says_not_yet", "spacing",
        "stillness", "waiting",
    )  # fmt: skip

    def __init__(self, key: Hashable, algorithm: LimitAlgorithm, *, has_bound: bool) -> None:
        self.key: Hashable = key
        self.algorithm: LimitAlgorithm = algorithm
        self.says_not_yet: bool = hasattr(algorithm, "ready")
        self.has_bound: bool = has_bound
        self.began_at: float = -1.0
        self.spacing: Spacing | None = None  # from the first refusal on
        self.per_minute: int | None = None  # as ``rate_change`` saw it last
        self.limit: int = algorithm.limit  # as ``change`` saw it last
        self.changes: deque[LimitChanged] = deque(maxlen=_CHANGES_KEPT)
        self.in_flight: int = 0
        self.waiting: int = 0
        self.resting: int = 0
        self.ok: int = 0
        self.refused: int = 0
        self.other: int = 0
        self.holders: Holders = Holders()
        self.lookout: Lookout = Lookout()
        self.stillness: Stillness = Stillness()

    @property
    def load(self) -> Load:
        """Return the limit, and how many are in flight, waiting and refused."""
        return Load(self.algorithm.limit, self.in_flight, self.waiting, self.refused)

    @property
    def has_room(self) -> bool:
        """Return True if the limit has room for an attempt and the algorithm is ready for it."""
        if self.in_flight >= self.algorithm.limit:
            return False
        return not self.says_not_yet or bool(self.algorithm.ready)  # type: ignore[attr-defined]

    @property
    def is_closed(self) -> bool:
        """Return True if the limit is closed and lets only canaries out."""
        return self.algorithm.closed_until is not None

    @property
    def is_idle(self) -> bool:
        """Return True if nothing runs or waits here."""
        return not self.in_flight and not self.waiting and not self.resting

    @property
    def present(self) -> int:
        """Count the requests that wait, run without an answer, or are between two attempts."""
        return self.waiting + self.in_flight - len(self.holders.answers) + self.resting

    @property
    def hints_disproved(self) -> bool:
        """Return True if the server's retry-after hints were found to be wrong."""
        return isinstance(self.algorithm, StepBack) and self.algorithm.hints_disproved

    def take(self, now: float) -> Ticket:
        """Take a slot for an attempt that goes out."""
        if self.began_at < 0:
            self.began_at = now
        ticket = self.algorithm.sent(now, self.in_flight + 1)
        self.in_flight += 1
        return ticket

    def put_back(self, ticket: Ticket, now: float) -> None:
        """Take back a slot whose owner went before sending anything."""
        self.in_flight -= 1
        self.algorithm.ended(ticket, now, self.in_flight)

    def free(self, answer: OpenAnswer) -> None:
        """Take a slot back; called before the algorithm learns of the outcome."""
        self.in_flight -= 1
        if self.holders.answers:
            self.holders.forget(answer)

    def refuse(self, ticket: Ticket, now: float, retry_after: float | None, jitter: float) -> None:
        """Report to the algorithm that an attempt was refused for load."""
        if isinstance(self.algorithm, StepBack):
            self.algorithm.present = self.present + 1
        self.algorithm.refused(ticket, now, self.in_flight, retry_after, jitter)

    def hurry(self) -> None:
        """Let the limit start quickly: a caller waits that gives up soon."""
        if isinstance(self.algorithm, StepBack):
            self.algorithm.hurry()

    def wait(self, now: float) -> None:
        """Count one more waiter."""
        if not self.waiting:
            self.lookout.begin(now, self._moved)
            self.stillness.begin(now, self.holders.turns(self._moved))
        self.waiting += 1

    def change(self) -> LimitChanged | None:
        """Return how the limit moved since the last call, ``None`` if it did not."""
        limit = self.algorithm.limit
        if limit == self.limit:
            return None
        change = LimitChanged(
            partition=self.key,
            old=self.limit,
            new=limit,
            reason=self.algorithm.reason,
            in_flight=self.in_flight,
            waiting=self.waiting,
        )
        self.limit = limit
        self.changes.append(change)
        return change

    def rate_change(self) -> RateChanged | None:
        """Return how the learnt rate moved since the last call, ``None`` if less than a tenth."""
        if self.spacing is None:
            return None
        old, new = self.per_minute, self.spacing.per_minute
        if old == new or (old and new and abs(new - old) < _RATE_STEP * old):
            return None
        self.per_minute, state = new, self.spacing.state
        if old is None and not isinstance(state, Listening):
            state = state.kept  # a trial may have begun since it was learnt
        return RateChanged(
            partition=self.key,
            old=old,
            new=new,
            reason=state.reason,
            in_flight=self.in_flight,
            waiting=self.waiting,
        )

    def look(self, now: float, *, is_paced: bool) -> int | None:
        """Watch for a standstill; return the generation of objects to collect now, if any.

        Collecting finds dropped answers, which hold slots. While a rate holds back the first waiter
        (``is_paced``) nothing counts as a standstill.
        """
        if not self.waiting:
            return None
        if now >= self.lookout.at:
            is_held_up = not is_paced and self.holders.all_idle(self.in_flight)
            self.stillness.look(now, self.holders.turns(self._moved), is_held_up)
        return self.lookout.look(now, self._moved, len(self.holders.answers))

    def standstill(self) -> Standstill | None:
        """Return the event for a standstill, once for each."""
        seconds = self.stillness.untold()
        if seconds is None:
            return None
        held = len(self.holders.answers)
        return standstill(
            self.key, limit=self.limit, held=held, waiting=self.waiting, seconds=seconds
        )

    @property
    def _moved(self) -> int:
        return self.ok + self.refused + self.other
