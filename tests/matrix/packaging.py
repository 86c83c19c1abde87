"""The package as it would be published: built, checked, and laid out for tests of the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Final

from .pythons import python_in

ROOT: Final = Path(__file__).parents[2]
_PACKAGE: Final = "comet_resilience"
#: What somebody needs who has the sdist alone, to test and to change the package.
SOURCES: Final = (
    ".ci", ".github", "examples", "tests", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml",
)  # fmt: skip
_TOOLS: Final = ("build", "twine", "check-wheel-contents")


class BrokenPackageError(Exception):
    """The package cannot be built, or lacks something."""


def build_wheel(folder: Path) -> Path:
    """Build the sdist, and from it the wheel; check both. The wheel's path.

    Raises:
        BrokenPackageError: If a tool objects, or a file of ours is missing.

    """
    dist, tools = folder / "dist", folder / "tools"
    shutil.rmtree(dist, ignore_errors=True)
    venv.create(tools, symlinks=True)
    python = python_in(tools)
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *_TOOLS)
    _run(python, "-m", "build", "--outdir", str(dist), str(ROOT))
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    _run(python, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    _run(python, "-m", "check_wheel_contents", str(wheel))
    _compare(wheel, sdist)
    return wheel


def lay_out(folder: Path) -> None:
    """Put all but the package into a folder, for tests that must find it installed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for guide in (ROOT / _PACKAGE).rglob("README.md"):  # without the code it is no package
        (copied := folder / guide.relative_to(ROOT)).parent.mkdir(parents=True)
        shutil.copy(guide, copied)


def _compare(wheel: Path, sdist: Path) -> None:
    """Every file of ours must be where it belongs, and nothing else in the wheel."""
    ours = _files(_PACKAGE)
    guides = {name for name in ours if name.endswith("/README.md")}
    wanted = ours | set[str]().union(*(_files(name) for name in SOURCES))
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
    if missing := wanted - packed:
        raise BrokenPackageError(f"the sdist lacks {', '.join(sorted(missing))}")
    if differing := installed ^ (ours - guides):
        raise BrokenPackageError(f"the wheel differs in {', '.join(sorted(differing))}")


def _files(name: str) -> set[str]:
    """The files of a folder, or the file, as paths from the root; without what tools left there."""
    path = ROOT / name
    found = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {each.relative_to(ROOT).as_posix() for each in found if "__pycache__" not in each.parts}


def _run(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - commands of our own
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-4_000:]
        raise BrokenPackageError(f"`{' '.join(command[1:4])} ...` failed:\n{said}")
