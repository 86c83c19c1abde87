"""What the library costs where nothing fails: ``python -m tests.bench.speed``.

The layer alone, its share of the SDK's own CPU per call, real sockets, and the import. All
figures are of rounds that are short and take turns, so a busy machine spoils few of them.
``--peers`` makes environments of their own for the peers, installs them beside us and runs there.
``--quick`` takes a tenth of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
import venv
from pathlib import Path

from .imports import imports
from .layers import PEERS
from .loopback import loopback
from .memory import alone, share

ROOT = Path(__file__).resolve().parents[3]


async def _measure(scale: int) -> None:
    await alone(100 * scale)
    await share(30 * scale)
    await loopback(4 * scale)
    imports(scale)


def _beside(peers: tuple[str, ...], arguments: list[str]) -> None:
    """Run this very command where the peers are installed."""
    print(f"## beside {', '.join(peers)}\n", flush=True)
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        python = str(Path(place, "bin", "python"))
        subprocess.run([python, "-m", "pip", "install", "-q", str(ROOT), *peers], check=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [python, "-m", "tests.bench.speed", *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


def main() -> None:
    """Measure here, or beside the peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="install the peers and measure them")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    chosen = parser.parse_args()
    if not chosen.peers:
        asyncio.run(_measure(1 if chosen.quick else 10))
        return
    for peers in PEERS:
        _beside(peers, ["--quick"] if chosen.quick else [])


if __name__ == "__main__":
    main()
