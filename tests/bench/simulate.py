"""Simulate the limiter: ``python -m tests.bench.simulate [--short] [--accounts]``.

Virtual time, the library's real limiter and algorithm, and gateways with hidden limits. Every
scenario runs for the seeds that the constants were tuned with and for seeds that were held out;
the last column says whether the means reach the bars. The same seed gives the same run. Two
pictures are drawn (``--picture FILE``, ``--account-picture FILE``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .sim.account_scenes import ACCOUNT_SCENES
from .sim.many import PROCESSES, compare
from .sim.policies import PER_MODEL, POLICIES, PRODUCT, Policy
from .sim.scenario import BATCH_COUNT, SATURATED_COUNT
from .sim.scenarios import BY_NAME, SCENARIOS
from .sim.table import bars_table, comparison_cell, comparison_table, misses

TUNED = tuple(range(1, 11))
HELD_OUT = tuple(range(41, 51))
COMPARED = ("a_cap20", "b_step", "c_bucket", "d_window", "g_random", "h_noisy", "i_outage")
COMPARED_SEEDS = (1, 2)
SHORT = (
    "a_cap20",
    "q_20_30m",
    "b_step",
    "g_random",
    "i_outage",
    "l_open90",
    "m_ra60_200",
    "o_cap1",
    "t_together",
)
SHORT_SEEDS = (1, 2)


def main(arguments: Sequence[str]) -> int:
    """Run, print, draw; the exit code counts the bars missed by the held-out seeds."""
    options = _parse(arguments)
    if options.accounts:
        names = [scenario.name for scenario in ACCOUNT_SCENES]
        _show("Each model by itself, held out", names, HELD_OUT, options.processes, PER_MODEL)
        return _show("With the account's limit, held out", names, HELD_OUT, options.processes)
    if options.short:
        return _show("Short form", SHORT, SHORT_SEEDS, options.processes)
    every = [scenario.name for scenario in SCENARIOS]
    _show("Seeds 1-10, used for tuning", every, TUNED, options.processes)
    missed = _show("Seeds 41-50, held out", every, HELD_OUT, options.processes)
    names = [scenario.name for scenario in ACCOUNT_SCENES]
    _show("Each model by itself, held out", names, HELD_OUT, options.processes, PER_MODEL)
    _show_rivals(options.processes)
    _draw(options.picture, options.account_picture)
    return missed


def _show(
    title: str,
    scenarios: Sequence[str],
    seeds: Sequence[int],
    processes: int,
    policy: Policy = PRODUCT,
) -> int:
    summaries = compare(scenarios, [policy.name], seeds, processes, batches=True)
    rows = [(BY_NAME[name], summaries[name, policy.name]) for name in scenarios]
    print(f"\n{title}: mean/worst of {len(seeds)}\n\n{bars_table(rows)}", flush=True)
    return sum(any(misses(scenario.bars, summary)) for scenario, summary in rows)


def _show_rivals(processes: int) -> None:
    names = [policy.name for policy in POLICIES]
    summaries = compare(COMPARED, names, COMPARED_SEEDS, processes, batches=False)
    asked = SATURATED_COUNT * len(COMPARED_SEEDS)
    cells = {key: comparison_cell(summary, asked) for key, summary in summaries.items()}
    print(
        f"\nTen minutes, {SATURATED_COUNT:,} queued: goodput ÷ oracle, refused per 100 successes,"
        f" requests handed back as errors (mean of {len(COMPARED_SEEDS)} seeds)\n"
    )
    print(comparison_table(cells), flush=True)
    print(f"\nBatches above are of {BATCH_COUNT:,} requests unless the scenario says otherwise.")


def _draw(path: Path, account_path: Path) -> None:
    from .sim.account_picture import draw_account
    from .sim.picture import draw

    try:
        draw(path)
        draw_account(account_path)
    except ImportError:
        print("No picture: it takes matplotlib.")
    else:
        print(f"Picture of b_step: {path}; of one account with five models: {account_path}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench.simulate")
    parser.add_argument("--short", action="store_true", help="a few scenarios, two seeds")
    parser.add_argument("--accounts", action="store_true", help="accounts of many models alone")
    parser.add_argument("--picture", type=Path, default=Path("limiter.png"), help="where to draw")
    parser.add_argument(
        "--account-picture", type=Path, default=Path("account.png"), help="where to draw"
    )
    parser.add_argument("--processes", type=int, default=PROCESSES, help="how many at once")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
