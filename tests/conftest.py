"""Event loops with virtual time, and the real SDK over scripted answers, for all tests."""

from __future__ import annotations

import gc
import json
import random
import sys
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import anyio
import hypothesis
import openai
import pytest
import trio.testing

from comet_resilience import (
    AttemptFinished,
    FailureKind,
    FixedLimit,
    Options,
    RequestInfo,
    snapshot,
    wrap,
)
from comet_resilience.call.engine import Engine
from comet_resilience.wire.family import family_of_sdk

BASE_URL = "https://api.cometapi.com/v1"
#: A key that must never appear anywhere but in the request itself.
KEY = "sk-CANARY-3f9a27c1d84e4b6fa0b5"
MESSAGES: Any = [{"role": "user", "content": "Hello"}]
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hi"},
        }
    ],
}

#: No backoff, and a limit that stays: nothing waits, on any event loop.
FAST: Any = {"backoff_initial": 0.0, "backoff_max": 0.0, "algorithm": lambda: FixedLimit(8)}

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}

httpx: Any = family_of_sdk()
T = TypeVar("T")

#: Marks for tests of one event loop, of virtual time alone, and of sockets, which need real time.
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
in_virtual_time = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
in_real_time = pytest.mark.parametrize("anyio_backend", ["asyncio", "real trio"], indirect=True)
#: The SDK leaves its own generators, and the HTTP library's, unexhausted: after [DONE], and where
#: it is cancelled.
sdk_leaves_generators = pytest.mark.filterwarnings(
    "ignore:Async generator '(openai|httpx|httpcore):ResourceWarning"
)

Answer = tuple[int, Any, dict[str, str]] | Exception


def envelope(code: str, message: str) -> dict[str, object]:
    """Return the gateway's usual error body."""
    return {
        "error": {"message": message, "type": "comet_api_error", "param": "", "code": code},
    }


OK: Answer = (200, COMPLETION, JSON)
LIMITED: Answer = (429, envelope("", "slow down"), {})
BROKEN: Answer = (500, envelope("", "it broke"), {})


def event(data: object, name: str = "") -> bytes:
    """Return a server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(data).encode() + b"\n\n"


#: The members that all events of a chat stream share.
CHUNK_HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(
    delta: str | dict[str, Any] | None = None,
    finish: str | None = None,
    index: int = 0,
    **more: Any,
) -> bytes:
    """Return one event of a chat stream, with some text or another delta."""
    delta = {"content": delta} if isinstance(delta, str) else delta or {}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return event({**CHUNK_HEAD, "choices": [choice], **more})


def sliced(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return data in parts of these sizes, over and over."""
    parts, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        parts.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return parts


def stream_of(*parts: bytes | Exception, **headers: str) -> Answer:
    """Return an event stream of these parts, with status 200."""
    return 200, list(parts), {**SSE, **headers}


PING = b": PING\n\n"
DONE = b"data: [DONE]\n\n"
#: The events of a stream that says "Hello".
WHOLE = [chunk("Hel"), chunk("lo"), chunk(finish="stop"), DONE]
STREAM: Answer = stream_of(*WHOLE)


class ClosingStream(httpx.AsyncByteStream):  # type: ignore[misc]
    """A body that counts how often it was closed; an exception among its parts is raised."""

    def __init__(self, parts: list[bytes | Exception], closed: list[object]) -> None:
        self._parts = list(parts)
        self._closed = closed

    def __aiter__(self) -> ClosingStream:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        part = self._parts.pop(0)
        if isinstance(part, Exception):
            raise part
        return part

    async def aclose(self) -> None:
        self._closed.append(self)


class EndlessStream(ClosingStream):
    """The same with some parts and then none, for ever."""

    async def __anext__(self) -> bytes:
        if not self._parts:
            await anyio.sleep_forever()
        return await super().__anext__()


@dataclass
class Scripted:
    """An inner transport that gives prepared answers in turn, the last one for ever."""

    answers: list[Answer]
    sent: list[Any] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)
    closed: list[Any] = field(default_factory=list)
    transport_closed: int = 0
    behave: Callable[[Any], Awaitable[Any]] | None = None

    async def handle_async_request(self, request: Any) -> Any:
        """Answer the next request, or do as told by ``behave``."""
        return await (self.behave or self.answer)(request)

    async def answer(self, request: Any) -> Any:
        """Give the next prepared answer."""
        self.sent.append((dict(request.headers), str(request.url), request.method))
        self.bodies.append(b"".join([part async for part in request.stream]))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body, headers = answer
        parts: list[Any] = body if isinstance(body, list) else [_encoded(body)]
        stream = ClosingStream(parts, self.closed)
        self.opened.append(stream)
        return httpx.Response(status, headers=headers, stream=stream)

    def hold(self) -> anyio.Event:
        """Give no answer before the returned event is set."""
        goes_on = anyio.Event()

        async def wait(request: Any) -> Any:
            await goes_on.wait()
            return await self.answer(request)

        self.behave = wait
        return goes_on

    def delay(self, seconds: float) -> None:
        """Take so long for each answer from now on."""

        async def wait(request: Any) -> Any:
            await anyio.sleep(seconds)
            return await self.answer(request)

        self.behave = wait

    async def aclose(self) -> None:
        """Count closings."""
        self.transport_closed += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _encoded(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def bare_client(inner: Any, **keywords: Any) -> openai.AsyncOpenAI:
    """Make a client of the real SDK over a transport of ours, as a caller would."""
    keywords.setdefault("api_key", KEY)
    keywords.setdefault("base_url", BASE_URL)
    http_client = httpx.AsyncClient(transport=inner, follow_redirects=True)
    client = openai.AsyncOpenAI(http_client=http_client, **keywords)
    # A new client asks a thread for the platform, and while a thread runs virtual time jumps.
    client._platform = "Unknown"
    return client


def scripted(*answers: Answer, **options: Any) -> tuple[openai.AsyncOpenAI, Scripted]:
    """Make a wrapped client and the transport that answers it."""
    inner = Scripted(list(answers))
    typed: Options = options  # type: ignore[assignment]
    return wrap(bare_client(inner), **typed), inner


def engine_of(client: openai.AsyncOpenAI) -> Engine:
    """Return what the transports of a wrapped client share."""
    transport: Any = client._client._transport
    engine: Engine = transport._engine
    return engine


def at_rest(client: openai.AsyncOpenAI) -> bool:
    """Return True if no slot is held and nobody waits."""
    return all(shown.in_flight == shown.waiting == 0 for shown in snapshot(client).partitions)


async def ask(client: openai.AsyncOpenAI, **keywords: Any) -> str | None:
    """Ask for a chat completion and return its text."""
    keywords.setdefault("model", "m")
    answer = await client.chat.completions.create(messages=MESSAGES, **keywords)
    content: str | None = answer.choices[0].message.content
    return content


async def stream_from(client: Any, **keywords: Any) -> Any:
    """Ask for a stream of a chat completion; return it once its beginning has come."""
    keywords.setdefault("model", "m")
    return await client.chat.completions.create(messages=MESSAGES, stream=True, **keywords)


async def failure_of(client: Any, **keywords: Any) -> Any:
    """Return the exception that a call raises."""
    with pytest.raises(openai.OpenAIError) as caught:
        await ask(client, **keywords)
    return caught.value


def refused_attempt(**changes: Any) -> AttemptFinished:
    """Return the event of an attempt that met a rate limit, but for the changes."""
    facts: dict[str, Any] = {
        "request": RequestInfo(route="POST /chat/completions", model="m"), "attempt": 1,
        "status": 429, "kind": FailureKind.RATE_LIMITED, "code": "", "fault": "",
        "reason": "rate limiting", "request_id": "id-1", "queued": 0.0, "elapsed": 0.1,
        "in_flight": 1, "limit": 8, "request_bytes": 60, "response_bytes": 90,
    }  # fmt: skip
    return AttemptFinished(**(facts | changes))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let asyncio run on uvloop's event loop."""
    parser.addoption("--uvloop", action="store_true", help="run asyncio's tests on uvloop")
    parser.addoption(
        "--order", type=int, default=0, help="another order of tasks, other jitter, other examples"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have hypothesis try the same examples every time, unless another order is asked for."""
    hypothesis.settings.register_profile(
        "suite",
        derandomize=not config.getoption("--order"),
        # A busy machine is slow, not wrong.
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Have the collector look at what tests make, and not at the tests each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_every_time(request: pytest.FixtureRequest) -> None:
    """Begin each test with the same randomness: that of backoff, and of trio's order of tasks.

    trio shuffles tasks that are ready at once, and hypothesis has it shuffle by this generator.
    """
    order = request.config.getoption("--order")
    random.seed(order)
    trio._core._run._r.seed(order)


_FAILED: pytest.StashKey[bool] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test has failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Collect what a failed test left open, so that no later test is blamed for it."""
    result = yield
    if item.stash.get(_FAILED, False):
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            sys.__dict__.pop(name, None)  # They hold the frames of the test.
        with warnings.catch_warnings(action="ignore"):
            gc.collect()
    return result


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """Collect at the end of a file: what its tests left open is an error of this file."""
    yield
    gc.collect()


def run_in_virtual_time(main: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Run on trio, with a clock that jumps over every wait."""
    return trio.run(main, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run on both event loops; the clock of "trio" is virtual, that of "real trio" is not."""
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    if request.param == "real trio":
        return "trio", {}
    return request.param, {"use_uvloop": request.config.getoption("--uvloop", default=False)}
