"""Saturation, from journals: the route and model that reached a limit first, and that limit.

A pure function from lines to frozen values. Lines are read one by one, and memory is bounded: time
is divided into at most ``SLOTS`` slots, whose width doubles when a journal outgrows them, and at
most ``SERIES`` pairs of route and model are distinguished. Every attempt is counted exactly.
A cap or a rate is found in an excerpt of each of the first ``EXPLAINED`` series that were refused,
in the order in which attempts were sent, restored over ``REORDERED`` lines.

An attempt was refused if it was told to slow down: kind ``rate_limited``, or a 429 of unknown kind.
A 429 about an empty account is a failure, but no evidence of load.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Final

from .ceiling import AccountCeiling, Accounts
from .explanation import Attempt, Excerpt, Rate, rate_in
from .level import Counts, FirstRefusal, Level
from .sample import Key, Sample, Tokens, parse_line

SLOTS: Final = 120
SERIES: Final = 200
#: The width of a slot in seconds, to begin with.
FINEST: Final = 0.125
#: The series of all pairs beyond ``SERIES``.
OTHERS: Final = ("(others)", "")
#: Series whose refusals are explained, and attempts that are held to restore their order.
EXPLAINED: Final = 40
REORDERED: Final = 4_096
#: The shortest time (seconds) for figures per minute.
_LEAST_SPAN: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """An interval of one series, from ``start`` on; ``in_flight`` is its maximum."""

    start: float
    attempts: int
    refused: int
    failed: int
    in_flight: int
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One route and model: counts, the first refusal, and slots in order of time.

    ``failed`` counts attempts that failed otherwise. ``level`` is ``None`` without refusals, and if
    they do not depend on concurrency. ``rate`` is the limit that explains them instead, if any.
    ``tokens`` are those that its answers name. ``answered_per_minute`` and ``tokens_per_minute``
    are averages from its first attempt to its last, ``None`` for less than ten seconds.
    """

    route: str
    model: str
    attempts: int
    refused: int
    failed: int
    tokens: int
    first: FirstRefusal | None
    level: Level | None
    rate: Rate | None
    answered_per_minute: float | None
    tokens_per_minute: float | None
    slots: tuple[Slot, ...]

    @property
    def share(self) -> float:
        """The share of attempts that were refused."""
        return self.refused / self.attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """The findings in journals: the series in order of their first refusal, then by attempts.

    ``malformed`` counts lines that cannot be parsed. Times are in seconds of the Unix clock,
    ``width`` is a slot's in seconds. ``accounts`` are those whose own ceiling was met.
    """

    start: float
    end: float
    width: float
    malformed: int
    series: tuple[Series, ...]
    accounts: tuple[AccountCeiling, ...] = ()

    @property
    def attempts(self) -> int:
        """The number of attempts that were read."""
        return sum(series.attempts for series in self.series)

    @property
    def refused(self) -> int:
        """The number of attempts that were refused."""
        return sum(series.refused for series in self.series)


@dataclass(slots=True)
class _Cell:
    attempts: int = 0
    refused: int = 0
    failed: int = 0
    in_flight: int = 0
    limits: int = 0

    def merge(self, other: _Cell) -> None:
        self.attempts += other.attempts
        self.refused += other.refused
        self.failed += other.failed
        self.in_flight = max(self.in_flight, other.in_flight)
        self.limits += other.limits


@dataclass(slots=True)
class _Growing:
    """One series while lines are read."""

    cells: dict[int, _Cell] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    tokens: int = 0
    start: float = math.inf
    end: float = -math.inf

    def add(self, sample: Sample, place: int) -> None:
        self.tokens += sample.tokens
        self.start, self.end = min(self.start, sample.time), max(self.end, sample.time)
        cell = _Cell(1, sample.refused, sample.failed, sample.in_flight, sample.limit)
        self.cells.setdefault(place, _Cell()).merge(cell)
        if not sample.failed:
            self.counts.add(sample, sample.in_flight, sample.limit)

    def per_minute(self, count: int) -> float | None:
        span = self.end - self.start
        return 60 * count / span if span >= _LEAST_SPAN else None

    def halve(self) -> None:
        """Merge neighbouring cells."""
        halved: dict[int, _Cell] = {}
        for place, cell in self.cells.items():
            halved.setdefault(place // 2, _Cell()).merge(cell)
        self.cells = halved


class _Excerpts:
    """The excerpts of the first series that are refused, each in the order of sending."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Attempt, Key]] = []
        self._of: dict[Key, Excerpt] = {}
        self._refused: set[Key] = set()

    def add(self, sample: Sample) -> None:
        """Add an attempt that was answered or refused; it is held for those sent before it."""
        if sample.failed or sample.key == OTHERS:
            return
        of_account = 0 if sample.above is None else sample.above.in_flight
        attempt = Attempt(sample.sent, sample.in_flight, sample.refused, of_account)
        if len(self._waiting) < REORDERED:
            heappush(self._waiting, (attempt, sample.key))
        else:
            self._take(*heappushpop(self._waiting, (attempt, sample.key)))

    def rates(self) -> dict[Key, Rate]:
        """Return the rates that explain refusals, by series."""
        for entry in sorted(self._waiting):
            self._take(*entry)
        self._waiting.clear()
        rates = {key: rate_in(excerpt.attempts()) for key, excerpt in self._of.items()}
        return {key: rate for key, rate in rates.items() if rate is not None}

    def _take(self, attempt: Attempt, key: Key) -> None:
        excerpt = self._of.setdefault(key, Excerpt())
        if attempt.refused and key not in self._refused:
            if len(self._refused) >= EXPLAINED:
                return
            self._refused.add(key)
        excerpt.add(attempt)


def analyse(lines: Iterable[bytes]) -> Saturation:
    """Return the findings in the lines of any number of journals, in any order."""
    growing: dict[Key, _Growing] = {}
    streamed: Counter[Key] = Counter()
    excerpts, accounts, malformed, width = _Excerpts(), Accounts(), 0, FINEST
    start, end = math.inf, -math.inf
    for line in lines:
        sample = parse_line(line)
        if sample is None:
            malformed += bool(line.strip())
            continue
        if isinstance(sample, Tokens):
            streamed[_placed(sample.key, streamed)] += sample.tokens
            continue
        start, end = min(start, sample.time), max(end, sample.time)
        while end // width - start // width >= SLOTS:
            width *= 2
            for each in growing.values():
                each.halve()
        sample = sample._replace(key=_placed(sample.key, growing))
        growing.setdefault(sample.key, _Growing()).add(sample, int(sample.time // width))
        excerpts.add(sample)
        accounts.add(sample)
    for key, tokens in streamed.items() if growing else ():
        growing.setdefault(_placed(key, growing), _Growing()).tokens += tokens
    rates = excerpts.rates()
    found = (_series(*item, width, rates.get(item[0])) for item in growing.items() if item[1].cells)
    series = sorted(found, key=_order)
    if not series:
        start = end = 0.0
    return Saturation(
        start=start,
        end=end,
        width=width,
        malformed=malformed,
        series=tuple(series),
        accounts=accounts.met(rates),
    )


def _placed(key: Key, kept: Collection[Key]) -> Key:
    """Return the key of a series: its own, or that of all beyond ``SERIES``."""
    return key if key in kept or len(kept) < SERIES else OTHERS


def _order(series: Series) -> tuple[float, int, str, str]:
    first = math.inf if series.first is None else series.first.time
    return (first, -series.attempts, series.route, series.model)


def _series(key: Key, growing: _Growing, width: float, rate: Rate | None) -> Series:
    cells, total = sorted(growing.cells.items()), _Cell()
    for _, cell in cells:
        total.merge(cell)
    return Series(
        route=key[0],
        model=key[1],
        attempts=total.attempts,
        refused=total.refused,
        failed=total.failed,
        tokens=growing.tokens,
        first=growing.counts.first,
        level=None if rate else growing.counts.level(),
        rate=rate,
        answered_per_minute=growing.per_minute(total.attempts - total.refused - total.failed),
        tokens_per_minute=growing.per_minute(growing.tokens) if growing.tokens else None,
        slots=tuple(
            Slot(
                start=place * width,
                attempts=cell.attempts,
                refused=cell.refused,
                failed=cell.failed,
                in_flight=cell.in_flight,
                limit=cell.limits / cell.attempts,
            )
            for place, cell in cells
        ),
    )
