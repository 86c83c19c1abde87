"""The record that the quickstart keeps of a burst, and the tables that it prints."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from comet_resilience import (
    AttemptFinished,
    Diagnosis,
    Event,
    LimitChanged,
    RetryScheduled,
    Snapshot,
)

#: Of each call: the text of the answer, or why there is none.
Outcome: TypeAlias = str | Diagnosis


class Recorder:
    """Hears every event of a wrapped client and keeps what is to be shown."""

    def __init__(self) -> None:
        self.attempts = self.refused = self.retries = 0
        #: (seconds since the start, how the limit of one model moved)
        self.moves: list[tuple[float, LimitChanged]] = []
        self._started = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, AttemptFinished):
            self.attempts += 1
            self.refused += event.status == 429
        elif isinstance(event, RetryScheduled):
            self.retries += 1
        elif isinstance(event, LimitChanged):
            self.moves.append((time.monotonic() - self._started, event))

    def limit_over_time(self, limits: Snapshot) -> list[tuple[float, int]]:
        """The limits of all models together, from their moves and from where they ended."""
        # A model that nobody serves has a limit as well, but there is nothing to see in it.
        served = {p.partition: p.limit for p in limits.partitions if p.ok}
        moves = [(at, move) for at, move in self.moves if move.partition in served]
        total = sum(served.values()) - sum(move.new - move.old for _, move in moves)
        points = [(0.0, total)]
        for at, move in moves:
            total += move.new - move.old
            points.append((at, total))
        return points


@dataclass(frozen=True, kw_only=True)
class Run:
    """One burst: what became of each call, and what it took."""

    name: str
    outcomes: Sequence[Outcome]
    attempts: int
    refused: int
    retries: int
    seconds: float

    @property
    def failures(self) -> list[Diagnosis]:
        """The calls that brought no answer."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Diagnosis)]

    @property
    def succeeded(self) -> int:
        """The number of calls that brought an answer."""
        return len(self.outcomes) - len(self.failures)


def print_report(console: Console, runs: Sequence[Run], limits: Snapshot) -> None:
    """Print all tables; the first run is the wrapped client's, whose limits are given."""
    wrapped, *others = runs
    console.print(_runs_table(runs))
    if wrapped.failures:
        console.print(_give_ups_table(wrapped.failures))
    for run in others:
        console.print(_losses(run), highlight=False)
    console.print(_limits_table(limits))


def _runs_table(runs: Iterable[Run]) -> Table:
    table = _table("What became of the calls", "client")
    for head in ("calls", "succeeded", "failed", "attempts", "429s", "retries", "seconds"):
        table.add_column(head, justify="right")
    for run in runs:
        counts = (len(run.outcomes), run.succeeded, len(run.failures))
        costs = (run.attempts, run.refused, run.retries)
        table.add_row(run.name, *map(str, counts + costs), f"{run.seconds:.1f}")
    return table


def _give_ups_table(failures: Iterable[Diagnosis]) -> Table:
    table = _table(
        "What the wrapped client gave up, and why", "calls", "kind", "why, and what to do"
    )
    reasons = Counter((d.kind, d.reason, d.advice[0] if d.advice else "") for d in failures)
    for (kind, reason, advice), number in reasons.most_common():
        table.add_row(str(number), kind, f"{reason}\n[dim]First:[/dim] {advice}")
    return table


def _losses(run: Run) -> str:
    kinds = Counter(str(diagnosis.kind) for diagnosis in run.failures)
    named = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return f" The {run.name} lost {len(run.failures)}: {named or 'none'}.\n"


def _limits_table(limits: Snapshot) -> Table:
    table = _table("Limits of the wrapped client at the end", "route", "model")
    for head in ("limit", "ok", "refused", "other"):
        table.add_column(head, justify="right")
    for shown in limits.partitions:
        names = shown.partition if isinstance(shown.partition, tuple) else (shown.partition, "")
        counts = (shown.limit, shown.ok, shown.refused, shown.other)
        table.add_row(*map(str, names), *map(str, counts))
    return table


def _table(title: str, *heads: str) -> Table:
    return Table(*heads, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
