"""A stranger reads each README from top to bottom and tries everything in it."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from runpy import run_module, run_path
from typing import Any, Final

import pytest

from comet_resilience.cli import main
from comet_resilience.testing import Gateway
from tests.conftest import on_asyncio

from .ecosystem.environments import ENVIRONMENTS
from .snippets import MISSPELT, PAGES, ROOT, Block, blocks_of, execute, missing_module

PYTHON: Final = [block for page in PAGES for block in blocks_of(page, "python")]
#: Commands: those of the blocks, and those that stand in backticks anywhere else.
COMMANDS: Final = sorted(
    {
        line
        for page in PAGES
        for block in blocks_of(page, "sh", "bash", "")
        for line in block.text.splitlines()
    }
    | set(re.findall(r"`((?:python|pip|comet-resilience) [^`]+)`", "\n".join(PAGES.values())))
)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway on a real socket, which does not serve the misspelt model."""
    async with Gateway() as served:
        served.always("model_not_found", model=MISSPELT)
        yield served


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("block", PYTHON, ids=str)
async def test_python_runs(
    block: Block, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each Python block does what it says, on a gateway of our own."""
    monkeypatch.chdir(tmp_path)
    if block.not_run:
        compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return
    if block.whole:
        assert run_program(block.text) == without_chance(output_shown(block))
        return
    if module := missing_module(block):
        pytest.skip(f"{module} is not installed")
    await execute(block, gateway, earlier_blocks(block))


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("block", [block for block in PYTHON if block.whole], ids=str)
async def test_a_program_runs_in_a_notebook(
    block: Block, gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a loop runs already, as under each cell, its last line is an `await`."""
    await execute(block.in_a_notebook(), gateway, [])
    assert without_chance(capsys.readouterr().out) == without_chance(output_shown(block))


def run_program(program: str) -> str:
    """Run a whole program by itself, and return what it prints."""
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return without_chance(done.stdout)


def output_shown(block: Block) -> str:
    """Return what the page says that a program prints: the next text after it."""
    return next(each.text for each in blocks_of(block.page, "text") if each.line > block.line)


def without_chance(output: str) -> str:
    """Return an output with ids, times and counts made equal, and its lines as one.

    A slow machine counts more refusals and seconds, and a longer number may wrap a line. There a
    request may also wait for its slot for so long that it is mentioned.
    """
    output = re.sub(r"\s+\(queued\s+[\d.]+\s+s\)", "", output)
    output = re.sub(r"\b2\d{13,}\w+|\d{4}-\d\d-\d\dT[\d:+]+", "<id or time>", output)
    return re.sub(r"\s+", " ", re.sub(r"\b\d+(\.\d+)?\b", "<number>", output)).strip()


def earlier_blocks(block: Block) -> list[Block]:
    """Return the blocks that stand above one on its page."""
    return [each for each in PYTHON if each.page == block.page and each.line < block.line]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command: str) -> None:
    """Each command names files, modules, options and extras that there are."""
    command = command.partition(" # ")[0]
    for part in re.split(r"\s*(?:&&|;|\|)\s*", command):
        words = shlex.split(part.rstrip("\\"))
        if words:
            check_command(words)


def check_command(words: list[str]) -> None:
    """Fail unless a command could be run as it stands, from a checkout."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    match words:
        case ["pip", "install", *wanted]:
            check_requirements(wanted)
        case ["python", "-m", module, *options]:
            check_program(source_of(module), partial(run_module, module), options)
        case ["python", file, *options]:
            check_program(ROOT / file, partial(run_path, str(ROOT / file)), options)
        case ["comet-resilience", command, *options]:
            check_own_command(command, options)
        case ["pytest", *paths]:
            assert all((ROOT / path).exists() for path in paths if not path.startswith("-"))
        case _:
            pytest.fail(f"{words}: say in check_command() how to check this command")


def check_requirements(wanted: list[str]) -> None:
    """Our own extras exist; other packages are named as in pyproject.toml or the environments."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    frameworks = [each.requirements for each in ENVIRONMENTS]
    known = str([project["dependencies"], *extras.values(), *frameworks])
    for requirement in wanted:
        if requirement.startswith("-"):
            continue
        name, _, inside = requirement.partition("[")
        asked = set(filter(None, inside.rstrip("]").split(",")))
        if name in (".", "comet-resilience"):
            assert asked <= set(extras), f"no such extra: {asked - set(extras)}"
        else:
            assert re.split(r"[<>=!~ ]", name)[0] in known, f"{name} is in no list of ours"


def source_of(module: str) -> Path:
    """The file that `python -m` would run."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def check_program(source: Path, run: Callable[..., object], options: list[str]) -> None:
    """A program answers to `--help`, which names the options that the README uses.

    One that takes no arguments would do its work at once: it must only be there.
    """
    text = source.read_text(encoding="utf-8")
    if "argparse" not in text and source.name != "__main__.py":
        assert not options
        assert 'if __name__ == "__main__":' in text
        return
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setattr(sys, "argv", [str(source), "--help"])
        patch.syspath_prepend(str(source.parent))
        help_text = what_ends_well(partial(run, run_name="__main__"))
    assert flags(options) <= options_in(help_text)


def check_own_command(command: str, options: list[str]) -> None:
    """A command of ours answers to `--help`, which names the options."""
    assert flags(options) <= options_in(help_of(command))


def help_of(command: str) -> str:
    """Return what a command of ours says about itself."""
    return what_ends_well(partial(main, [command, "--help"]))


def what_ends_well(program: Callable[[], object]) -> str:
    """Return what a program prints that ends with status 0."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        program()
    assert not ended.value.code
    return said.getvalue()


def options_in(help_text: str) -> set[str]:
    """Return the long options that a help has a line for: its prose may name others."""
    lines = [line for line in help_text.splitlines() if line.lstrip().startswith("-")]
    return set(re.findall(r"--[\w-]+", "\n".join(lines)))


def flags(words: Any) -> set[str]:
    """The long options among some words."""
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def test_a_block_that_is_not_run_says_why() -> None:
    """The way out needs a reason of some length, and few take it."""
    not_run = [block for block in PYTHON if block.not_run]
    assert all(len(block.not_run) > 15 for block in not_run)
    assert len(not_run) * 4 <= len(PYTHON)


def test_tests_are_run_as_tests() -> None:
    """A block that defines tests is marked for `tests/test_readme_tests.py`, which runs them."""
    for block in PYTHON:
        above = PAGES[block.page].splitlines()[block.line - 2]
        assert ("def test_" in block.text) == ("run this block with pytest" in above), block
