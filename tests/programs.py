"""Examples and other programs of the repository, each run as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment_of(**settings: str) -> dict[str, str]:
    """Return an environment with this package, a plain terminal and no account of anybody."""
    kept = {name: value for name, value in os.environ.items() if "API_" not in name}
    found = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    own = {"PYTHONPATH": found, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80", "TERM": "dumb"}
    return {**kept, **own, **settings}


def run_example(
    name: str, *arguments: str, folder: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run an example to its end, in a folder and with no settings but those that are given."""
    return subprocess.run(  # noqa: S603 - our own file
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=folder,
        env=environment_of(**settings),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
