"""The fixtures, as a user's own test run meets them: each test here runs pytest in a child."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
PLUGIN = "comet_resilience.testing.pytest_plugin"
HEAD = """
import asyncio
import pytest
from openai import AsyncOpenAI, APIError
from comet_resilience import wrap
from comet_resilience.testing import ConcurrencyCap

async def ask(client, **keywords):
    keywords = {"model": "m", "messages": [{"role": "user", "content": "x"}], **keywords}
    return await client.chat.completions.create(**keywords)
"""


def passed(pytester: pytest.Pytester, tests: str, *arguments: str, count: int) -> None:
    """A child run of these tests, warnings as errors, passes."""
    pytester.makepyfile(HEAD + tests)
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\naddopts = '--strict-markers'")
    done = pytester.run(
        sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-W", "error", *arguments, timeout=100
    )
    done.assert_outcomes(passed=count)


@pytest.fixture(autouse=True)
def _house_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


IN_A_FUNCTION = """
def test_service(comet_gateway, comet_no_waiting):
    async def service():
        async with comet_gateway.client() as client:
            return await ask(client)

    comet_gateway.fail(status=503, times=2)
    assert asyncio.run(service()).choices
    assert len(comet_gateway.requests) == 3
    comet_gateway.fail("rate_limited", times=3, retry_after=50)
    assert asyncio.run(service()).choices
    assert len(comet_gateway.requests) == 7
    assert comet_gateway.statistics().answered == 2
    assert comet_gateway.base_url in repr(comet_gateway)
"""
BY_MARKERS = """
@pytest.mark.comet_gateway(text="of the class", models=["m"])
class TestGateway:
    def test_class(self, comet_gateway):
        assert self.text(comet_gateway) == "of the class"

    @pytest.mark.comet_gateway(text="of the test")
    def test_function(self, comet_gateway):
        assert self.text(comet_gateway) == "of the test"
        comet_gateway.script("ok", "unavailable")
        comet_gateway.always("unavailable")
        comet_gateway.recover()
        assert self.text(comet_gateway) == "of the test"

    @pytest.mark.parametrize("wrong", [{}, {"name": 503, "status": 503}, {"name": "nonsense"}])
    def test_wrong(self, comet_gateway, wrong):
        with pytest.raises(ValueError, match="fail|no failure"):
            comet_gateway.fail(**wrong)
        with pytest.raises(TypeError):
            comet_gateway.change(keys=["other"])
        with pytest.raises(TypeError):
            comet_gateway.change(latencie=1)

    def text(self, comet_gateway):
        async def service():
            async with comet_gateway.client(max_retries=0) as client:
                return (await ask(client)).choices[0].message.content
        return asyncio.run(service())
"""
WITHOUT_WAITING = """
from comet_resilience.limits.eventloop import running_loop

async def wait(patience):
    async with asyncio.timeout(patience):
        await running_loop().sleep(3_000)

def test_off(comet_no_waiting):
    asyncio.run(wait(60))

def test_on():
    with pytest.raises(TimeoutError):
        asyncio.run(wait(0.05))
"""
WITH_ANYIO = """
@pytest.mark.anyio
async def test_many_at_once(comet_gateway, comet_no_waiting):
    comet_gateway.limit(3, retry_after=20)
    comet_gateway.change(latency=0.01)
    import anyio
    async with comet_gateway.client() as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask, client)
    assert comet_gateway.statistics().answered == 10
    assert comet_gateway.statistics().refused > 0

@pytest.mark.anyio
async def test_each_test_has_its_own(comet_gateway):
    assert comet_gateway.requests == []
"""
WITH_PYTEST_ASYNCIO = """
@pytest.mark.asyncio
async def test_service(comet_gateway):
    comet_gateway.cut_streams()
    async with wrap(
        AsyncOpenAI(base_url=comet_gateway.base_url, api_key=comet_gateway.api_key)
    ) as client:
        stream = await ask(client, stream=True)
        with pytest.raises(APIError, match="broke off after 2 events"):
            async for chunk in stream:
                pass
"""


def test_in_functions_and_with_anyio(pytester: pytest.Pytester) -> None:
    """In functions that run their own loops, and with anyio's plugin on asyncio and trio."""
    tests = IN_A_FUNCTION + BY_MARKERS + WITHOUT_WAITING + WITH_ANYIO
    passed(pytester, tests, "-p", "no:asyncio", count=12)


def test_with_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """With pytest-asyncio, which runs each test in a loop of its own."""
    pytest.importorskip("pytest_asyncio")
    scope = "asyncio_default_fixture_loop_scope=function"
    passed(pytester, WITH_PYTEST_ASYNCIO, "-p", "pytest_asyncio", "-o", scope, count=1)


def test_a_bug_in_the_gateway_fails_the_test(pytester: pytest.Pytester) -> None:
    """What goes wrong within the gateway does not pass for a failure of the network."""
    pytester.makepyfile(
        HEAD
        + """
def test_service(comet_gateway):
    async def service():
        async with comet_gateway.client(max_retries=0) as client:
            with pytest.raises(APIError):
                await ask(client)
    comet_gateway.script(lambda request: 1 / 0)
    asyncio.run(service())
"""
    )
    done = pytester.run(
        sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:asyncio", timeout=100
    )
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*ZeroDivisionError*"])


def test_loading_it_opens_nothing() -> None:
    """A test run that uses no fixture pays for none: no server, and no h11 needed."""
    rooms = ("gateway", "server", "thread", "waiting", "chaos", "transport")
    probe = (
        f"import sys, {PLUGIN}; print(sorted(sys.modules.keys() &"
        f" {{'h11', *('comet_resilience.testing.' + room for room in {rooms!r})}}))"
    )
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
