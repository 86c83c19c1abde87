"""A picture of one run: the limit against the hidden capacity, what was in flight, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .gateways import Steps
from .policies import PRODUCT
from .run import Run
from .scenario import HORIZON, Kind
from .scenarios import BY_NAME

_BLUE, _GREY, _RED = "#1f5fa8", "#9a9a9a", "#c23b22"


def draw(path: Path, scenario: str = "b_step", seed: int = 1) -> None:
    """Run a scenario and write its picture; the suffix of the path names the format."""
    from matplotlib.figure import Figure

    steps = BY_NAME[scenario].shown_capacity
    run = Run(BY_NAME[scenario], PRODUCT, seed, Kind.SATURATED, watch=True)
    run.play()
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.step(*_extended(steps), where="post", color=_GREY, linewidth=6, alpha=0.45,
               label="hidden capacity")  # fmt: skip
    above.step(*_use(run), where="post", color=_BLUE, linewidth=0.8, label="in flight there")
    above.step(*_extended(run.limits), where="post", color="black", linewidth=1.2, label="limit")
    above.set_ylabel("requests")
    above.set_ylim(bottom=0)
    above.legend(loc="upper left", frameon=False, ncols=3)
    below.hist(run.refused_at, bins=range(int(HORIZON) + 1), color=_RED)
    below.set_ylabel("429s per second")
    below.set_xlabel("seconds (virtual)")
    below.set_xlim(0, HORIZON)
    figure.savefig(path, dpi=130)


def _extended(points: Sequence[tuple[float, float]] | Steps) -> tuple[list[float], list[float]]:
    times, values = [when for when, _ in points], [value for _, value in points]
    return [*times, HORIZON], [*values, values[-1]]


def _use(run: Run) -> tuple[list[float], list[float]]:
    changes = sorted([(t, 1) for t in run.began_at] + [(t, -1) for t in run.ended_at])
    times, values, use = [], [], 0
    for when, change in changes:
        use += change
        times.append(when)
        values.append(float(use))
    return times, values
