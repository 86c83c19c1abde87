"""One environment: made, checked, run. Every step is a command whose output is kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .environments import Environment
from .packaging import ROOT, lay_out
from .pythons import find_python, python_in

#: What is named in the table of results, where it is installed.
SHOWN: Final = ("openai", "httpx", "httpx2", "anyio", "trio", "uvloop", "aiohttp")

_ABOUT = """
import importlib.util, importlib.metadata, json, platform, sys
import comet_resilience
absent, shown = json.loads(sys.argv[1])
for name in absent:
    if importlib.util.find_spec(name):
        sys.exit(f"{name} is installed, and should not be")
versions = {"python": platform.python_version()}
for name in shown:
    if importlib.util.find_spec(name):
        versions[name] = importlib.metadata.version(name)
print(json.dumps([versions, comet_resilience.__file__]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of an environment; `problem` is empty where all went well.

    `log` is everything that its commands printed. It was skipped where `ran` is false.
    """

    environment: Environment
    versions: dict[str, str]
    passed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    problem: str = ""
    log: str = ""
    ran: bool = True


class StepFailedError(Exception):
    """A command ended with an error; *printed* is what it said."""

    def __init__(self, message: str, printed: str = "") -> None:
        super().__init__(message)
        self.printed = printed


class UnavailableError(Exception):
    """The package index lacks what an optional environment requires."""


def run(environment: Environment, folder: Path, wheel: Path | None) -> Outcome:
    """Make an environment below `folder`, run its tests there, and say how it went."""
    python = find_python(environment.python)
    if python is None:
        missing = f"Python {environment.python} is not on this machine"
        return Outcome(environment=environment, versions={}, problem=missing, ran=False)
    started, job = time.monotonic(), _Job(environment, folder / environment.name)
    versions: dict[str, str] = {}
    problem, ran = "", True
    try:
        job.make(python, wheel)
        versions = job.about()
        job.test()
    except StepFailedError as error:
        problem = str(error)
    except UnavailableError as error:
        problem, ran = str(error), False
    (job.folder / "log.txt").write_text(job.log, encoding="utf-8")
    passed, skipped = (_count(word, job.log) for word in ("passed", "skipped"))
    return Outcome(
        environment=environment,
        versions=versions,
        passed=passed,
        skipped=skipped,
        seconds=time.monotonic() - started,
        problem=problem or ("" if passed else "no test ran"),
        log=job.log,
        ran=ran,
    )


def lacking(printed: str) -> str | None:
    """Return the requirement that pip found nowhere, if that is why it failed."""
    found = re.search(r"^ERROR: No matching distribution found for (.+)$", printed, re.MULTILINE)
    return found[1].strip() if found else None


class _Job:
    """An environment in the making: its folder, and what its commands have printed so far."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self._environment = environment
        self.folder = folder
        self._venv = folder / "venv"
        self._python = python_in(self._venv)
        self._home = folder / "away" if environment.wheel else ROOT
        self._traces = folder / "traces"
        self.log = ""

    def make(self, python: str, wheel: Path | None) -> None:
        """Make the virtual environment, unless it is there, and install."""
        wanted = self._environment
        self.folder.mkdir(parents=True, exist_ok=True)
        if not Path(self._python).exists():
            self._step(python, "-m", "venv", "--without-pip", str(self._venv))
        install = (sys.executable, "-m", "pip", "--python", self._python, "install", "--quiet")
        package = ("--editable", f"{ROOT}[test]") if wheel is None else (f"{wheel}[test]",)
        try:
            self._step(*install, *package, *wanted.requirements)
        except StepFailedError as error:
            if wanted.optional and (missing := lacking(error.printed)):
                raise UnavailableError(f"the package index lacks {missing}") from error
            raise
        if wheel is not None:
            self._step(*install, "--force-reinstall", "--no-deps", str(wheel))
            lay_out(self._home)

    def about(self) -> dict[str, str]:
        """Return what is installed; check what must be absent and where the package comes from."""
        asked = json.dumps([self._environment.absent, SHOWN])
        said = self._step(self._python, "-W", "error", "-c", _ABOUT, asked)
        versions, file = json.loads(said.strip().splitlines()[-1])
        if ("site-packages" in file) != self._environment.wheel:
            raise StepFailedError(f"the package was imported from {file}")
        return dict(versions)

    def test(self) -> None:
        """Run the tests."""
        uvloop = ["--uvloop"] if self._environment.loop == "uvloop" else []
        # Many tests wait for processes: side by side they take a third of the time. What the
        # tests of a single file share is made once.
        beside = [] if len(self._environment.tests) == 1 else ["-n", "4"]
        how = ["-q", *beside, "-p", "no:cacheprovider", *uvloop]
        self._step(self._python, "-m", "pytest", *how, *self._environment.tests)

    def _step(self, *command: str) -> str:
        self.log += f"$ {' '.join(command)}\n"
        traces = str(self._traces)
        done = subprocess.run(  # noqa: S603 - commands of our own
            command,
            cwd=self._home if self._home.exists() else self.folder,
            env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": traces, "PYTHONPATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        self.log += done.stdout
        if done.returncode:
            what = " ".join(command[1:4])
            told = f"`{what} ...` ended with status {done.returncode}"
            raise StepFailedError(told, done.stdout)
        return done.stdout


def _count(word: str, log: str) -> int:
    """Return how many tests passed or were skipped, as pytest's last line has it."""
    found = re.findall(rf"(\d+) {word}", log.rstrip().rpartition("\n")[2])
    return int(found[-1]) if found else 0
