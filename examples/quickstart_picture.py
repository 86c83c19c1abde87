"""The picture of the quickstart: the hidden capacity, and what two clients made of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, MultipleLocator

from comet_resilience.testing import Sample

# Okabe and Ito's colours, which colour-blind people tell apart, and greys.
BLUE, SKY, VERMILLION = "#0072B2", "#56B4E9", "#D55E00"
SHADE, EDGE, TEXT = "#E9E9E9", "#8A8A8A", "#333333"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One client's part of the picture. Times are in seconds since its gateway opened."""

    title: str
    samples: Sequence[Sample]
    refusals: Sequence[float]
    capacity: Callable[[float], int | None]
    limits: Sequence[tuple[float, int]] = ()
    #: What there is to say of the time after the last request.
    note: str = ""


def draw(panels: Sequence[Panel], title: str, path: Path) -> None:
    """Draw one panel above the other, on the same scales, into a PNG file."""
    figure = Figure(figsize=(10, 6.6), dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold", color=TEXT)
    rows = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    end = max(panel.samples[-1].at for panel in panels)
    for axes, panel in zip(rows, panels, strict=True):
        _draw_capacity(axes, panel, end)
        _draw_client(axes, panel)
        _tidy(axes, panel.title)
        if panel.samples[-1].at < 0.6 * end:  # or there is no room for it
            _write_note(axes, panel)
    rows[-1].set(xlim=(0, end * 1.02))
    rows[-1].set_xlabel("seconds since the gateway opened", color=TEXT)
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path)


def _draw_capacity(axes: Axes, panel: Panel, end: float) -> None:
    moments = [end * 1.02 * step / 2000 for step in range(2001)]
    capacity = [panel.capacity(moment) or 0 for moment in moments]
    axes.fill_between(moments, capacity, color=SHADE, lw=0, label="hidden capacity")
    axes.step(moments, capacity, color=EDGE, lw=1)


def _draw_client(axes: Axes, panel: Panel) -> None:
    end = panel.samples[-1].at
    times = [sample.at for sample in panel.samples]
    in_flight = [sample.in_flight for sample in panel.samples]
    axes.fill_between(times, in_flight, step="post", color=SKY, lw=0, label="in flight")
    if panel.limits:
        times, limits = [at for at, _ in panel.limits], [limit for _, limit in panel.limits]
        lasting = ([*times, end], [*limits, limits[-1]])
        axes.step(*lasting, where="post", color=BLUE, lw=1.8, label="limit of the client")
    _draw_refusals(axes, panel.refusals)


def _draw_refusals(axes: Axes, times: Sequence[float]) -> None:
    # They take no time and no capacity, so they have a lane of their own, below zero.
    axes.eventplot(
        times,
        lineoffsets=-1.7,
        linelengths=1.8,
        linewidths=0.8,
        colors=VERMILLION,
        label="refused with 429",
    )


def _write_note(axes: Axes, panel: Panel) -> None:
    end = (panel.samples[-1].at, 0)
    axes.annotate(
        panel.note, end, xytext=(5, 5), textcoords="offset points", color=TEXT, fontsize=9
    )


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=TEXT)
    axes.set_ylabel("requests at once", color=TEXT)
    axes.set_ylim(bottom=-3.2)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.yaxis.set_major_locator(MultipleLocator(5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(EDGE)
    axes.tick_params(colors=TEXT)
