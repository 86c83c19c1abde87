"""An outage, wrapped and bare: ``python -m tests.bench.outage``.

First, in virtual time, through the real SDK and transport: services that fail half of the time,
one poisoned request, long timeouts, outages of a minute, wrong hints, flapping, and how soon the
end is found. Then on real sockets: a hundred calls that meet an outage of some seconds, in each of
the ways in which services are down; the SDK has as many retries. ``--short`` prints a few lines of
each; ``--real`` and ``--virtual`` one half, and further arguments choose of the first half by
words of its names, and of the second by kind, length, calls and models.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import anyio

from .real import Passage, Trial, meet, misses
from .scenes import Figures, Scene, scenes
from .server import Kind

SEEDS = range(1, 6)
SHORT_SEEDS = range(1, 3)
SECONDS = (3.0, 5.0, 11.0, 20.0)
SHORT = (
    Trial(kind=Kind.REFUSED, seconds=3),
    Trial(kind=Kind.STATUS_500, seconds=5),
    Trial(kind=Kind.STATUS_503, seconds=5),
)
#: Words of names of scenes.
SHORT_SCENES = (
    "half are 500, 20",
    "of 20 callers always 500",
    "minute of 503",
    "after 2 s of",
    "four slots",
)


def trials() -> list[Trial]:
    """What is met on real sockets."""
    lengths = [Trial(kind=kind, seconds=seconds) for kind in Kind for seconds in SECONDS]
    crowds = [
        Trial(kind=kind, seconds=seconds, calls=calls, models=models)
        for kind in (Kind.REFUSED, Kind.STATUS_500, Kind.STATUS_502, Kind.STATUS_503)
        for calls, models, seconds in ((1, 1, 5.0), (1000, 1, 5.0), (100, 10, 11.0), (1000, 10, 11))
    ]
    killed = Trial(kind=Kind.REFUSED, seconds=2.6, calls=160, after=0.02)
    return [*lengths, *crowds, killed]


def meet_all(chosen: Iterable[Trial], with_sdk: bool, backend: str) -> int:
    """Print a line for each trial; return how many missed a bar."""
    print("\n| outage | SDK: answered, last, sends, while down, at once after | wrapped | reach |")
    print("|---|---|---|---|", flush=True)
    missed = 0
    for trial in chosen:
        sdk = anyio.run(_meet, trial, False, backend=backend) if with_sdk else None
        ours = anyio.run(_meet, trial, True, backend=backend)
        failed = ", ".join(misses(trial, sdk, ours))
        missed += bool(failed)
        lost = "".join(f"; {count} {name}" for name, count in ours.errors.items())
        word = f"**missed**: {failed}{lost}" if failed else f"reached{lost}"
        print(f"| {trial.name} | {sdk or ''} | {ours} | {word} |", flush=True)
    return missed


async def _meet(trial: Trial, wrapped: bool) -> Passage:
    return await meet(trial, wrapped=wrapped)


def play_all(chosen: Iterable[Scene], seeds: Sequence[int]) -> int:
    """Print a line for each figure of each scene; return how many missed a bar."""
    print("| scene | figure | SDK | wrapped: median (worst) | reach | |")
    print("|---|---|---|---|---|---|", flush=True)
    missed = 0
    for scene in chosen:
        sdk = [scene.play(None, seed) for seed in seeds[:2]] if scene.with_sdk else []
        ours = [scene.play(scene.options, seed) for seed in seeds]
        for line, failed in _lines(scene, sdk, ours):
            missed += failed
            print(line, flush=True)
    return missed


def _lines(scene: Scene, sdk: list[Figures], ours: list[Figures]) -> Iterator[tuple[str, bool]]:
    for figure in ours[0]:
        values, theirs = _values(figure, ours), _middle(_values(figure, sdk))
        median = _middle(values)
        bar = scene.bars.get(figure)
        low_is_bad = bar is not None and bar.at_most is None
        worst = math.nan if not values else values[0] if low_is_bad else values[-1]
        failed = bar is not None and not bar.reached(median, theirs)
        word = "" if bar is None else "**missed**" if failed else "reached"
        shown = f"{theirs:.3g}" if sdk else ""
        cells = (scene.name, figure, shown, f"{median:.3g} ({worst:.3g})", str(bar or ""), word)
        yield f"| {' | '.join(cells)} |", failed


def _values(figure: str, played: list[Figures]) -> list[float]:
    """The figure of each run that has it, in order."""
    return sorted(run[figure] for run in played if not math.isnan(run[figure]))


def _middle(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outage", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few scenes and outages")
    parser.add_argument("--real", action="store_true", help="real sockets only")
    parser.add_argument("--virtual", action="store_true", help="virtual time only")
    parser.add_argument("--scene", action="append", help="scenes with these words in their names")
    parser.add_argument("--seeds", type=int, help=f"how many seeds, {len(SEEDS)} if not given")
    parser.add_argument("--kind", nargs="+", choices=list(Kind), help="outages of these kinds")
    parser.add_argument("--seconds", nargs="+", type=float, help="and lengths")
    parser.add_argument("--calls", nargs="+", type=int, default=[100])
    parser.add_argument("--models", nargs="+", type=int, default=[1])
    parser.add_argument("--retries", type=int, default=6)
    parser.add_argument("--after", type=float, default=0.0, help="seconds of sunshine before")
    parser.add_argument("--no-sdk", action="store_true", help="real sockets: the wrapped client")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    return parser.parse_args(words)


def _chosen_trials(arguments: argparse.Namespace) -> Sequence[Trial]:
    if arguments.kind or arguments.seconds:
        kinds: Sequence[str] = arguments.kind or list(Kind)
        lengths: Sequence[float] = arguments.seconds or SECONDS
        return [
            Trial(
                kind=Kind(kind),
                seconds=seconds,
                calls=calls,
                models=models,
                retries=arguments.retries,
                after=arguments.after,
            )
            for kind, seconds in product(kinds, lengths)
            for calls, models in product(arguments.calls, arguments.models)
        ]
    return SHORT if arguments.short else trials()


def _chosen_scenes(arguments: argparse.Namespace) -> list[Scene]:
    words = arguments.scene or (SHORT_SCENES if arguments.short else ("",))
    return [scene for scene in scenes() if any(word in scene.name for word in words)]


def main(words: Sequence[str] | None = None) -> int:
    """Play, meet, and return 1 if a bar was missed."""
    arguments = _arguments(words)
    logging.getLogger("comet_resilience").setLevel(logging.CRITICAL)
    seeds = SHORT_SEEDS if arguments.short else SEEDS
    if arguments.seeds:
        seeds = range(1, 1 + arguments.seeds)
    is_real = arguments.real or bool(arguments.kind or arguments.seconds)
    is_virtual = arguments.virtual or bool(arguments.scene)
    missed = 0
    if is_virtual or not is_real:
        missed += play_all(_chosen_scenes(arguments), seeds)
    if is_real or not is_virtual:
        missed += meet_all(_chosen_trials(arguments), not arguments.no_sdk, arguments.backend)
    print(f"\n{missed} missed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
