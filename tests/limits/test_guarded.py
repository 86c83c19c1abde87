"""Foreign code under the lock, or before a slot is in use, costs neither slot nor call."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import anyio
import openai
import pytest
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from comet_resilience import (
    AlgorithmRetired,
    CallbackError,
    Event,
    FixedLimit,
    StepBack,
    diagnose,
    snapshot,
)
from comet_resilience.call.hooks import Instrumentation
from comet_resilience.limits.algorithm import Ticket
from comet_resilience.limits.guarded import Guarded, contained
from tests.redis_server import RedisServer

from ..conftest import (
    LIMITED,
    MESSAGES,
    OK,
    Answer,
    ask,
    engine_of,
    run_in_virtual_time,
    scripted,
)
from .test_state_machine import LimiterMachine, Watched

MEMBERS = (
    *("limit", "closed_until", "wake_at", "reason"),
    *("sent", "accepted", "refused", "ended", "tick"),
)
CHUNK = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
)
STREAM: Answer = (200, [CHUNK, b"data: [DONE]\n\n"], {"content-type": "text/event-stream"})
#: Exceptions are raised, everything else is returned.
AMISS: tuple[Any, ...] = (
    *(ValueError("a bug"), asyncio.CancelledError(), GeneratorExit(), RecursionError()),
    *(None, math.nan, -1, "soon", object()),
)


class Spoilt:
    """A limit algorithm of somebody else's, one member of which goes wrong from a time on."""

    def __init__(self, inner: Any, member: str, amiss: object, after: int) -> None:
        self.__dict__.update(inner=inner, member=member, amiss=amiss, left=after)

    def __getattr__(self, name: str) -> Any:
        if name != self.member:
            return getattr(self.inner, name)
        if name in ("limit", "closed_until", "wake_at", "reason"):
            return self._spoil(getattr(self.inner, name))
        return lambda *arguments: self._spoil(getattr(self.inner, name)(*arguments))

    def _spoil(self, right: Any) -> Any:
        self.__dict__["left"] -= 1
        if self.left >= 0:
            return right
        if isinstance(self.amiss, BaseException):
            raise self.amiss
        return self.amiss


@pytest.mark.parametrize("after", [1, 6])
@pytest.mark.parametrize("amiss", AMISS, ids=[str(type(amiss).__name__) for amiss in AMISS])
@pytest.mark.parametrize("member", MEMBERS)
def test_whatever_an_algorithm_does_every_call_is_made(
    member: str, amiss: object, after: int
) -> None:
    """Ten calls at once, one of them refused, then one more: all are answered, nothing is held."""

    async def main() -> None:
        client, _ = scripted(
            OK, LIMITED, OK, algorithm=lambda: Spoilt(StepBack(3, 1, 3), member, amiss, after)
        )
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask, client)
            assert await ask(client) == "Hi"
        (shown,) = snapshot(client).partitions
        assert (shown.in_flight, shown.waiting) == (0, 0)
        assert shown.limit <= 3

    run_in_virtual_time(main)


class Spaced(StepBack):
    """One that says *not yet* for a second after each attempt."""

    def __init__(self) -> None:
        super().__init__(8, 1, 8)
        self.at = self.now = 0.0

    @property
    def ready(self) -> bool:
        """Return True if the second is over."""
        return self.now >= self.at

    @property
    def wake_at(self) -> float | None:
        """Return when the second is over."""
        return None if self.ready else self.at

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Begin another second."""
        self.now, self.at = now, now + 1.0
        return super().sent(now, in_flight)

    def tick(self, now: float) -> None:
        """Note the time."""
        self.now = now
        super().tick(now)


@pytest.mark.parametrize("is_retired", [False, True])
def test_an_algorithm_of_ones_own_may_say_not_yet(*, is_retired: bool) -> None:
    """Five calls at once leave a second apart; the stand-in of one that fails holds none back."""
    sent: list[float] = []

    async def main() -> None:
        algorithm: Any = Spaced()
        if is_retired:
            algorithm = Spoilt(algorithm, "tick", ValueError("a bug"), 1)
        client, inner = scripted(OK, algorithm=lambda: algorithm)

        async def note(request: Any) -> Any:
            sent.append(trio.current_time())
            return await inner.answer(request)

        inner.behave = note
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask, client)

    run_in_virtual_time(main)
    gaps = [round(after - before, 3) for before, after in itertools.pairwise(sent)]
    assert len(gaps) == 4
    assert (min(gaps) == 0.0) if is_retired else (gaps == [1.0] * 4)


def test_a_spacing_that_fails_holds_nobody_back() -> None:
    """The stand-in has no property ``ready``, and the algorithm is asked no more."""

    class Failing(Spaced):
        @property
        def ready(self) -> bool:
            raise LookupError("gone")

    retired: list[str] = []
    guarded = Guarded(Failing(), lambda reason, error, limit: retired.append(reason))
    assert guarded.ready
    assert guarded.ready
    assert retired == ["ready: LookupError: gone"]


def test_one_that_fails_is_retired_once_and_told_outside_of_the_lock(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The observers may look at the limiter, and the log names the partition and the exception."""
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        snapshot(client)

    client, _ = scripted(
        OK, algorithm=lambda: Spoilt(FixedLimit(4), "tick", LookupError("gone"), 3), on_event=hear
    )
    for _ in range(5):
        assert anyio.run(ask, client) == "Hi"
    (told,) = (event for event in heard if isinstance(event, AlgorithmRetired))
    assert told.reason == "tick: LookupError: gone"
    assert isinstance(told.error, LookupError)
    assert told.limit == 4
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "completions m failed" in record.message
    assert "LookupError: gone" in record.message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()], ids=repr)
@pytest.mark.parametrize("member", MEMBERS)
def test_what_ends_the_program_passes_and_holds_nothing(member: str, error: BaseException) -> None:
    """It is raised where no lock is held; whoever goes on has a whole limiter."""
    client, _ = scripted(OK, algorithm=lambda: Spoilt(FixedLimit(1), member, error, 1))
    ended = 0
    for _ in range(4):
        try:
            assert anyio.run(ask, client) == "Hi"
            snapshot(client)
        except (KeyboardInterrupt, SystemExit):
            ended += 1
    assert ended == (member not in ("reason", "refused", "accepted", "wake_at")) or ended == 1
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.waiting) == (0, 0)


def test_an_algorithm_that_is_always_late_does_not_spin() -> None:
    """It is woken some times a second while somebody waits, not without end."""
    ticks = 0

    class Late(StepBack):
        @property
        def wake_at(self) -> float | None:
            return 0.0

        def tick(self, now: float) -> None:
            nonlocal ticks
            ticks += 1
            super().tick(now)

    async def main() -> None:
        client, inner = scripted(OK, algorithm=lambda: Late(1, 1, 1))
        inner.behave = lambda _: anyio.sleep(60)
        with trio.move_on_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, client)
                nursery.start_soon(ask, client)

    run_in_virtual_time(main)
    assert 100 < ticks < 300


@pytest.mark.parametrize("limit", [2.5, 3, math.inf])
def test_a_limit_that_is_a_number_is_taken_as_one(limit: float) -> None:
    """As many are sent as are fewer than it."""
    spoilt: Any = Spoilt(FixedLimit(1), "limit", limit, 0)
    guarded = Guarded(spoilt, _never)
    assert guarded.limit == min(3, math.ceil(limit) if limit < math.inf else 3) or guarded.limit > 9


def _never(*_: object) -> None:
    raise AssertionError


def test_algorithms_of_the_house_are_asked_directly() -> None:
    """What cannot fail costs no detour; a subclass may fail."""
    own, foreign = StepBack(1, 1, 1), Watched(1, 1, 1)
    assert contained(own, _never) is own
    assert isinstance(contained(foreign, _never), Guarded)


FACTORIES: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "raises": ({"algorithm": lambda: 1 // 0}, "algorithm: the function raised ZeroDivisionError"),
    "none": ({"algorithm": lambda: None}, "algorithm: .* NoneType .* no method 'sent'"),
    "no-limit": ({"algorithm": lambda: Spoilt(FixedLimit(1), "limit", None, 0)}, "gives no limit"),
    "partition": ({"partition": lambda _: 1 // 0}, "partition: .*ZeroDivisionError"),
    "unhashable": ({"partition": lambda info: [info.model]}, "partition: .*hashable .*list"),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_function_that_decides_and_fails_is_named_and_nothing_is_sent(name: str) -> None:
    """At once, by an error of the SDK's family that nobody retries, with its cause and advice."""
    options, words = FACTORIES[name]
    client, inner = scripted(OK, **options)
    with pytest.raises(CallbackError, match=words) as caught:
        anyio.run(ask, client)
    assert isinstance(caught.value, openai.OpenAIError)
    assert "function" in diagnose(caught.value).advice[0]
    assert not inner.sent
    assert all(shown.in_flight == shown.waiting == 0 for shown in snapshot(client).partitions)


class FaultyMachine(LimiterMachine):
    """The machine of the limiter, in which the algorithm may go wrong between any two events."""

    def __init__(self) -> None:
        super().__init__()
        Faulty.next_fault = None
        self.limiter._make_algorithm = lambda: Faulty(4, 1, 20)

    @rule(member=st.sampled_from(("sent", "accepted", "refused", "ended", "tick")))
    def spoil(self, member: str) -> None:
        """The next call of a method raises."""
        Faulty.next_fault = member


class Faulty(Watched):
    """Raises once where it is told to."""

    next_fault: str | None = None

    def _fail(self, member: str) -> None:
        if Faulty.next_fault == member:
            Faulty.next_fault = None
            raise ValueError(member)

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Fail, or do as usual."""
        self._fail("sent")
        return super().sent(now, in_flight)

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Fail half way."""
        StepBack.accepted(self, ticket, now)
        self._fail("accepted")

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Fail half way."""
        StepBack.refused(self, ticket, now, in_flight, retry_after, jitter)
        self._fail("refused")

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Fail before anything is done."""
        self._fail("ended")
        StepBack.ended(self, ticket, now, in_flight)

    def tick(self, now: float) -> None:
        """Fail half way."""
        StepBack.tick(self, now)
        self._fail("tick")


FaultyMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestFaultyLimiter = FaultyMachine.TestCase


class NoThreads:
    """Threads of the library that cannot start, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.left = times
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if self.left > 0 and thread.name.startswith("comet_resilience"):
                self.left -= 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_fleet_whose_thread_cannot_start_is_a_local_limit_that_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No call feels it, and once a thread is to be had the share is the fleet's."""
    threads = NoThreads(monkeypatch, 2)

    async def main() -> None:
        async with asyncio.timeout(30):
            assert await ask(client) == "Hi"
            assert states() == ["local"]
            while states() != ["shared"]:
                assert await ask(client) == "Hi"
                await asyncio.sleep(0.02)
        (shown,) = snapshot(client).partitions
        assert (shown.in_flight, shown.waiting) == (0, 0)

    def states() -> list[str]:
        return [shown.fleet.state.value for shown in snapshot(client).partitions if shown.fleet]

    with RedisServer() as redis:
        client, _ = scripted(OK, fleet=redis.url, algorithm=lambda: FixedLimit(1))
        asyncio.run(main())
        engine_of(client).close()
    assert threads.left == 0


def test_a_stream_is_closed_where_an_observer_ends_the_program() -> None:
    """Between the hand-over and the caller nobody else could close it."""

    class Ends(Instrumentation):
        def __call__(self, event: Event) -> None:
            """Hear nothing."""

        def watch(self, limiter: object) -> None:
            """Watch nothing."""

        def begin(self, request: object) -> Ends:
            del request
            return self

        def answered(self) -> None:
            raise SystemExit

        def finished(self, outcome: object, queued: float) -> None:
            """Note nothing."""

    client, inner = scripted(STREAM, on_event=Ends())

    async def main() -> None:
        await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)

    with pytest.raises(SystemExit):
        anyio.run(main)
    assert len(inner.closed) == 1
    assert snapshot(client).partitions[0].in_flight == 0
