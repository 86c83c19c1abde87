"""A fleet on a real server: ``python -m tests.bench.fleet [--only NAME ...] [--seconds N]``.

With ``--adapt``, ``--rates`` or ``--scale`` in virtual time: ten processes that find a hidden
limit, four that share a rate, and crowds of up to a thousand whose demand moves.

Real processes share a limit through a real Redis or Valkey, which is frozen and killed, and a
gateway in shared memory counts exactly how many are in flight. Printed is what was measured
beside what has to be reached; what is missed says MISS. The exit code is 0: this reports.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Sequence

from .real.crew import Crew
from .real.scenes import FULL_LENGTH, SCENES, Line
from .sim.fleet_table import SEEDS, SIZES, adapt_table, rates_table, scale_table

_MEMBERS = 10


def main(arguments: Sequence[str]) -> int:
    """Play the scenes and print the table."""
    options = _parse(arguments)
    if options.adapt or options.rates or options.scale:
        _print_tables(options)
        return 0
    seconds = FULL_LENGTH / 2 if options.short else options.seconds
    print("| scene | what | measured | reach | |\n|---|---|---|---|---|", flush=True)
    missed = 0
    with Crew(_MEMBERS) as crew:
        for name in options.only or SCENES:
            began = time.monotonic()
            for line in SCENES[name](crew, seconds):
                missed += line.holds is False
                print(_row(name, line), flush=True)
            load, _, _ = os.getloadavg()
            took = time.monotonic() - began
            print(f"| {name} | load average; took | {load:.1f}; {took:.0f} s | | |", flush=True)
    print(f"\n{missed} missed.")
    return 0


def _print_tables(options: argparse.Namespace) -> None:
    tables = (
        adapt_table(options.seeds) if options.adapt else (),
        rates_table() if options.rates else (),
        scale_table(options.sizes) if options.scale else (),
    )
    for row in itertools.chain(*tables):
        print(row, flush=True)


def _row(name: str, line: Line) -> str:
    verdict = {None: "", True: "ok", False: "MISS"}[line.holds]
    return f"| {name} | {line.what} | {line.measured} | {line.reach} | {verdict} |"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench.fleet")
    parser.add_argument("--only", nargs="+", choices=sorted(SCENES), help="these scenes alone")
    parser.add_argument("--seconds", type=float, default=FULL_LENGTH, help="length of an even run")
    parser.add_argument("--short", action="store_true", help="half as long, fewer dips")
    parser.add_argument("--adapt", action="store_true", help="k_10proc in virtual time")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="of --adapt")
    parser.add_argument("--rates", action="store_true", help="a rate that four processes share")
    parser.add_argument("--scale", action="store_true", help="crowds in virtual time")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="of the crowds")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
