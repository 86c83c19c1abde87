"""Real sockets, and the examples run as scripts, for the tests of this folder."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from comet_resilience import wrap
from comet_resilience.testing import Gateway, GatewayInThread
from comet_resilience.wire.family import family_of_sdk
from tests.programs import ROOT, run_example

#: How often a failing request is sent by a client of ``failing``.
ATTEMPTS = 2


@dataclass(frozen=True)
class Rehearsed:
    """The output of an example: for each step whether it was answered, requests, and the words."""

    status: int
    steps: dict[str, tuple[bool, int, str]]
    log: str


def rehearse(example: str, *arguments: str) -> Rehearsed:
    """Run an example as a user would."""
    done = run_example(f"frameworks/{example}", *arguments)
    line = re.compile(r"^(.+?): (answered|FAILED) after (\d+) requests: (.*)$", re.MULTILINE)
    lines = line.findall(done.stdout)
    steps = {name: (verb == "answered", int(count), said) for name, verb, count, said in lines}
    assert len(steps) == 3, done.stdout + done.stderr
    return Rehearsed(status=done.returncode, steps=steps, log=done.stderr)


def rehearse_both(example: str) -> dict[str, tuple[bool, int, str]]:
    """Run an example wrapped, where all is well, and with the bare SDK, where nothing is."""
    wrapped, bare = rehearse(example), rehearse(example, "--bare")
    assert (wrapped.status, bare.status) == (0, 1)
    assert not any(answered for answered, _, _ in bare.steps.values())
    return wrapped.steps


@pytest.fixture
def anyio_backend() -> str:
    """The loop that all of the frameworks run on."""
    return "asyncio"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway on a real socket."""
    async with Gateway() as served:
        yield served


@pytest.fixture
def threaded() -> Iterator[GatewayInThread]:
    """A gateway for those who have no event loop of their own."""
    with GatewayInThread() as served:
        yield served


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """A wrapped client that sends each request twice at most and hardly waits."""
    async with client_of(gateway) as wrapped:
        yield wrapped


def client_of(gateway: Gateway | GatewayInThread, **keywords: Any) -> openai.AsyncOpenAI:
    """The same for any gateway."""
    bare = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key, **keywords)
    return wrap(bare, max_retries=ATTEMPTS - 1, backoff_initial=0.01)


def client_without_loop(gateway: GatewayInThread) -> openai.AsyncOpenAI:
    """The same for calls in several event loops: it keeps no connection."""
    limits = family_of_sdk().Limits(max_keepalive_connections=0)
    return client_of(gateway, http_client=openai.DefaultAsyncHttpxClient(limits=limits))


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """A function that gives the warnings of nested retries so far."""
    caplog.set_level(logging.WARNING, logger="comet_resilience")
    return lambda: [text for text in caplog.messages if "above us" in text]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayInThread]:
    """The host that an environment names, as api.openai.com would be: nothing is to get there."""
    with GatewayInThread() as served:
        for name in "OPENAI_BASE_URL", "OPENAI_API_BASE":
            monkeypatch.setenv(name, served.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-account")
        yield served


def follow_readme(words: str, **names: Any) -> dict[str, Any]:
    """Run the lines of `examples/README.md` for a framework, and return the names they make."""
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    part = page.partition("## Under a framework")[2].partition("```python\n")[2].partition("```")[0]
    recipes = re.split(r"\n+(?=# )", part)
    found = [lines for lines in recipes if lines.startswith(f"# {words}")]
    assert len(found) == 1, words
    exec(compile(found[0], "examples/README.md", "exec"), names)
    return names


async def failure_of(call: Callable[[], Any]) -> Exception:
    """The exception that a call raises."""
    try:
        await call()
    except Exception as error:  # noqa: BLE001 - frameworks raise classes of their own
        return error
    raise AssertionError("it did not fail")
