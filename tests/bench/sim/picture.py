"""A picture of one run: the limit against the hidden capacity, what was in flight, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .gateways import Steps
from .policies import PRODUCT
from .run import Run
from .scenario import HORIZON, Kind
from .scenarios import BY_NAME

# The colours of the quickstart's picture: Okabe and Ito's, which colour-blind people tell apart.
_BLUE, _SKY, _VERMILLION = "#0072B2", "#56B4E9", "#D55E00"
_SHADE, _EDGE, _TEXT = "#E9E9E9", "#8A8A8A", "#333333"


def draw(path: Path, scenario: str = "b_step", seed: int = 1) -> None:
    """Run a scenario and write its picture; the suffix of the path names the format."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    run = Run(BY_NAME[scenario], PRODUCT, seed, Kind.SATURATED, watch=True)
    run.play()
    figure = Figure(figsize=(10, 4.6), dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.1))
    figure.suptitle(
        "The limit finds a hidden capacity, and follows it",
        x=0.01, ha="left", fontsize=15, fontweight="bold", color=_TEXT,
    )  # fmt: skip
    axes = figure.subplots()
    _draw_capacity(axes, BY_NAME[scenario].shown_capacity)
    _draw_client(axes, run)
    _tidy(axes, f"ten minutes in virtual time, more calls than fit, {len(run.refused_at)} refused")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path)


def _draw_capacity(axes: Any, steps: Steps) -> None:
    times, values = _extended(steps)
    axes.fill_between(times, values, step="post", color=_SHADE, lw=0, label="hidden capacity")
    axes.step(times, values, where="post", color=_EDGE, lw=1)


def _draw_client(axes: Any, run: Run) -> None:
    axes.fill_between(*_use(run), step="post", color=_SKY, lw=0, label="in flight")
    limits = _extended(run.limits)
    axes.step(*limits, where="post", color=_BLUE, lw=1.2, label="limit of the client")
    axes.eventplot(  # they take no time and no capacity, so they have a lane of their own
        run.refused_at,
        lineoffsets=-2.2,
        linelengths=2.4,
        linewidths=0.8,
        colors=_VERMILLION,
        label="refused with 429",
    )


def _tidy(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_TEXT)
    axes.set_xlabel("seconds", color=_TEXT)
    axes.set_ylabel("requests at once", color=_TEXT)
    axes.set(xlim=(0, HORIZON), ylim=(-4.2, None), yticks=range(0, 50, 10))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_EDGE)
    axes.tick_params(colors=_TEXT)


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
