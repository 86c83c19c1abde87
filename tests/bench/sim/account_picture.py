"""A picture of one account with five models, one of them saturated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .gateways import Account, Cap
from .policies import PRODUCT
from .run import Run
from .scenario import Kind, Scenario
from .workload import Workload

#: The account's cap, and that of one model.
CAP, SATURATED = 20, 2
_SECONDS = 120.0
_MODELS = ("saturated", "m1", "m2", "m3", "m4")
_COLORS = ("#c23b22", "#1f5fa8", "#4f8ac9", "#86b1de", "#bcd4ee")

SCENE = Scenario(
    name="five models",
    gateway=lambda seed: Account(Cap(((0.0, CAP),)), {"saturated": Cap(((0.0, SATURATED),))}),
    workload=Workload(models=_MODELS),
    count=1_500,
)


def draw_account(path: Path, seed: int = 1) -> None:
    """Run the scene and write its picture; the suffix of the path names the format."""
    from matplotlib.figure import Figure

    run = Run(SCENE, PRODUCT, seed, Kind.SATURATED, watch=True)
    run.play()
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    seconds = [step / 4 for step in range(int(4 * _SECONDS) + 1)]
    use = [[_in_flight(run, model, now) for now in seconds] for model in _MODELS]
    above.stackplot(seconds, use, labels=_MODELS, colors=_COLORS, step="post")
    above.axhline(CAP, color="#9a9a9a", linewidth=6, alpha=0.45, label="the account's hidden cap")
    limits = [(when, new) for when, name, new in run.limits_of if name == "account"]
    above.step(*_extended(limits), where="post", color="black", linewidth=1.2,
               label="limit of the account")  # fmt: skip
    above.set_ylabel("requests at the gateway")
    above.set_ylim(0, 1.4 * CAP)
    above.legend(loc="upper left", frameon=False, ncols=4)
    below.hist(run.refused_at, bins=range(int(_SECONDS) + 1), color=_COLORS[0])
    below.set_ylabel("429s per second")
    below.set_xlabel("seconds (virtual)")
    below.set_xlim(0, _SECONDS)
    figure.savefig(path, dpi=130)


def _in_flight(run: Run, model: str, now: float) -> int:
    return sum(1 for name, began, ended in run.served if name == model and began <= now < ended)


def _extended(points: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    times, values = [when for when, _ in points], [value for _, value in points]
    return [*times, _SECONDS], [*values, values[-1]]
