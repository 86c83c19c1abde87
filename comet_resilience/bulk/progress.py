"""The progress of a run, as a value; ``run_all(progress=...)`` passes it to a function."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

#: Seconds that the rate looks back.
LOOKS_BACK: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment.

    ``total`` is the number of items, ``None`` if unknown; ``skipped`` of them were finished by an
    earlier run. ``answered`` and ``failed`` calls are over, ``running`` ones are not. ``rate`` is
    in calls per second over the last half minute, ``eta`` and ``elapsed`` in seconds; ``eta`` is
    ``None`` while unknown. ``limit`` is the concurrency that the limiter permits the run now;
    ``refused`` counts attempts that the gateway refused for load. ``tokens`` are those that the
    answers name, prompts and completions together; ``tokens_per_minute`` is over the last half
    minute.
    """

    total: int | None
    skipped: int
    answered: int
    failed: int
    running: int
    elapsed: float
    rate: float
    eta: float | None
    limit: int
    refused: int
    tokens: int
    tokens_per_minute: float

    @property
    def over(self) -> int:
        """The number of items that need no more work: skipped, answered or failed."""
        return self.skipped + self.answered + self.failed

    @property
    def figures(self) -> str:
        """The rate, ``eta``, limit, refusals and failures in words, and tokens if any are named."""
        parts = [f"{self.rate:.1f}/s"]
        if self.eta is not None:
            parts.append(f"eta {_clock_time(self.eta)}")
        parts += [f"limit {self.limit}", f"refused {self.refused}", f"failed {self.failed}"]
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens ({self.tokens_per_minute:,.0f}/min)")
        return ", ".join(parts)

    def __str__(self) -> str:
        return f"{self.over:,}{'' if self.total is None else f' of {self.total:,}'}, {self.figures}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show IPython and notebooks the words instead of the fields."""
        printer.text("..." if cycle else str(self))


class Rate:
    """Calls, or tokens, per second over the last half minute."""

    def __init__(self, now: float) -> None:
        self._marks = deque([(now, 0)])

    def at(self, now: float, count: int) -> float:
        """Return the rate, given ``count`` in total now."""
        while len(self._marks) > 1 and self._marks[1][0] <= now - LOOKS_BACK:
            self._marks.popleft()
        since, before = self._marks[0]
        self._marks.append((now, count))
        return (count - before) / (now - since) if now > since else 0.0


def eta(total: int | None, over: int, rate: float) -> float | None:
    """Return the seconds until the end at this rate; ``None`` while unknown."""
    if total is None:
        return None
    left = max(0, total - over)
    if not left:
        return 0.0
    return left / rate if rate else None


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
