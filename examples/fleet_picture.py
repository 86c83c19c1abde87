"""The picture of the fleet: who had how many requests in flight, and what happened meanwhile."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from fleet_story import STEP, Report, Story
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

# After Okabe and Ito: colour-blind people tell these apart. The last process is the one that dies.
PROCESSES = ("#00568C", "#3A8FC4", "#9CCBE8", "#E6A23C")
ON_PROCESSES = ("#FFFFFF", "#FFFFFF", "#003A5D", "#5A3A00")
STATES = {
    "joining": ("#D9D9D9", "waits for its first share"),
    "shared": ("#8CC9AE", "has a share"),
    "degraded": ("#F0DC50", "Redis is away: keeps its last share"),
    "local": ("#CC79A7", "limits itself alone"),
}
VERMILLION, ICE, EDGE, TEXT = "#D55E00", "#BFD7EA", "#8A8A8A", "#333333"
DASHES = (0, (6, 3))


def draw(story: Story, path: Path) -> None:
    """Draw the requests in flight above the states of the processes, into a PNG file."""
    figure = Figure(figsize=(10, 6), dpi=130, layout=ConstrainedLayoutEngine(h_pad=0.08))
    title = "Four processes share one hidden limit through Redis"
    figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold", color=TEXT)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1.5))
    _draw_in_flight(above, story)
    _draw_states(below, story)
    for axes in (above, below):
        _mark_disturbances(axes, story)
        _tidy(axes)
    _write_remarks(above, story)
    below.set(xlim=(0, story.plan.end))
    below.set_xlabel("seconds", color=TEXT)
    handles = _legend(story)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9.5
    )
    figure.savefig(path)


def _draw_in_flight(axes: Axes, story: Story) -> None:
    layers = story.layers
    axes.stackplot(story.moments, layers, colors=PROCESSES, step="post", lw=0)
    axes.axhline(story.cap, color=TEXT, lw=1.5, ls=DASHES)
    axes.set_ylabel("requests in flight", color=TEXT)
    axes.set_ylim(0, 1.28 * story.cap)
    axes.set_yticks(range(0, story.cap + 1, 5))
    _name_layers(axes, story, layers)


def _name_layers(axes: Axes, story: Story, layers: Sequence[Sequence[int]]) -> None:
    """Write each process' name into its layer, where all four are at work."""
    at = 0.82 * story.plan.killed
    index, bottom = int(at / STEP), 0
    for number, (layer, color) in enumerate(zip(layers, ON_PROCESSES, strict=True), 1):
        if layer[index] >= 2:
            middle = bottom + layer[index] / 2
            axes.text(at, middle, f"process {number}", color=color, fontsize=10,
                      ha="right", va="center")  # fmt: skip
        bottom += layer[index]


def _draw_states(axes: Axes, story: Story) -> None:
    rows = len(story.processes)
    for row, reports in enumerate(story.processes):
        for state, begin, end in _stretches(reports):
            color, _ = STATES[state]
            axes.broken_barh([(begin, end - begin)], (row - 0.37, 0.74), color=color, lw=0)
    axes.eventplot(
        story.refusals, lineoffsets=rows, linelengths=0.74, linewidths=1.2, colors=VERMILLION
    )
    names = [f"process {number}" for number in range(1, rows + 1)]
    axes.set_yticks(range(rows + 1), [*names, "refusals"])
    axes.set_ylim(rows + 0.6, -0.6)


def _stretches(reports: Sequence[Report]) -> Iterator[tuple[str, float, float]]:
    """Each state with its beginning and end."""
    begins = [(state, next(same).at) for state, same in groupby(reports, lambda one: one.state)]
    ends = [at for _, at in begins[1:]]
    for (state, begin), end in zip(begins, [*ends, reports[-1].at + STEP], strict=True):
        yield state, begin, end


def _mark_disturbances(axes: Axes, story: Story) -> None:
    plan = story.plan
    axes.axvline(plan.killed, color=VERMILLION, lw=1.6)
    axes.axvspan(plan.frozen, plan.thawed, color=ICE, alpha=0.3, lw=0, zorder=3)
    for moment in (plan.frozen, plan.thawed):
        axes.axvline(moment, color=EDGE, lw=1)


def _write_remarks(axes: Axes, story: Story) -> None:
    plan, again = story.plan, story.full_again
    taken_over = "" if again is None else f"full again after {again:.1f} s"
    mean = story.in_flight(plan.frozen, plan.thawed)
    _write(axes, 0, "looking for the limit", f"it is {story.cap}; nobody says so")
    _write(axes, plan.killed, "process 4 is killed", taken_over, VERMILLION)
    _write(axes, plan.frozen, "Redis hangs", f"{mean:.1f} in flight")
    _write(axes, plan.thawed, "Redis goes on")


def _write(axes: Axes, at: float, first: str, second: str = "", color: str = TEXT) -> None:
    """Write two lines above the limit, to the right of a moment."""
    corner = (at, axes.get_ylim()[1])
    for line, (text, weight) in enumerate(((first, "bold"), (second, "normal"))):
        axes.annotate(
            text, corner, xytext=(5, -4 - 14 * line), textcoords="offset points", va="top",
            fontsize=9.5, color=color if not line else TEXT, fontweight=weight,
        )  # fmt: skip


def _legend(story: Story) -> list[Patch | Line2D]:
    seen = {report.state for reports in story.processes for report in reports}
    shown = [(color, words) for state, (color, words) in STATES.items() if state in seen]
    return [
        Line2D([], [], color=TEXT, lw=1.5, ls=DASHES, label="hidden limit"),
        *(Patch(color=color, label=words) for color, words in shown),
    ]


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(EDGE)
    axes.tick_params(colors=TEXT)
