"""The retry loop against a model: any sequence of answers, faults, cancellations and time.

The real transport and limiter run on an event loop whose clock stands still until a rule moves it.
After each step the model says how many slots are held, who may have been sent again and who not.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from comet_resilience import GaveUp, ResilientTransport, RetryScheduled, diagnose
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import Observation
from comet_resilience.wire.family import fault_of

from ..conftest import BASE_URL, COMPLETION, ClosingStream, envelope, httpx

MAX_RETRIES = 2
#: More at once than there are slots at first.
MOST = 5
#: Turns of the loop after which nothing more happens without time or news.
TURNS = 12
#: Seconds that arithmetic with floats may lose.
ROUNDING = 1e-6
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
ANSWERED = Observation(status=200)
FAULTS = ("ConnectError", "ReadError", "ReadTimeout", "RemoteProtocolError")


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is moved by hand."""

    now = 1_000.0
    _scheduled: list[asyncio.TimerHandle]

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Let everything happen that can happen now."""

        async def turn() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.run_until_complete(turn())

    def advance(self, seconds: float) -> None:
        """Let time pass, from timer to timer."""
        ends = self.now + seconds
        while self._scheduled and self._scheduled[0].when() <= ends:
            self.now = max(self.now, self._scheduled[0].when())
            self.settle()
        self.now = ends


class HeldStream(httpx.AsyncByteStream):  # type: ignore[misc]
    """An event stream that goes on when it is told to."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.parts.put_nowait(EVENT)
        self.closed = False

    def __aiter__(self) -> HeldStream:
        return self

    async def __anext__(self) -> bytes:
        part = await self.parts.get()
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, Exception):
            raise part
        return part

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Call:
    """The model's knowledge of one request."""

    task: asyncio.Task[Any]
    is_stream: bool
    sends: int = 0
    not_before: float = 0.0
    #: Refusals that spend no retry: since the failure before them others were answered.
    unlucky: int = 0
    #: Answers that had ended well when it last failed.
    ok: int | None = None
    is_hinted: bool = False
    attempt: asyncio.Future[Any] | None = None
    stream: HeldStream | None = None


class RetryLoopMachine(RuleBasedStateMachine):
    """Requests begin, are answered, refused, broken, cancelled; streams flow; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = StillLoop()
        self.events: list[Any] = []
        self.transport = ResilientTransport(
            self, max_retries=MAX_RETRIES, initial_concurrency=3, on_event=self.events.append
        )
        self.calls: dict[str, Call] = {}
        self.opened: list[Any] = []
        self.closed: list[Any] = []
        self.begun = 0
        #: Whether a hint was given, and whether somebody was let in after the first.
        self.are_hints_given = self.are_hints_doubted = False
        self.breaches: list[str] = []

    # -- the inner transport --------------------------------------------------------------------

    async def handle_async_request(self, request: Any) -> Any:
        """Wait for a rule to say what comes of an attempt."""
        call = self.calls[request.headers["x-call"]]
        call.sends += 1
        breaches = {
            "two attempts of one request at once": call.attempt is not None,
            "sent after its end": call.task.done(),
            "sent before its delay was over": self.loop.now < call.not_before - ROUNDING
            and not (call.is_hinted and self.are_hints_doubted),
            "sent too often": call.sends > MAX_RETRIES + 1 + call.unlucky,
        }
        self.breaches += [what for what, is_so in breaches.items() if is_so]
        call.attempt = self.loop.create_future()
        try:
            return await call.attempt
        finally:
            call.attempt = None

    # -- rules ----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.live()) < MOST)
    @rule(stream=st.booleans())
    def begin(self, stream: bool) -> None:
        """A new request."""
        self.begun += 1
        name = str(self.begun)
        body = {"model": "m", "messages": [], "stream": stream}
        url = f"{BASE_URL}/chat/completions"
        request = httpx.Request("POST", url, json=body, headers={"x-call": name})

        async def run() -> Any:
            return await self.transport.handle_async_request(request)

        self.calls[name] = Call(self.loop.create_task(run()), stream)
        self.loop.settle()

    def attempts(self, *, is_stream: bool | None = None) -> list[Call]:
        """The requests that wait for the gateway, all or those of one sort."""
        sorts = (True, False) if is_stream is None else (is_stream,)
        return [
            call
            for call in self.calls.values()
            if call.attempt is not None and call.is_stream in sorts
        ]

    def streams(self) -> list[Call]:
        """The requests whose answer has begun and not ended."""
        return [call for call in self.calls.values() if call.stream is not None]

    def resolve(self, call: Call, outcome: Any, observation: Observation = ANSWERED) -> None:
        """The gateway has spoken to one attempt; see what the loop made of it."""
        assert call.attempt is not None
        self.events.clear()
        ok = sum(partition.ok for partition in self.transport.snapshot().partitions)
        is_overload = observation is not ANSWERED and classify(observation).signal.is_overload
        call.unlucky += is_overload and call.ok is not None and ok > call.ok
        call.ok, call.is_hinted = ok, observation.retry_after is not None
        self.are_hints_given |= call.is_hinted
        self.are_hints_doubted |= self.are_hints_given and not is_overload
        if isinstance(outcome, Exception):
            call.attempt.set_exception(outcome)
        else:
            call.attempt.set_result(outcome)
        self.loop.settle()
        for event in self.events:
            if isinstance(event, RetryScheduled):
                assert event.delay >= 0
                call.not_before = self.loop.now + event.delay
                assert not call.task.done()
            if isinstance(event, GaveUp):
                assert call.task.done()
                assert event.attempts == call.sends

    def again(self, call: Call, patience: bool) -> None:
        """Wait for the next attempt of a request, if the rule says so."""
        for _ in range(40 if patience else 0):
            if call.task.done() or call.attempt is not None:
                return
            self.loop.advance(5.0)

    def response(self, status: int, document: Any, **headers: str) -> Any:
        """A response whose body must be closed by somebody."""
        stream = ClosingStream([json.dumps(document).encode()], self.closed)
        self.opened.append(stream)
        return httpx.Response(status, headers=headers, stream=stream)

    def pick(self, data: st.DataObject, calls: list[Call]) -> Call:
        """One of them."""
        return calls[data.draw(st.integers(0, len(calls) - 1))]

    @precondition(lambda self: self.attempts(is_stream=False))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """A good answer."""
        call = self.pick(data, self.attempts(is_stream=False))
        self.resolve(call, self.response(200, COMPLETION, **{"content-type": "application/json"}))
        assert call.task.result().status_code == 200

    @precondition(lambda self: self.attempts(is_stream=True))
    @rule(data=st.data())
    def open_stream(self, data: st.DataObject) -> None:
        """The first event of a stream."""
        call = self.pick(data, self.attempts(is_stream=True))
        call.stream = HeldStream()
        headers = {"content-type": "text/event-stream"}
        self.resolve(call, httpx.Response(200, headers=headers, stream=call.stream))
        assert call.task.result().status_code == 200

    @precondition(lambda self: self.attempts())
    @rule(
        data=st.data(),
        hint=st.sampled_from(["", "0", "3", "50", "200", "nonsense"]),
        patience=st.booleans(),
    )
    def refuse(self, data: st.DataObject, hint: str, patience: bool) -> None:
        """A refusal for load, with or without a hint; one above the maximum ends the request."""
        call = self.pick(data, self.attempts())
        headers = {"retry-after": hint} if hint else {}
        refusal = Observation(
            status=429, message="slow down", retry_after=float(hint) if hint.isdigit() else None
        )
        self.resolve(call, self.response(429, envelope("", "slow down"), **headers), refusal)
        if hint == "200":
            assert call.task.done()
        elif hint in ("3", "50") and not call.task.done():
            assert call.not_before >= self.loop.now + float(hint) - ROUNDING
        self.again(call, patience)

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), status=st.sampled_from([500, 502, 503, 504, 529]), patience=st.booleans())
    def fail(self, data: st.DataObject, status: int, patience: bool) -> None:
        """A passing failure of the server."""
        call = self.pick(data, self.attempts())
        failure = Observation(status=status, message="it broke")
        self.resolve(call, self.response(status, envelope("", "it broke")), failure)
        assert call.task.done() == (call.sends == MAX_RETRIES + 1 + call.unlucky)
        self.again(call, patience)

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), status=st.sampled_from([400, 401, 403, 404, 422]))
    def forbid(self, data: st.DataObject, status: int) -> None:
        """A failure that cannot get better is not sent again."""
        call = self.pick(data, self.attempts())
        self.resolve(call, self.response(status, envelope("", "no")))
        assert call.task.done()

    @precondition(lambda self: self.attempts())
    @rule(data=st.data(), name=st.sampled_from(FAULTS), patience=st.booleans())
    def break_connection(self, data: st.DataObject, name: str, patience: bool) -> None:
        """No answer arrives."""
        call = self.pick(data, self.attempts())
        error = getattr(httpx, name)("chaos")
        self.resolve(call, error, Observation(fault=fault_of(error)))
        assert call.task.done() == (call.sends == MAX_RETRIES + 1 + call.unlucky)
        self.again(call, patience)

    @precondition(lambda self: self.streams())
    @rule(data=st.data(), how=st.sampled_from(["end", "half", "cut", "close"]))
    def finish_stream(self, data: st.DataObject, how: str) -> None:
        """A stream ends whole, without its terminal sign, or broken; or its reader goes."""
        call = self.pick(data, self.streams())
        stream, call.stream = call.stream, None
        assert stream is not None
        response = call.task.result()
        if how == "close":
            self.loop.run_until_complete(response.aclose())
            self.loop.settle()
            return
        parts = {"end": [LAST, None], "half": [None], "cut": [httpx.ReadError("chaos")]}
        for part in parts[how]:  # type: ignore[attr-defined]
            stream.parts.put_nowait(part)
        error = self.loop.run_until_complete(self.read(response))
        assert (error is None) == (how == "end")
        if error is not None:
            assert isinstance(error, openai.APIConnectionError)
            assert len(diagnose(error).attempts) == call.sends
        self.loop.settle()

    @precondition(lambda self: self.streams())
    @rule(data=st.data())
    def drop_stream(self, data: st.DataObject) -> None:
        """The reader forgets a stream; the garbage collector finds it."""
        dropped = self.pick(data, self.streams())
        self.calls = {name: call for name, call in self.calls.items() if call is not dropped}
        del dropped
        gc.collect()
        self.loop.settle()

    async def read(self, response: Any) -> Exception | None:
        """Read a body to its end; how it failed, if it did."""
        try:
            async for _ in response.stream:
                pass
        except Exception as error:  # noqa: BLE001 - looked at by the rule
            return error
        finally:
            await response.stream.aclose()
        return None

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A caller goes away: in the queue, in an attempt, or in a wait."""
        call = self.pick(data, self.live())
        call.task.cancel()
        self.loop.settle()
        assert call.task.cancelled()

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.loop.advance(seconds)

    # -- what must hold -------------------------------------------------------------------------

    def live(self) -> list[Call]:
        """The requests that have no answer yet."""
        return [call for call in self.calls.values() if not call.task.done()]

    @invariant()
    def slots_are_those_of_the_model(self) -> None:
        """A slot for each attempt and each open stream; the rest wait or sleep and hold none."""
        shown = self.transport.snapshot().partitions
        held = sum(partition.in_flight for partition in shown)
        waiting = sum(partition.waiting for partition in shown)
        assert held == len(self.attempts()) + len(self.streams())
        asleep = len(self.live()) - len(self.attempts()) - waiting
        assert asleep >= 0
        due = [
            call
            for call in self.live()
            if call.sends and call.not_before + ROUNDING <= self.loop.now
        ]
        assert asleep <= len(self.live()) - len(due)

    @invariant()
    def nothing_is_sent_that_must_not_be(self) -> None:
        """Too often, too soon, after the end, or twice at once."""
        assert not self.breaches

    @invariant()
    def what_has_ended_says_why(self) -> None:
        """An answer, the provider's failure or a fault with its attempts; nothing left open."""
        for call in self.calls.values():
            if not call.task.done() or call.task.cancelled():
                continue
            error = call.task.exception()
            if error is not None:
                assert isinstance(error, openai.OpenAIError)
                assert len(diagnose(error).attempts) == call.sends

    def teardown(self) -> None:
        """Left alone with a healthy gateway, every request ends and nothing is held."""
        for call in self.streams():
            self.loop.run_until_complete(call.task.result().aclose())
            call.stream = None
        for _ in range(400):
            if not self.live():
                break
            for call in self.attempts():
                self.resolve(call, self.response(400, envelope("", "no")))
            self.loop.advance(5.0)
        assert not self.live()
        self.slots_are_those_of_the_model()
        assert {id(stream) for stream in self.opened} <= {id(stream) for stream in self.closed} | {
            id(stream) for stream in self.opened if not stream._parts
        }
        self.calls.clear()
        self.loop.close()


RetryLoopMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestRetryLoop: Callable[..., Any] = RetryLoopMachine.TestCase
