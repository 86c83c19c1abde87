"""Every keyword of ``wrap``: its default, unit, bounds and meaning, declared once.

``Options`` gives the keywords their types, for editors and type checkers; ``Config`` holds the
defaults and checks the values. Nothing else in the package gives a number a default.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import backoff

from .events import Observer
from .fleet.scope import Fleet, RedisSource
from .keywords import Number, check_choice, check_number, keyword, refuse_unknown
from .limits.algorithm import ACCOUNT_MOST, LimitAlgorithm, StepBack
from .limits.budget import EVERY_MODEL, Budget
from .limits.fixed import FixedLimit
from .limits.priority import Priority, priority_number
from .verdict.retry import Jitter, RetryAmbiguous, RetryPolicy, WaitGenerator
from .verdict.rule import Rule
from .verdict.vocabulary import RequestInfo

Partition = Callable[[RequestInfo], Hashable]
IncompleteStream = Literal["raise", "warn"]
Opening = Literal["hold", "pass"]
AlgorithmFactory = Callable[[], LimitAlgorithm]
#: A file, or a function that gets each line as a ``journal.record.JournalRecord``.
Journal = str | Path | Callable[[Any], object]


class PerCallOptions(TypedDict, total=False):
    """The keywords that ``override`` takes: those that concern one request and no other."""

    max_retries: int
    backoff_initial: float
    backoff_max: float
    max_retry_after: float
    wait: WaitGenerator
    jitter: Jitter | None
    retry_ambiguous: RetryAmbiguous
    deadline: float | None
    queue_timeout: float | None
    priority: Priority
    stall_timeout: float | None
    incomplete_stream: IncompleteStream
    opening: Opening


class Options(PerCallOptions, total=False):
    """The keywords that ``wrap`` and ``ResilientTransport`` take; ``Config`` explains each."""

    initial_concurrency: int
    min_concurrency: int
    max_concurrency: int
    max_queue: int | None
    partition: Partition | None
    algorithm: AlgorithmFactory | None
    budget: Budget | Mapping[str, Budget] | None
    fleet: RedisSource | Fleet | None
    rules: Sequence[Rule]
    on_event: Observer | Sequence[Observer] | None
    journal: Journal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The values of all keywords, checked.

    Raises:
        TypeError: If a keyword is unknown (from ``from_options``).
        ValueError: If a value is out of its bounds; the message names keyword, value and bounds.

    """

    max_retries: int = keyword(
        6, Number(0, 1_000, whole=True), "retries", "retries after the first attempt"
    )
    backoff_initial: float = keyword(
        0.5,
        Number(0, 3_600),
        "s",
        "longest wait before the first retry; doubles with each further one",
    )
    backoff_max: float = keyword(
        30.0, Number(0, 86_400), "s", "upper bound of the waits that the server does not ask for"
    )
    max_retry_after: float = keyword(
        120.0, Number(0, 86_400), "s", "give up at once if the server asks for a longer wait"
    )
    wait: WaitGenerator = keyword(
        backoff.expo,
        None,
        "",
        "wait generator as in the package `backoff`: `backoff.fibo`,"
        " `partial(backoff.constant, interval=2)`; `backoff_initial` applies to `expo` alone",
    )
    jitter: Jitter | None = keyword(
        None,
        None,
        "",
        "function that turns the longest wait into the actual one, such as `backoff.random_jitter`;"
        " by default 75 to 100 % of it, or 40 to 100 % of waits up to 2 s",
    )
    retry_ambiguous: RetryAmbiguous = keyword(
        "text",
        None,
        "",
        "what is retried although the failed attempt may have been carried out and billed:"
        " `text` (all but images, videos, speech), `all`, `none`",
    )
    deadline: float | None = keyword(
        None,
        Number(0.001, 86_400, optional=True),
        "s",
        "time for the whole request until its answer begins, with all attempts and waits",
    )
    initial_concurrency: int = keyword(
        8,
        Number(1, 100_000, whole=True),
        "requests",
        "limit that each partition and its account start at, within `min_` and `max_concurrency`",
    )
    min_concurrency: int = keyword(
        1,
        Number(1, 100_000, whole=True),
        "requests",
        "lower bound of a partition's limit, unless refusals have closed it",
    )
    max_concurrency: int = keyword(
        512,
        Number(1, 100_000, whole=True),
        "requests",
        "upper bound of a partition's limit",
    )
    max_queue: int | None = keyword(
        10_000,
        Number(0, 10_000_000, whole=True, optional=True),
        "requests",
        "how many requests may wait in one partition; further ones fail at once, unsent",
    )
    queue_timeout: float | None = keyword(
        None, Number(0, 86_400, optional=True), "s", "longest wait for a slot"
    )
    priority: Priority = keyword(
        "normal",
        None,
        "",
        "place in the queue: `high`, `normal`, `low`, `bulk` (the default of `run_all`), or a whole"
        " number from -10 (first) to 10 (last); nobody starves",
    )
    stall_timeout: float | None = keyword(
        None,
        Number(0.001, 86_400, optional=True),
        "s",
        "longest wait for the next event of a stream, the first included; keep-alives do not count",
    )
    incomplete_stream: IncompleteStream = keyword(
        "raise",
        None,
        "",
        "what to do where a stream ends without its terminal event: `raise`, or only `warn`",
    )
    opening: Opening = keyword(
        "hold",
        None,
        "",
        "events before a stream's first output: `hold` them back, so that a failure among them is"
        " retried, or `pass` them on at once",
    )
    partition: Partition | None = keyword(
        None,
        None,
        "",
        "function from a request to the key of the limit that it shares; by default (route, model)",
    )
    algorithm: AlgorithmFactory | None = keyword(
        None,
        None,
        "",
        "function that makes a partition's limit algorithm: `lambda: FixedLimit(5)`",
    )
    budget: Budget | Mapping[str, Budget] | None = keyword(
        None,
        None,
        "",
        "requests and tokens allowed per period, `Budget(requests=500, tokens=200_000, per=60)`,"
        " or a mapping from models to budgets, `*` for all others",
    )
    fleet: RedisSource | Fleet | None = keyword(
        None,
        None,
        "",
        "share each limit with other processes through Redis or Valkey: a URL, a function that"
        " makes a client, or `Fleet(...)`",
        shown=False,
    )
    rules: Sequence[Rule] = keyword(
        (), None, "", "rules of your own, tried before those of the table"
    )
    on_event: Observer | Sequence[Observer] | None = keyword(
        None, None, "", "function, or several, called with each event"
    )
    journal: Journal | None = keyword(
        None, None, "", "file or function that gets one line per attempt, without content"
    )

    def __post_init__(self) -> None:
        for declared in fields(self):
            check_number(declared.name, getattr(self, declared.name), declared.metadata["bounds"])
        check_choice("retry_ambiguous", self.retry_ambiguous, get_args(RetryAmbiguous))
        check_choice("incomplete_stream", self.incomplete_stream, get_args(IncompleteStream))
        check_choice("opening", self.opening, get_args(Opening))
        priority_number(self.priority)  # checks it
        _check_wait(self.wait)
        _check_jitter(self.jitter)
        _check_function("partition", self.partition, 1, "one argument (a RequestInfo)")
        _check_function("algorithm", self.algorithm, 0, "no argument: lambda: FixedLimit(5)")
        if self.min_concurrency > self.max_concurrency:
            raise ValueError(
                f"min_concurrency={self.min_concurrency!r}: expected at most"
                f" max_concurrency={self.max_concurrency!r}"
            )
        _check_budget(self.budget)
        if self.as_fleet is not None:
            _check_shareable(self.algorithm)
        _check_sequence("rules", self.rules, lambda rule: isinstance(rule, Rule), "Rule values")
        if not callable(self.on_event) and self.on_event is not None:
            _check_sequence("on_event", self.on_event, callable, "functions, or one function")
        for observer in self.observers:
            _check_function("on_event", observer, 1, "one argument (an Event)")
        _check_journal(self.journal)

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Config:
        """Check keywords and make a configuration of them.

        Raises:
            TypeError: If a keyword is unknown.
            ValueError: If a value is out of its bounds.

        """
        names = {declared.name for declared in fields(cls)}
        for name in options:
            if name not in names:
                raise refuse_unknown(name, names)
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
    def as_fleet(self) -> Fleet | None:
        """The keyword ``fleet`` as a value.

        Raises:
            ValueError: If it is no URL, no function and no ``Fleet``.

        """
        if self.fleet is None or isinstance(self.fleet, Fleet):
            return self.fleet
        return Fleet(self.fleet)

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """The keyword ``budget``, by the models that each counts."""
        if self.budget is None:
            return {}
        return {EVERY_MODEL: self.budget} if isinstance(self.budget, Budget) else dict(self.budget)

    @property
    def make_algorithm(self) -> AlgorithmFactory:
        """The factory of limit algorithms: the user's, or ours with the user's bounds."""
        if self.algorithm is not None:
            return self.algorithm
        return lambda: StepBack(
            self.initial_concurrency,
            self.min_concurrency,
            self.max_concurrency,
            longest=self.backoff_max,
            tests_hints=self.fleet is None,
        )

    def make_account_limit(self) -> StepBack:
        """Return the limit of an account, over all of its partitions."""
        return StepBack(
            self.initial_concurrency,
            self.min_concurrency,
            ACCOUNT_MOST,
            longest=self.backoff_max,
            tests_hints=self.fleet is None,
            starts_quickly=True,
        )

    @property
    def retry_policy(self) -> RetryPolicy:
        """The part of the configuration that decides about retries."""
        return RetryPolicy(
            backoff_initial=self.backoff_initial,
            backoff_max=self.backoff_max,
            max_retry_after=self.max_retry_after,
            retry_ambiguous=self.retry_ambiguous,
            wait=self.wait,
            jitter=self.jitter,
        )


def _check_function(name: str, value: Any, arguments: int, what: str) -> None:
    """Raise ``ValueError`` unless a value is ``None`` or a function of so many arguments."""
    if value is not None and not _takes(value, arguments):
        raise ValueError(f"{name}={value!r}: expected a function that takes {what}, or None")


def _takes(function: Any, arguments: int) -> bool:
    """Return True if a function can be called with so many arguments, as far as it shows them."""
    try:
        signature(function).bind(*(None,) * arguments)
    except ValueError:
        return True
    except TypeError:
        return False
    return True


def _check_wait(value: Any) -> None:
    """Raise ``ValueError`` unless a value makes a generator of waits, as ``backoff.expo`` does."""
    expected = f"wait={value!r}: expected a wait generator such as backoff.fibo"
    try:
        waits = list(islice(value(), 1, 4))  # the first value is a primer, as in backoff
    except Exception as error:
        raise ValueError(f"{expected}; called without arguments it raised {error!r}") from error
    if not waits or not all(map(Number(0).accepts, waits)):
        raise ValueError(f"{expected}, which yields a primer and then seconds; it yielded {waits}")


def _check_jitter(value: Any) -> None:
    """Raise ``ValueError`` unless a value makes one wait of another, as ``backoff`` does it."""
    if value is None:
        return
    expected = f"jitter={value!r}: expected a function such as backoff.full_jitter, or None"
    try:
        waited = value(1.0)
    except Exception as error:
        raise ValueError(f"{expected}; called with 1.0 it raised {error!r}") from error
    if not Number(0).accepts(waited):
        raise ValueError(f"{expected}; called with 1.0 it returned {waited!r}")


def _check_journal(value: object) -> None:
    """Raise ``ValueError`` unless a value can be written to, line by line."""
    expected = f"journal={value!r}: expected the path of a file, a function or None"
    if callable(value):
        _check_function("journal", value, 1, "one argument (a JournalRecord)")
    elif value is not None and (not isinstance(value, (str, Path)) or not str(value)):
        raise ValueError(expected)
    elif value is not None and Path(value).is_dir():
        raise ValueError(f"{expected}; this is a folder")


def _check_shareable(algorithm: Callable[[], object] | None) -> None:
    """Raise ``ValueError`` unless an algorithm can live in Redis: what can be written down can."""
    if algorithm is not None and not isinstance(algorithm(), (StepBack, FixedLimit)):
        raise ValueError(
            f"algorithm={algorithm!r}: expected one that makes a StepBack or a FixedLimit, which"
            " alone can be shared by fleet="
        )


def _check_budget(value: object) -> None:
    """Raise ``ValueError`` unless a value is a budget, or a mapping from models to budgets."""
    given: Mapping[object, object] = value if isinstance(value, Mapping) else {EVERY_MODEL: value}
    is_sound = all(isinstance(name, str) and name for name in given)
    wrong = [each for each in given.values() if not isinstance(each, Budget)]
    if value is not None and (wrong or not given or not is_sound):
        raise ValueError(
            f"budget={wrong[0] if wrong else value!r}: expected Budget(requests=..., tokens=...,"
            " per=...), or a mapping from the names of models to such budgets, '*' for all others"
        )


def _check_sequence(name: str, value: object, accepts: Callable[[Any], bool], what: str) -> None:
    """Raise ``ValueError`` unless a value is a sequence of the right things."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ValueError(f"{name}={value!r}: expected a sequence of {what}")
    for item in value:
        if not accepts(item):
            raise ValueError(f"{name}: expected {what}, got {item!r}")


def described(declared: Field[Any]) -> str:
    """Return the meaning of a keyword with its unit and bounds, as docstrings have it."""
    bounds: Number | None = declared.metadata["bounds"]
    unit: str = declared.metadata["unit"]
    meaning: str = declared.metadata["meaning"].replace("`", "``")
    limits = ""
    if bounds is not None:
        none = ", or None" if bounds.optional else ""
        limits = f" ({bounds.bounds()} {'seconds' if unit == 's' else unit}{none})"
    return f"{meaning[0].upper()}{meaning[1:]}{limits}."


def _named(default: object) -> str:
    """Return a default as one would write it."""
    return "backoff.expo" if default is backoff.expo else repr(default)


def keywords_table() -> str:
    """Return the README's table of keywords, from their declarations."""
    rows = ["| keyword | default | bounds | meaning |", "|---|---|---|---|"]
    for declared in fields(Config):
        bounds: Number | None = declared.metadata["bounds"]
        unit = f" {declared.metadata['unit']}" if declared.metadata["unit"] else ""
        shown = f"`{_named(declared.default)}`" + (unit if declared.default is not None else "")
        limits = bounds.describe() if bounds else ""
        rows.append(f"| `{declared.name}` | {shown} | {limits} | {declared.metadata['meaning']} |")
    return "\n".join(rows)
