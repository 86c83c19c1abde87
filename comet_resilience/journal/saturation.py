"""Saturation, read from journals: the route and model that met a limit first, and its height.

A pure function from lines to frozen values. Lines are read one by one, and memory is bounded: time
is divided into at most ``SLOTS`` slots, whose width doubles when a journal outgrows them, and at
most ``SERIES`` pairs of route and model are distinguished. No attempt is lost: counts are exact.
Whether a cap or a rate explains the refusals is read from an excerpt of each of the first
``EXPLAINED`` series that were refused, in the order in which attempts were sent, as far as
``REORDERED`` lines bring them into it.

An attempt counts as refused when it was told to slow down: kind ``rate_limited``, or a 429 of
unknown kind. A 429 about an empty account is a failure, but says nothing of load.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappush, heappushpop
from typing import Any, Final, NamedTuple

from .ceiling import Above, AccountCeiling, Accounts
from .explanation import Attempt, Excerpt, Rate, rate_in
from .level import FirstRefusal, Level, level_of, rounded

SLOTS: Final = 120
SERIES: Final = 200
#: The width of a slot in seconds, to begin with.
FINEST: Final = 0.125
#: Names of routes and models are cut to this many characters.
NAME_SHOWN: Final = 120
#: The series of all pairs beyond ``SERIES``.
OTHERS: Final = ("(others)", "")
#: Series whose refusals are explained, and attempts that wait for those sent earlier.
EXPLAINED: Final = 40
REORDERED: Final = 4_096
#: Over less time (seconds) nothing is said about what a minute brings.
_LEAST_SPAN: Final = 10.0


class Sample(NamedTuple):
    """The fields of one record that count; times are in seconds of the Unix clock."""

    time: float
    sent: float
    route: str
    model: str
    refused: bool
    failed: bool
    in_flight: int
    limit: int
    tokens: int
    above: Above | None = None


class Tokens(NamedTuple):
    """The tokens that a stream names in its second line; it is no attempt of its own."""

    route: str
    model: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A stretch of time of one series, from ``start`` on; ``in_flight`` is the highest."""

    start: float
    attempts: int
    refused: int
    failed: int
    in_flight: int
    limit: float

    @property
    def share(self) -> float:
        """The share of attempts that were refused."""
        return self.refused / self.attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One route and model: counts, the first refusal, and slots in order of time.

    ``failed`` counts attempts that failed otherwise. ``level`` is ``None`` without refusals, and
    where they do not depend on concurrency. ``rate`` is the limit that explains them instead, if
    one does. ``tokens`` are those that its answers name. ``answered_per_minute`` and
    ``tokens_per_minute`` are averages from its first attempt to its last, ``None`` over less than
    ten seconds.
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

    ``malformed`` lines were not understood. Times are in seconds of the Unix clock, ``width`` is
    that of a slot in seconds. ``accounts`` are those whose own ceiling was met.
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

    def add(self, sample: Sample) -> None:
        self.attempts += 1
        self.refused += sample.refused
        self.failed += sample.failed
        self.in_flight = max(self.in_flight, sample.in_flight)
        self.limits += sample.limit

    def merge(self, other: _Cell) -> None:
        self.attempts += other.attempts
        self.refused += other.refused
        self.failed += other.failed
        self.in_flight = max(self.in_flight, other.in_flight)
        self.limits += other.limits


@dataclass(slots=True)
class _Growing:
    """One series while lines come in."""

    cells: dict[int, _Cell] = field(default_factory=dict)
    first: FirstRefusal | None = None
    accepted_at: Counter[int] = field(default_factory=Counter)
    refused_at: Counter[int] = field(default_factory=Counter)
    tokens: int = 0
    start: float = math.inf
    end: float = -math.inf

    def add(self, sample: Sample, place: int) -> None:
        self.tokens += sample.tokens
        self.start, self.end = min(self.start, sample.time), max(self.end, sample.time)
        self.cells.setdefault(place, _Cell()).add(sample)
        if sample.refused:
            self.refused_at[rounded(sample.in_flight)] += 1
            if self.first is None or sample.time < self.first.time:
                self.first = FirstRefusal(
                    time=sample.time, in_flight=sample.in_flight, limit=sample.limit
                )
        elif not sample.failed:
            self.accepted_at[rounded(sample.in_flight)] += 1

    def per_minute(self, count: int) -> float | None:
        span = self.end - self.start
        return 60 * count / span if span >= _LEAST_SPAN else None

    def halve(self) -> None:
        """Join neighbouring cells."""
        halved: dict[int, _Cell] = {}
        for place, cell in self.cells.items():
            halved.setdefault(place // 2, _Cell()).merge(cell)
        self.cells = halved


class _Excerpts:
    """The excerpts of the first series that are refused, each in the order of sending."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Attempt, tuple[str, str]]] = []
        self._of: dict[tuple[str, str], Excerpt] = {}
        self._refused: set[tuple[str, str]] = set()

    def add(self, key: tuple[str, str], sample: Sample) -> None:
        """Take an attempt that was answered or refused; it waits for those sent before it."""
        if sample.failed or key == OTHERS:
            return
        of_account = 0 if sample.above is None else sample.above.in_flight
        attempt = Attempt(sample.sent, sample.in_flight, sample.refused, of_account)
        if len(self._waiting) < REORDERED:
            heappush(self._waiting, (attempt, key))
        else:
            self._take(*heappushpop(self._waiting, (attempt, key)))

    def rates(self) -> dict[tuple[str, str], Rate]:
        """Return the rates that explain refusals, by series."""
        for entry in sorted(self._waiting):
            self._take(*entry)
        self._waiting.clear()
        rates = {key: rate_in(excerpt.attempts()) for key, excerpt in self._of.items()}
        return {key: rate for key, rate in rates.items() if rate is not None}

    def _take(self, attempt: Attempt, key: tuple[str, str]) -> None:
        excerpt = self._of.setdefault(key, Excerpt())
        if attempt.refused and key not in self._refused:
            if len(self._refused) >= EXPLAINED:
                return
            self._refused.add(key)
        excerpt.add(attempt)


def parse_line(line: bytes) -> Sample | Tokens | None:
    """One line of a journal; ``None`` if it is none."""
    try:
        record = json.loads(line)
        if record["version"] != 1:
            return None
        time = datetime.fromisoformat(record["time"])
        if time.tzinfo is None or not 1970 < time.year < 2200:
            return None
        if record.get("event") == "stream_finished":
            return Tokens(*_name(record), _tokens(record))
        return _sample(record, time.timestamp())
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _sample(record: dict[str, Any], time: float) -> Sample | None:
    route, model = _name(record)
    kind, status, in_flight, limit = (
        record[name] for name in ("kind", "status", "in_flight", "limit")
    )
    if not (isinstance(in_flight, int) and 0 <= in_flight < 10**9):
        return None
    if not (isinstance(limit, int) and 0 <= limit < 10**9):
        return None
    refused = kind == "rate_limited" or (kind is None and status == 429)
    failed = not refused and (kind is not None or status is None)
    sent = time - _latency(record.get("latency"))
    above, tokens = _above(record), _tokens(record)
    return Sample(time, sent, route, model, refused, failed, in_flight, limit, tokens, above)


def _above(record: dict[str, Any]) -> Above | None:
    """Return the account of a line; ``None`` where none stands above, or in an older version."""
    name, in_flight, limit = (
        record.get(field) for field in ("account", "account_in_flight", "account_limit")
    )
    if not isinstance(name, str) or not all(
        type(count) is int and 0 <= count < 10**9 for count in (in_flight, limit)
    ):
        return None
    return Above(name[:NAME_SHOWN], in_flight, limit)  # type: ignore[arg-type]


def _latency(value: object) -> float:
    """Return how long an attempt took until its answer began, 0 if that is nonsense."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 10**6 else 0.0


def _name(record: dict[str, Any]) -> tuple[str, str]:
    route, model = record["route"], record["model"]
    if not (isinstance(route, str) and isinstance(model, str)):
        raise TypeError("route and model are texts")
    return route[:NAME_SHOWN], model[:NAME_SHOWN]


def _tokens(record: dict[str, Any]) -> int:
    """Return the tokens of a line, 0 in a line of an older version."""
    counts = (record.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return sum(each for each in counts if type(each) is int and 0 <= each < 10**12)


def analyse(lines: Iterable[bytes]) -> Saturation:
    """Return what the lines of any number of journals say, in any order."""
    growing: dict[tuple[str, str], _Growing] = {}
    streamed: Counter[tuple[str, str]] = Counter()
    excerpts, accounts, malformed, width = _Excerpts(), Accounts(), 0, FINEST
    start, end = math.inf, -math.inf
    for line in lines:
        sample = parse_line(line)
        if sample is None:
            malformed += bool(line.strip())
            continue
        key = (sample.route, sample.model)
        if isinstance(sample, Tokens):
            streamed[_placed(key, streamed)] += sample.tokens
            continue
        start, end = min(start, sample.time), max(end, sample.time)
        while end // width - start // width >= SLOTS:
            width *= 2
            for each in growing.values():
                each.halve()
        key = _placed(key, growing)
        growing.setdefault(key, _Growing()).add(sample, int(sample.time // width))
        excerpts.add(key, sample)
        accounts.add(key, sample)
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


def _placed(key: tuple[str, str], kept: Collection[tuple[str, str]]) -> tuple[str, str]:
    """Return the name of a series, or that of all beyond the first."""
    return key if key in kept or len(kept) < SERIES else OTHERS


def _order(series: Series) -> tuple[float, int, str, str]:
    first = math.inf if series.first is None else series.first.time
    return (first, -series.attempts, series.route, series.model)


def _series(key: tuple[str, str], growing: _Growing, width: float, rate: Rate | None) -> Series:
    cells = sorted(growing.cells.items())
    answered = sum(cell.attempts - cell.refused - cell.failed for _, cell in cells)
    return Series(
        route=key[0],
        model=key[1],
        attempts=sum(cell.attempts for _, cell in cells),
        refused=sum(cell.refused for _, cell in cells),
        failed=sum(cell.failed for _, cell in cells),
        tokens=growing.tokens,
        first=growing.first,
        level=None if rate else level_of(growing.accepted_at, growing.refused_at),
        rate=rate,
        answered_per_minute=growing.per_minute(answered),
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
