"""The blocks of code in the READMEs, and what a reader would have to run them.

A reader reads from top to bottom: what an earlier block imported is there, and what the page talks
of all the time (`client`, `gateway`, `messages`, ...) is there from the start. The CometAPI address
and the `...` in place of a key are what the reader fills in: a gateway of our own here.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import openai
from anyio import to_thread

import comet_resilience
from comet_resilience.testing import Gateway

from .conftest import MESSAGES

ROOT: Final = Path(__file__).parents[1]
#: The front page, and the page of each folder that has one; by their paths.
PAGES: Final = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        *sorted(
            found
            for folder in ("comet_resilience", "examples", "tests")
            for found in (ROOT / folder).rglob("README.md")
        ),
    ]
}
#: A model id that the page misspells on purpose: no gateway serves it.
MISSPELT: Final = "gpt-5-mni"
ADDRESS: Final = "https://api.cometapi.com/v1"
#: Above a block that cannot run in a test, with the reason.
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n\Z")
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its page and line, its language and text, and why it is not run, if so."""

    page: str
    language: str
    text: str
    line: int
    not_run: str

    @property
    def whole(self) -> bool:
        """True for a program of its own, which is followed by its output."""
        return self.text.endswith("\nasyncio.run(main())\n")

    def in_a_notebook(self) -> Block:
        """Return the block as a cell would have it, which may await and needs no loop."""
        return replace(self, text=self.text.replace("asyncio.run(main())", "await main()"))

    def __str__(self) -> str:
        first = self.text.strip().splitlines()[0] if self.text.strip() else "empty"
        return f"{self.page}:{self.line}: {first[:40]}"


def blocks_of(path: str, *languages: str) -> list[Block]:
    """The blocks of a page that are in one of the languages ("" for none)."""
    page = PAGES[path]
    return [
        Block(
            page=path,
            language=found[1],
            text=found[2],
            line=page.count("\n", 0, found.start()) + 1,
            not_run=reason[1] if (reason := _NOT_RUN.search(page, 0, found.start())) else "",
        )
        for found in _BLOCK.finditer(page)
        if found[1] in languages
    ]


def imports_in(blocks: list[Block]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement of some blocks, in order."""
    for block in blocks:
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield node


def missing_module(block: Block) -> str:
    """The first module that a block imports and that is not installed here, or ""."""
    for node in imports_in([block]):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else None
        for name in names or [alias.name for alias in node.names]:
            if not find_spec(name.partition(".")[0]):
                return name
    return ""


def given(gateway: Gateway, earlier: list[Block]) -> dict[str, Any]:
    """The names that a block finds: what the page talks of, and what earlier blocks imported."""
    bare = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
    names: dict[str, Any] = {
        "__name__": "snippet",
        "bare": bare,
        "client": comet_resilience.wrap(bare, backoff_initial=0.0, backoff_max=0.0),
        "gateway": gateway,
        "messages": MESSAGES,
        "model": "any",
    }
    for node in imports_in(earlier):
        importing = ast.Module(body=[node], type_ignores=[])
        try:
            exec(compile(importing, "<import>", "exec"), names)
        except ImportError:
            continue
    return names


def filled_in(text: str, gateway: Gateway) -> str:
    """A block with the address and key of a gateway in the places that are the reader's."""
    text = text.replace(ADDRESS, gateway.base_url)
    return text.replace("api_key=...", f"api_key={gateway.api_key!r}")


async def execute(block: Block, gateway: Gateway, earlier: list[Block]) -> dict[str, Any]:
    """Run a block, top-level `await` and all; the names that there are afterwards.

    Raises `AssertionError` for a name that nobody gave it, and whatever else the block raises.
    """
    names = given(gateway, earlier)
    code = compile(
        filled_in(block.text, gateway),
        f"<{block}>",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    try:
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, names)
        else:  # it may wait for the gateway, which needs this event loop
            await to_thread.run_sync(exec, code, names)
    except NameError as error:
        raise AssertionError(
            f"{block}: {error}. Let the block bind it, import it in an earlier one, or add what"
            " the page talks of all the time to `given()` in tests/snippets.py."
        ) from error
    finally:
        for client in [value for value in names.values() if isinstance(value, openai.AsyncOpenAI)]:
            await client.close()
    return names
