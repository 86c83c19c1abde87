"""`python -m tests.matrix`: run the suite with every version that is promised.

Makes a virtual environment for each row of the table, installs, runs the tests there and prints
what was installed and how it went. Exits with 1 if anything failed. A row is skipped, and says so,
if its Python is not on this machine, or if it is optional and the package index lacks something
that it requires; with `--required` that has failed, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.ecosystem.environments import ENVIRONMENTS as FRAMEWORKS

from .environments import ENVIRONMENTS, Environment
from .packaging import BrokenPackageError, build_wheel
from .running import Outcome, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the process's exit status."""
    given = _parser().parse_args(arguments)
    chosen = choose(given.names, core=given.core, frameworks=given.frameworks)
    if given.list:
        for environment in chosen:
            print(_described(environment))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        outcomes = _run_all(chosen, given.keep or Path(temporary), given.jobs)
    for outcome in outcomes:
        if outcome.ran and outcome.problem:
            print(f"\n=== {outcome.environment.name}\n{outcome.log[-20_000:]}")
    print("\n" + table(outcomes))
    return status(outcomes, required=given.required)


def choose(names: Sequence[str], *, core: bool, frameworks: bool) -> tuple[Environment, ...]:
    """The rows that are meant: by name, the core, the frameworks, or all of them."""
    every = (*FRAMEWORKS, *ENVIRONMENTS)
    unknown = set(names) - {environment.name for environment in every}
    if unknown:
        raise SystemExit(f"no such environment: {', '.join(sorted(unknown))}; see --list")
    if names:
        return tuple(environment for environment in every if environment.name in names)
    if core or frameworks:
        some = FRAMEWORKS if frameworks else ()
        return tuple(each for each in every if each in some or (core and each.core))
    return every


def status(outcomes: Sequence[Outcome], *, required: bool) -> int:
    """Return 1 if a row failed, or if nothing ran; where it is *required*, if a row was skipped."""
    failed = any(outcome.problem for outcome in outcomes if outcome.ran or required)
    return 1 if failed or not any(outcome.ran for outcome in outcomes) else 0


def table(outcomes: Sequence[Outcome]) -> str:
    """The results as a Markdown table, in the order of the environments."""
    head = "| environment | what was installed | passed | skipped | seconds | |"
    return "\n".join([head, "|---|---|--:|--:|--:|---|", *map(_row, outcomes)])


def _row(outcome: Outcome) -> str:
    installed = ", ".join(f"{name} {version}" for name, version in outcome.versions.items())
    verdict = "" if outcome.ran else "skipped: "
    counts = f"{outcome.passed} | {outcome.skipped} | {outcome.seconds:.0f}"
    name = outcome.environment.name
    return f"| {name} | {installed or '-'} | {counts} | {verdict}{outcome.problem or 'ok'} |"


def _run_all(chosen: Sequence[Environment], folder: Path, jobs: int) -> list[Outcome]:
    """Run environments side by side, telling of each as it ends."""
    try:
        wheel = build_wheel(folder) if any(each.wheel for each in chosen) else None
    except BrokenPackageError as error:
        raise SystemExit(str(error)) from None
    outcomes: dict[str, Outcome] = {}
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, each, folder, wheel if each.wheel else None) for each in chosen]
        for future in as_completed(running):
            outcome = future.result()
            outcomes[outcome.environment.name] = outcome
            print(_row(outcome), flush=True)
    return [outcomes[each.name] for each in chosen]


def _described(environment: Environment) -> str:
    what = [f"Python {environment.python}", *environment.requirements]
    what += [f"without {name}" for name in environment.absent]
    what += ["uvloop as asyncio's loop"] if environment.loop == "uvloop" else []
    what += ["from the wheel"] if environment.wheel else []
    what += [" ".join(environment.tests) or "the whole suite"]
    return f"{environment.name}{' (core)' if environment.core else ''}: {', '.join(what)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these environments")
    parser.add_argument("--core", action="store_true", help="only those that every change runs")
    parser.add_argument("--frameworks", action="store_true", help="only the frameworks'")
    parser.add_argument("--required", action="store_true", help="what is skipped has failed")
    parser.add_argument("--list", action="store_true", help="say what there is, run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default: 2)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the environments here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
