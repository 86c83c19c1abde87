"""Where a Python of a minor version is to be found on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SAY_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def find_python(minor: str) -> str | None:
    """The interpreter of a version such as "3.12", or `None`.

    The running one is tried first, then the path, then what pyenv has installed.
    """
    for candidate in (sys.executable, shutil.which(f"python{minor}"), *_of_pyenv(minor)):
        if candidate and _version_of(candidate) == minor:
            return candidate
    return None


def python_in(environment: Path) -> str:
    """The interpreter of a virtual environment."""
    return str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def _of_pyenv(minor: str) -> list[str]:
    """Return what pyenv has of a version, its newest patch first."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [path for path in root.glob(f"versions/{minor}.*/bin/python") if path.exists()]
    return [str(path) for path in sorted(found, key=_patch_of, reverse=True)]


def _patch_of(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.parents[1].name)]


def _version_of(python: str) -> str:
    """Return what an interpreter calls itself: pyenv's shims exist without being usable."""
    done = subprocess.run(  # noqa: S603 - an interpreter of this machine
        [python, "-c", _SAY_VERSION], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
