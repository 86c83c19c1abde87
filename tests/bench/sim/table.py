"""Means over seeds, held against the bars, and the tables that show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .result import Result
from .scenario import Bars, Kind, Scenario

#: One seed: what the policy came to, and the oracle, for each kind of run.
Pair = tuple[Result, Result]
Runs = dict[Kind, list[Pair]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean and the worst of the seeds."""

    mean: float
    worst: float

    def show(self, digits: int) -> str:
        """Write ``mean/worst``."""
        return f"{self.mean:.{digits}f}/{self.worst:.{digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One scenario under one policy: ``None`` where a figure has no meaning.

    ``refused`` is of the saturated runs where there are any, else of the batches.
    """

    goodput: Figure | None
    refused: Figure
    batch: Figure | None
    p99: Figure | None
    wait: Figure | None
    recovery: Figure | None
    unrecovered: int
    failed: int
    left: int
    burst: int
    in_outage: int


def summarize(scenario: Scenario, runs: Runs) -> Summary:
    """Boil the runs of one scenario down."""
    saturated, batches = runs.get(Kind.SATURATED, []), runs.get(Kind.BATCH, [])
    everything = [ours for ours, _ in saturated + batches]
    recoveries = [ours.recovery for ours, _ in saturated] if scenario.recovers else []
    return Summary(
        goodput=_low([ours.successes / best.successes for ours, best in saturated]),
        refused=_high([ours.refused_per_100 for ours, _ in saturated or batches]) or Figure(0, 0),
        batch=_high([ours.makespan / best.makespan for ours, best in batches]),
        p99=_high([ours.p99 / best.p99 for ours, best in saturated]),
        wait=_high([ours.wait for ours, _ in saturated]) if scenario.others else None,
        recovery=_high([seconds for seconds in recoveries if seconds is not None]),
        unrecovered=sum(seconds is None for seconds in recoveries),
        failed=sum(ours.failed for ours in everything),
        left=sum(ours.left for ours, _ in batches),
        burst=max(ours.burst for ours in everything),
        in_outage=max(ours.in_outage for ours in everything),
    )


def misses(bars: Bars, summary: Summary) -> Iterator[str]:
    """Say which bars were missed, and by what."""
    yield from _below("goodput", summary.goodput, bars.goodput)
    if bars.floor is not None and summary.goodput and summary.goodput.worst < bars.floor:
        yield f"one seed's goodput {summary.goodput.worst:.3f} < {bars.floor:g}"
    yield from _above("refused", summary.refused, bars.refused)
    yield from _above("batch", summary.batch, bars.batch)
    yield from _above("p99", summary.p99, bars.p99)
    yield from _above("wait", summary.wait, bars.wait)
    yield from _above("recovery", summary.recovery, bars.recovery)
    if bars.recovery is not None and summary.unrecovered:
        yield f"{summary.unrecovered} seeds never recovered"
    if bars.in_outage is not None and summary.in_outage > bars.in_outage:
        yield f"{summary.in_outage} attempts in the outage > {bars.in_outage:g}"
    if bars.nobody_fails and summary.failed + summary.left:
        yield f"{summary.failed} failed, {summary.left} left over"


def bars_table(rows: Sequence[tuple[Scenario, Summary]]) -> str:
    """The table of one policy, with each scenario's bars and whether they hold."""
    head = (
        "scenario",
        "goodput ÷ oracle",
        "refused/100",
        "batch ÷ oracle",
        "failed",
        "recovery s",
        "p99 ÷ oracle",
        "wait s",
        "burst",
        "bars",
    )
    return _lay_out([head, *(_bars_row(scenario, summary) for scenario, summary in rows)])


def comparison_table(cells: dict[tuple[str, str], str]) -> str:
    """Scenarios down, policies across."""
    policies = list(dict.fromkeys(policy for _, policy in cells))
    scenarios = list(dict.fromkeys(scenario for scenario, _ in cells))
    rows = [(name, *(cells[name, policy] for policy in policies)) for name in scenarios]
    return _lay_out([("scenario", *policies), *rows])


def comparison_cell(summary: Summary, attempts_of: int) -> str:
    """Goodput, refused per 100 and the share of requests handed back as errors."""
    goodput = f"{summary.goodput.mean:.2f}" if summary.goodput else "-"
    failed = 100 * summary.failed / attempts_of
    refused = summary.refused.mean
    shown = f"{refused:.1f}" if refused < 100 else f"{refused:,.0f}"
    return f"{goodput} {shown} {failed:.0f}%"


def _bars_row(scenario: Scenario, summary: Summary) -> tuple[str, ...]:
    bars = scenario.bars
    missed = list(misses(bars, summary))
    verdict = "; ".join(missed) if missed else ("pass" if bars != Bars() else "-")
    is_open = scenario.workload.rate is not None
    return (
        scenario.name,
        _cell(summary.goodput, 3, bars.goodput, ">="),
        _cell(summary.refused, 2, bars.refused, "<="),
        _cell(summary.batch, 3, bars.batch, "<="),
        f"{summary.failed}" + (f" +{summary.left} left" if summary.left else ""),
        _cell(summary.recovery, 1, bars.recovery, "<="),
        _cell(summary.p99 if is_open else None, 3, bars.p99, "<="),
        _cell(summary.wait, 3, bars.wait, "<="),
        f"{summary.burst}" + (f" ({summary.in_outage} in outage)" if summary.in_outage else ""),
        verdict,
    )


def _cell(figure: Figure | None, digits: int, bar: float | None, sign: str) -> str:
    if figure is None:
        return ""
    return figure.show(digits) + ("" if bar is None else f" {sign}{bar:g}")


def _low(values: Sequence[float]) -> Figure | None:
    return Figure(sum(values) / len(values), min(values)) if values else None


def _high(values: Sequence[float]) -> Figure | None:
    return Figure(sum(values) / len(values), max(values)) if values else None


def _below(name: str, figure: Figure | None, bar: float | None) -> Iterator[str]:
    if bar is not None and (figure is None or figure.mean < bar):
        yield f"{name} {figure.mean if figure else 0:.4g} < {bar:g}"


def _above(name: str, figure: Figure | None, bar: float | None) -> Iterator[str]:
    if bar is not None and (figure is None or figure.mean > bar):
        yield f"{name} {figure.mean if figure else 0:.4g} > {bar:g}"


def _lay_out(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
