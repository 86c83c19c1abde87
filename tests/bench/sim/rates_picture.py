"""A picture of two rates, told, read and learnt: ``python -m tests.bench.sim.rates_picture FILE``.

A window and a bucket meet a thousand calls at once; what is answered grows, and each refusal is a
tick in the lane of who was refused.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..rates import SCENES, Run, watch
from .workload import Workload

# Okabe and Ito's colours, which colour-blind people tell apart.
_BLUE, _GREEN, _ORANGE, _VERMILLION = "#0072B2", "#009E73", "#E69F00", "#D55E00"
_SHADE, _EDGE, _TEXT = "#DADADA", "#8A8A8A", "#333333"
#: The policies of the benchmark, the words for them, and their colours.
_SHOWN: Final = (
    ("told", "told: budget=Budget(...)", _BLUE),
    ("read", "read from headers", _GREEN),
    ("unaided", "learnt from refusals", _ORANGE),
    ("SDK, 10", "bare SDK, max_retries=10", _VERMILLION),
)


#: Seconds between two looks at what a limit allows.
_STEP: Final = 0.05


@dataclass(frozen=True)
class Panel:
    """One scene of the benchmark, what it is in words, and how much of it is shown (seconds)."""

    scene: str
    title: str
    seconds: float


_PANELS: Final = (
    Panel("window 60/min", "A window: 60 requests in each minute", 300.0),
    Panel("bucket 300/min, burst 10", "A bucket: 5 requests a second, 10 at once", 210.0),
)


def draw_rates(path: Path, seed: int = 1) -> None:
    """Play both scenes and write their picture; the suffix of the path names the format."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(11, 5.6), dpi=140, layout=ConstrainedLayoutEngine(wspace=0.06))
    figure.suptitle(
        "A rate that is known costs no refusals",
        x=0.01, ha="left", fontsize=15, fontweight="bold", color=_TEXT,
    )  # fmt: skip
    above, below = figure.subplots(2, 2, sharex="col", height_ratios=[3.2, 1.3])
    for column, panel in enumerate(_PANELS):
        runs = [watch(panel.scene, policy, seed) for policy, _, _ in _SHOWN]
        _draw_answers(above[column], panel, runs, seed)
        _draw_refusals(below[column], panel, runs)
    above[0].set_ylabel("calls answered", color=_TEXT)
    handles, labels = above[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path)


def _draw_answers(axes: Any, panel: Panel, runs: list[Run], seed: int) -> None:
    times, counts = _allowed(panel, seed)
    axes.fill_between(times, counts, step="post", color=_SHADE, lw=0, label="what the limit allows")
    for run, (_, words, color) in zip(runs, _SHOWN, strict=True):
        shown = [at for at in sorted(run.answered_at) if at <= panel.seconds]
        line = [*shown, panel.seconds]
        axes.step(
            line, [*range(1, len(shown) + 1), len(shown)], where="post", color=color, lw=1.8,
            label=words,
        )  # fmt: skip
    axes.set_title(panel.title, loc="left", fontsize=11, color=_TEXT)
    axes.set(xlim=(0, panel.seconds), ylim=(0, None))
    _tidy(axes)


def _draw_refusals(axes: Any, panel: Panel, runs: list[Run]) -> None:
    """Draw a lane for each, the first at the top, with what it comes to at its end."""
    for lane, (run, (_, _, color)) in enumerate(zip(runs, _SHOWN, strict=True)):
        shown = [at for at in run.refused_at if at <= panel.seconds]
        axes.eventplot(shown, lineoffsets=-lane, linelengths=0.7, linewidths=0.7, colors=color)
        answered = sum(at <= panel.seconds for at in run.answered_at)
        lost = f", {run.failed:,} calls lost" if run.failed else ""
        axes.text(
            1.01, -lane, f"{len(shown):,} refused{lost}\n{answered:,} answered",
            transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=color,
        )  # fmt: skip
    axes.set(yticks=[], ylim=(0.6 - len(runs), 0.6))
    axes.set_xlabel("seconds (virtual); each tick is a refusal", color=_TEXT)
    _tidy(axes)


def _allowed(panel: Panel, seed: int) -> tuple[list[float], list[float]]:
    """Return what one who stands at the gateway could have sent until each second."""
    [scene] = [one for one in SCENES if one.name == panel.scene]
    [job] = Workload().draw(seed, 1, math.inf)
    gateway, count, times, counts = scene.gateway(seed), 0, [0.0], [0.0]
    for tick in range(int(panel.seconds / _STEP)):
        now = tick * _STEP
        while count < scene.count and gateway.room(now, job):
            gateway.take(now, job)
            count += 1
        times.append(now)
        counts.append(float(count))
    return [*times, panel.seconds], [*counts, counts[-1]]


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_EDGE)
    axes.tick_params(colors=_TEXT)


if __name__ == "__main__":
    draw_rates(Path(sys.argv[1] if sys.argv[1:] else "rates.png"))
