"""The picture of the outage: what two clients sent meanwhile, and when they were answered."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, MultipleLocator

# Okabe and Ito's colours, which colour-blind people tell apart, and greys.
BLUE, SKY, VERMILLION, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
SHADE, EDGE, TEXT = "#EFEFEF", "#8A8A8A", "#333333"
#: The width of a bar, in seconds.
STEP = 0.25


@dataclass(kw_only=True)
class Panel:
    """One client's part of the picture. Times are in seconds since its calls began.

    ``sent`` is when each request arrived at the gateway, which was down until ``outage``;
    ``answered`` is when each call was, in order; ``closed`` is when the client's gate was.
    """

    name: str
    calls: int
    outage: float
    sent: Sequence[float]
    answered: Sequence[float]
    began: float = 0.0
    closed: Sequence[tuple[float, float]] = field(default=())

    @property
    def summary(self) -> str:
        """Return what became of the calls, in one line."""
        last = f", the last after {self.answered[-1]:.1f} s" if self.answered else ""
        return (
            f"{self.name}: {len(self.answered)} of {self.calls} calls answered{last};"
            f" {len(self.sent)} requests"
        )


def draw(panels: Sequence[Panel], title: str, path: Path) -> None:
    """Draw one panel above the other, on the same scales, into a PNG file."""
    figure = Figure(figsize=(10, 6.4), dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold", color=TEXT)
    rows = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    end = 1.04 * max(max([panel.outage, *panel.answered]) for panel in panels)
    for axes, panel in zip(rows, panels, strict=True):
        _draw_outage(axes, panel)
        _draw_requests(axes, panel)
        _draw_answers(axes, panel, end)
        _draw_gate(axes, panel)
        _tidy(axes, panel)
    rows[-1].set(xlim=(0, end))
    rows[-1].set_xlabel("seconds since the calls began", color=TEXT)
    handles, labels = rows[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path)


def _draw_outage(axes: Axes, panel: Panel) -> None:
    axes.axvspan(0, panel.outage, color=SHADE, lw=0, label="outage")


def _draw_requests(axes: Axes, panel: Panel) -> None:
    edges = [0.0]
    while edges[-1] < max([panel.outage, *panel.sent]):
        edges.append(edges[-1] + STEP)
    in_vain = [at for at in panel.sent if at < panel.outage]
    axes.hist(in_vain, bins=edges, color=VERMILLION, rwidth=0.86, label="requests in vain")
    others = [at for at in panel.sent if at >= panel.outage]
    axes.hist(others, bins=edges, color=SKY, rwidth=0.86, label="requests after it")


def _draw_answers(axes: Axes, panel: Panel, end: float) -> None:
    times = [0.0, *panel.answered, end]
    counts = [bisect_right(panel.answered, at) for at in times]
    axes.step(
        times, counts, where="post", color=BLUE, lw=2, label="calls answered so far", zorder=3
    )
    axes.axhline(0, color=EDGE, lw=1, zorder=4)


def _draw_gate(axes: Axes, panel: Panel) -> None:
    """A bar above all, with a point for each canary."""
    top = 1.13 * panel.calls
    for index, (since, until) in enumerate(panel.closed):
        label = "gate closed" if index == 0 else ""
        axes.plot([since, until], [top, top], color=GREEN, lw=5, label=label)
        for canary in (at for at in panel.sent if since < at < until):
            color = VERMILLION if canary < panel.outage else SKY
            axes.plot(canary, top, "o", ms=6.5, mfc=color, mec="white")
    if panel.closed:
        note = "calls wait, and keep their retries; each point is a canary"
        axes.annotate(
            note, (panel.closed[0][0], top), xytext=(0, -7), textcoords="offset points", va="top",
            fontsize=9.5, color=GREEN,
        )  # fmt: skip


def _tidy(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.summary, loc="left", fontsize=11, color=TEXT)
    axes.set_ylabel("requests, calls", color=TEXT)
    axes.set_ylim(0, 1.22 * panel.calls)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.yaxis.set_major_locator(MultipleLocator(25 if panel.calls > 40 else 5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(EDGE)
    axes.tick_params(colors=TEXT)
