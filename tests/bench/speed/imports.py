"""What importing costs above ``import openai``, each in a fresh interpreter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec

_STATEMENTS = (
    "import comet_resilience",
    "from comet_resilience import wrap",
    "import httpx_retries",
    "import pydantic_ai.retries",
    "import backstop",
    "import litellm",
)
_CODE = """
import time, openai
began = time.process_time()
{statement}
print(time.process_time() - began)
"""


def imports(rounds: int) -> None:
    """CPU time of each import, in turn, with compiled files at hand."""
    found = [one for one in _STATEMENTS if find_spec(one.split()[1].split(".")[0]) is not None]
    taken: dict[str, list[float]] = {name: [] for name in found}
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(rounds + 1):
            for name in found:
                seconds = _import(name, compiled)
                if number:  # the first round compiles
                    taken[name].append(seconds * 1e3)
    print("| import above `import openai` | least | median |\n|---|---|---|")
    for name, times in taken.items():
        print(f"| `{name}` | {min(times):.0f} ms | {statistics.median(times):.0f} ms |")
    print(f"\n{rounds} fresh interpreters each\n")


def _import(statement: str, compiled: str) -> float:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _CODE.format(statement=statement)]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(run.stdout.split()[-1])
