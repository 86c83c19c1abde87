"""Every keyword of ``wrap``: its default, unit, bounds and meaning, declared once.

``Options`` gives the keywords their types, for editors and type checkers; ``Config`` holds the
defaults and checks the values. Nothing else in the package gives a number a default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, get_args

from .events import Observer
from .limits.algorithm import LimitAlgorithm
from .verdict.retry import RetryAmbiguous, RetryPolicy
from .verdict.rule import Rule
from .verdict.vocabulary import RequestInfo

Partition = Callable[[RequestInfo], Hashable]
IncompleteStream = Literal["raise", "warn"]
AlgorithmFactory = Callable[[], LimitAlgorithm]
#: A file, or a function that gets each line as a ``support.journal.JournalRecord``.
Journal = str | Path | Callable[[Any], object]


class Options(TypedDict, total=False):
    """The keywords that ``wrap`` and ``ResilientTransport`` take; ``Config`` explains each."""

    max_retries: int
    backoff_initial: float
    backoff_max: float
    max_retry_after: float
    retry_ambiguous: RetryAmbiguous
    deadline: float | None
    initial_concurrency: int
    min_concurrency: int
    max_concurrency: int
    max_queue: int | None
    queue_timeout: float | None
    stall_timeout: float | None
    incomplete_stream: IncompleteStream
    partition: Partition | None
    algorithm: AlgorithmFactory | None
    rules: Sequence[Rule]
    on_event: Observer | Sequence[Observer] | None
    journal: Journal | None


def by_route_and_model(info: RequestInfo) -> Hashable:
    """The default partition: requests to one route for one model share a limit."""
    return (info.route, info.model)


@dataclass(frozen=True, slots=True)
class _Number:
    """The bounds of a number, both included; ``math.inf`` means unbounded."""

    low: float
    high: float = math.inf
    whole: bool = False
    optional: bool = False

    def describe(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        upper = f"to {_plain(self.high)}" if self.high < math.inf else "or more"
        return f"{kind}, {_plain(self.low)} {upper}" + (", or None" if self.optional else "")

    def accepts(self, value: object) -> bool:
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.low <= value <= self.high and value < math.inf


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _keyword(default: Any, bounds: _Number | None, unit: str, meaning: str) -> Any:
    return field(default=default, metadata={"bounds": bounds, "unit": unit, "meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The values of all keywords, checked.

    Raises:
        TypeError: If a keyword is unknown (from ``from_options``).
        ValueError: If a value is out of its bounds; the message names keyword, value and bounds.

    """

    max_retries: int = _keyword(
        6, _Number(0, 1_000, whole=True), "retries", "attempts after the first one"
    )
    backoff_initial: float = _keyword(
        0.5, _Number(0, 3_600), "s", "longest wait before the first retry; doubles each time"
    )
    backoff_max: float = _keyword(
        30.0, _Number(0, 86_400), "s", "no wait of our own is longer than this"
    )
    max_retry_after: float = _keyword(
        60.0, _Number(0, 86_400), "s", "give up at once if the server asks for a longer wait"
    )
    retry_ambiguous: RetryAmbiguous = _keyword(
        "text",
        None,
        "",
        "which requests are sent again although the first may have been done and billed:"
        " `text` (all but images, videos, speech), `all`, `none`",
    )
    deadline: float | None = _keyword(
        None,
        _Number(0.001, 86_400, optional=True),
        "s",
        "for the whole request, queue, attempts and waits, until its answer begins",
    )
    initial_concurrency: int = _keyword(
        8,
        _Number(1, 100_000, whole=True),
        "requests",
        "what each partition starts with, within the next two",
    )
    min_concurrency: int = _keyword(
        1,
        _Number(1, 100_000, whole=True),
        "requests",
        "an open partition's limit stays at or above this",
    )
    max_concurrency: int = _keyword(
        512,
        _Number(1, 100_000, whole=True),
        "requests",
        "a partition's limit stays at or below this",
    )
    max_queue: int | None = _keyword(
        10_000,
        _Number(0, 10_000_000, whole=True, optional=True),
        "requests",
        "how many may wait in one partition; more are refused before they are sent",
    )
    queue_timeout: float | None = _keyword(
        None, _Number(0, 86_400, optional=True), "s", "longest wait for a slot"
    )
    stall_timeout: float | None = _keyword(
        None,
        _Number(0.001, 86_400, optional=True),
        "s",
        "longest wait for the first event of a stream and between events; keep-alives do not count",
    )
    incomplete_stream: IncompleteStream = _keyword(
        "raise", None, "", "a stream that ends without its terminal sign: `raise`, or only `warn`"
    )
    partition: Partition | None = _keyword(
        None, None, "", "function from a request to what it shares a limit with: (route, model)"
    )
    algorithm: AlgorithmFactory | None = _keyword(
        None, None, "", "makes each partition's limit algorithm; `lambda: FixedLimit(5)` fixes it"
    )
    rules: Sequence[Rule] = _keyword((), None, "", "rows of your own, tried before the table's")
    on_event: Observer | Sequence[Observer] | None = _keyword(
        None, None, "", "called with each event, one function or several"
    )
    journal: Journal | None = _keyword(
        None, None, "", "a file, or a function, that gets one line per attempt, without content"
    )

    def __post_init__(self) -> None:
        for declared in fields(self):
            _check_number(declared.name, getattr(self, declared.name), declared.metadata["bounds"])
        _check_choice("retry_ambiguous", self.retry_ambiguous, get_args(RetryAmbiguous))
        _check_choice("incomplete_stream", self.incomplete_stream, get_args(IncompleteStream))
        _check_callable("partition", self.partition)
        _check_callable("algorithm", self.algorithm)
        _check_order("min_concurrency", "max_concurrency", self)
        _check_sequence("rules", self.rules, lambda rule: isinstance(rule, Rule), "Rule values")
        _check_sequence("on_event", self.observers, callable, "functions")
        _check_journal(self.journal)

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Config:
        """Check keywords and make a configuration of them.

        Raises:
            TypeError: If a keyword is unknown.
            ValueError: If a value is out of its bounds.

        """
        known = {declared.name for declared in fields(cls)}
        for name in options:
            if name not in known:
                raise TypeError(f"unknown keyword {name!r}; known are: {', '.join(sorted(known))}")
        return cls(**options)  # type: ignore[arg-type]

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The functions given as ``on_event``, as a tuple."""
        if self.on_event is None:
            return ()
        if callable(self.on_event):
            return (self.on_event,)
        return tuple(self.on_event)

    @property
    def retry_policy(self) -> RetryPolicy:
        """The part of the configuration that decides about retries."""
        return RetryPolicy(
            backoff_initial=self.backoff_initial,
            backoff_max=self.backoff_max,
            max_retry_after=self.max_retry_after,
            retry_ambiguous=self.retry_ambiguous,
        )


def keywords_table() -> str:
    """The README's table of keywords, from their declarations."""
    rows = ["| keyword | default | bounds | meaning |", "|---|---|---|---|"]
    for declared in fields(Config):
        bounds: _Number | None = declared.metadata["bounds"]
        unit = f" {declared.metadata['unit']}" if declared.metadata["unit"] else ""
        shown = f"`{declared.default!r}`" + (unit if declared.default is not None else "")
        limits = bounds.describe() if bounds else ""
        rows.append(f"| `{declared.name}` | {shown} | {limits} | {declared.metadata['meaning']} |")
    return "\n".join(rows)


def _check_number(name: str, value: object, bounds: _Number | None) -> None:
    if bounds is not None and not bounds.accepts(value):
        raise ValueError(f"{name}={value!r}: expected {bounds.describe()}")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def _check_callable(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise ValueError(f"{name}={value!r}: expected a function or None")


def _check_journal(value: object) -> None:
    if value is None or callable(value):
        return
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError(f"journal={value!r}: expected the path of a file, a function or None")


def _check_order(smaller: str, larger: str, config: Config) -> None:
    low, high = getattr(config, smaller), getattr(config, larger)
    if low > high:
        raise ValueError(f"{smaller}={low!r}: expected at most {larger}={high!r}")


def _check_sequence(name: str, value: object, accepts: Callable[[Any], bool], what: str) -> None:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ValueError(f"{name}={value!r}: expected a sequence of {what}")
    for item in value:
        if not accepts(item):
            raise ValueError(f"{name}: expected {what}, got {item!r}")


KEYWORDS: Final = tuple(declared.name for declared in fields(Config))
