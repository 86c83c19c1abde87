"""The scenes in virtual time: each returns its figures for one client and one seed.

``options`` are the keywords of ``wrap``, ``None`` for the bare SDK.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio

from comet_resilience.testing import ConcurrencyCap, TokenBucket

from .weather import (
    REFUSED,
    Call,
    Crowd,
    Fate,
    Limited,
    Rolling,
    Sent,
    Sky,
    in_virtual_time,
    refusal_time,
)

Options = Mapping[str, Any] | None
Figures = dict[str, float]
#: When the outages of a minute begin, and when their runs are cut off.
BEGINS: Final = 30.0
MINUTE: Final = 60.0
AFTER: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a figure has to reach: at least, or at most, a number or another client's figure."""

    at_least: float | None = None
    at_most: float | None = None
    of_sdk: float | None = None

    def reached(self, ours: float, sdk: float) -> bool:
        """Whether it is; a figure that does not exist has not reached anything."""
        low = self.at_least
        if self.of_sdk is not None:
            low = self.of_sdk * sdk
        return (low is None or ours >= low) and (self.at_most is None or ours <= self.at_most)

    def __str__(self) -> str:
        if self.of_sdk is not None:
            return f">= {self.of_sdk:g} x SDK"
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A name, what is to be played, and the bars of its figures.

    ``options`` are the wrapped client's in this scene; ``with_sdk`` whether the SDK plays, too.
    """

    name: str
    play: Callable[[Options, int], Figures]
    bars: Mapping[str, Bar]
    options: Mapping[str, Any]
    with_sdk: bool = True


def _play(sky: Sky, options: Options, seed: int, main: Callable[[Crowd], Any]) -> Crowd:
    random.seed(seed)  # the SDK and the product draw their jitter here
    crowd = Crowd(sky, options)
    in_virtual_time(partial(main, crowd))
    return crowd


def _between(since: float, until: float) -> Callable[[float], bool]:
    return lambda now: since <= now < until


def _inside(calls: list[Call], since: float, until: float) -> list[Call]:
    return [call for call in calls if since <= call.began < until]


def callers(
    options: Options,
    seed: int,
    *,
    number: int,
    status: int | str = 503,
    chance: float = 1.0,
    seconds: float = MINUTE,
) -> Figures:
    """So many callers in an outage, total or in part."""
    draw, until = random.Random(f"callers {seed}"), BEGINS + seconds
    sky = Rolling(draw, _between(BEGINS, until), status, chance)
    crowd = _play(sky, options, seed, lambda c: c.steady(number, until + AFTER, draw))
    inside = _inside(crowd.calls, BEGINS, until)
    failed = [call.ended - call.began for call in inside if call.answered is False]
    firsts = crowd.first_sends()
    waits = [firsts[call.name] - call.began for call in inside if call.name in firsts]
    return {
        "answered in it": sum(c.answered is True and c.ended < until for c in inside),
        "failed": len(failed),
        "seconds to fail": statistics.median(failed) if failed else math.nan,
        "first attempt after": statistics.median(waits) if waits else math.nan,
        "sends/s": sum(BEGINS <= s.at < until for s in crowd.transport.sent) / seconds,
    }


def recovery(
    options: Options, seed: int, *, seconds: float, status: int | str, number: int = 20
) -> Figures:
    """Seconds from an outage's end until the first answer, and until each caller had one."""
    draw, until = random.Random(f"recovery {seed}"), BEGINS + seconds
    sky = Rolling(draw, _between(BEGINS, until), status)
    crowd = _play(sky, options, seed, lambda c: c.steady(number, until + AFTER, draw))
    ends: dict[str, float] = {}
    for call in crowd.calls:
        if call.answered and call.ended >= until:
            caller = call.name.partition("/")[0]
            ends[caller] = min(call.ended - until, ends.get(caller, math.inf))
    return {
        "first answer after": min(ends.values(), default=math.inf),
        "all back after": max(ends.values()) if len(ends) == number else math.inf,
        "failed": sum(call.answered is False for call in crowd.calls),
    }


def flapping(options: Options, seed: int, *, status: int | str, number: int = 20) -> Figures:
    """Up for two seconds, down for two seconds, for a minute."""
    draw, until = random.Random(f"flapping {seed}"), BEGINS + MINUTE
    sky = Rolling(draw, lambda now: BEGINS <= now < until and (now - BEGINS) % 4 < 2, status)
    crowd = _play(sky, options, seed, lambda c: c.steady(number, until + AFTER, draw))
    inside = _inside(crowd.calls, BEGINS, until)
    return {
        "answered in it": sum(call.answered is True and call.ended < until for call in inside),
        "failed": sum(call.answered is False for call in inside),
        "sends/s": sum(BEGINS <= s.at < until for s in crowd.transport.sent) / MINUTE,
    }


class Poisoned:
    """Answers 500 to every call of one caller, and well to the others."""

    def __init__(self, draw: random.Random, service: float) -> None:
        self._draw, self._service = draw, service

    async def meet(self, sent: Sent) -> Fate:
        if sent.call.startswith("poison/"):
            return Fate(refusal_time(self._draw), 500)
        return Fate(self._service)

    def left(self, sent: Sent) -> None:
        pass


def poisoned(
    options: Options, seed: int, *, service: float, others: int = 19, again: bool = True
) -> Figures:
    """One request that is always 500 beside others: their answers, as a share of without it.

    Unless ``again`` it is one call only, and not one after the other.
    """

    def answers(poison: bool) -> tuple[int, Crowd]:
        draw = random.Random(f"poison {seed}")

        async def main(crowd: Crowd) -> None:
            async with anyio.create_task_group() as tasks:
                if poison and again:
                    tasks.start_soon(crowd.keep_calling, "poison", 1.0, 5.0)
                elif poison:
                    tasks.start_soon(crowd.call, "poison")
                await crowd.steady(others, 120.0, draw)
                tasks.cancel_scope.cancel()

        crowd = _play(Poisoned(draw, service), options, seed, main)
        named = [call for call in crowd.calls if not call.name.startswith("poison/")]
        return sum(call.answered is True for call in named), crowd

    (with_it, crowd), (without, _) = answers(True), answers(False)
    return {"the rest": with_it / without, "gate seen shut": len(crowd.shut)}


class Slow:
    """Some calls end in 504 after a minute; the others are answered in some two seconds."""

    def __init__(self, draw: random.Random, share: float) -> None:
        self._draw, self._share = draw, share

    async def meet(self, sent: Sent) -> Fate:
        if self._draw.random() < self._share:
            return Fate(60.0, 504)
        return Fate(self._draw.lognormvariate(math.log(2.0), 0.5))

    def left(self, sent: Sent) -> None:
        pass


def slow_calls(options: Options, seed: int, *, share: float = 0.03) -> Figures:
    """20 busy callers, of whose sends a few time out at the gateway."""
    draw = random.Random(f"slow {seed}")
    sky = Slow(draw, share)
    crowd = _play(sky, options, seed, lambda c: c.steady(20, 600.0, draw, think=0.0))
    return {
        "limit lowered": sum(change.new < change.old for _, change in crowd.changes),
        "gate seen shut": len(crowd.shut),
        "answered": sum(call.answered is True for call in crowd.calls),
    }


def bucket(
    options: Options,
    seed: int,
    *,
    rate: float,
    burst: float,
    service: float,
    number: int,
    retry_after: float | None,
) -> Figures:
    """A batch at a token bucket that says the wrong Retry-After; an oracle sends at its rate."""
    draw = random.Random(f"bucket {seed}")
    times = partial(random.Random.lognormvariate, mu=math.log(service), sigma=0.5)
    sky = Limited(draw, TokenBucket(rate, burst), times, retry_after)
    crowd = _play(sky, options, seed, lambda c: c.batch(number))
    ends = sorted(call.ended for call in crowd.calls if call.answered)
    most = int(0.95 * number)
    oracle = max(0.0, most - burst) / rate + service
    return {
        "of the oracle": oracle / ends[most - 1] if len(ends) >= most else 0.0,
        "failed": number - len(ends),
        "refused per 100": 100 * sky.refused / max(1, len(ends)),
    }


def capped(options: Options, seed: int, *, retry_after: float) -> Figures:
    """200 calls at four slots that are free again in 0.3 s, with a wrong Retry-After."""
    draw = random.Random(f"cap {seed}")
    sky = Limited(draw, ConcurrencyCap(4), lambda _: 0.3, retry_after)
    crowd = _play(sky, options, seed, lambda c: c.batch(200))
    answered = sum(call.answered is True for call in crowd.calls)
    return {
        "of the oracle": 200 / 4 * 0.3 / _end_of_all(crowd),
        "failed": 200 - answered,
        "refused per 100": 100 * sky.refused / max(1, answered),
    }


def _end_of_all(crowd: Crowd) -> float:
    """When the last of a batch was answered; never, if not all were."""
    return max(call.ended if call.answered else math.inf for call in crowd.calls)


class Workers:
    """Four calls in flight and two queued; a 503 in JSON to all others, as a known proxy does."""

    def __init__(self, draw: random.Random, service: float) -> None:
        self._draw, self._service = draw, service
        self._held = 0
        self._slots = anyio.Semaphore(4)
        self.refused = 0

    async def meet(self, sent: Sent) -> Fate:
        if self._held == 6:
            self.refused += 1
            words = "Worker at capacity: 4 in-flight, 2 queued requests. Retry later."
            error = {"message": words, "type": "overloaded_error", "code": "503"}
            return Fate(refusal_time(self._draw), 503, {"retry-after": "1"}, error)
        self._held += 1
        await self._slots.acquire()
        return Fate(self._service * self._draw.uniform(0.8, 1.2))

    def left(self, sent: Sent) -> None:
        self._held -= 1
        self._slots.release()


def at_capacity(options: Options, seed: int, *, service: float) -> Figures:
    """200 calls at once at a concurrency limit that answers as an outage does."""
    draw = random.Random(f"workers {seed}")

    async def main(crowd: Crowd) -> None:
        crowd.transport._sky = sky = Workers(draw, service)
        skies.append(sky)
        await crowd.batch(200)

    skies: list[Workers] = []
    crowd = _play(Rolling(draw, lambda _: False), options, seed, main)
    return {
        "answered": sum(call.answered is True for call in crowd.calls),
        "refusals": skies[0].refused,
        "of the oracle": 200 / 4 * service / _end_of_all(crowd),
    }


def scenes() -> list[Scene]:
    """All of them, in the order of the table."""
    found: list[Scene] = []
    status: int | str

    def add(
        name: str,
        play: Callable[..., Figures],
        bars: Mapping[str, Bar],
        options: Mapping[str, Any] | None = None,
        with_sdk: bool = True,
        **settings: Any,
    ) -> None:
        scene = Scene(
            name=name,
            play=partial(play, **settings),
            bars=bars,
            options=options or {},
            with_sdk=with_sdk,
        )
        found.append(scene)

    for status in (503, 500, 502):
        for number, least in ((5, 125.0), (20, 390.0)):
            bars = {"answered in it": Bar(at_least=least), "failed": Bar(at_most=2)}
            name = f"half are {status}, {number} callers"
            add(name, callers, bars, number=number, status=status, chance=0.5)
    for number in (5, 20):
        bars = {"answered in it": Bar(of_sdk=0.97)}
        add(f"a fifth are 503, {number} callers", callers, bars, number=number, chance=0.2)
    rest = {"the rest": Bar(at_least=1 / 1.05), "gate seen shut": Bar(at_most=0)}
    add("one of 20 callers always 500", poisoned, rest, service=0.3)
    add("one call always 500 beside slow ones", poisoned, rest, service=30.0, again=False)
    add("one of 2 callers always 500", poisoned, rest, service=0.3, others=1)
    unmoved = {"limit lowered": Bar(at_most=0), "gate seen shut": Bar(at_most=0)}
    add("3 % are 504 after 60 s", slow_calls, unmoved)
    impatient = {"backoff_max": 1.0}
    for status in (503, 500, REFUSED):
        bars = {
            "seconds to fail": Bar(at_most=5.0),
            "first attempt after": Bar(at_most=0.0),
            "sends/s": Bar(at_most=1.6),
        }
        name = f"a minute of {status}, 1 caller, backoff_max=1"
        add(name, callers, bars, impatient, number=1, status=status)
    for status in (503, 500, 502, REFUSED):
        bars = {"sends/s": Bar(at_most=0.45), "failed": Bar(at_most=0)}
        add(f"a minute of {status}, 20 callers", callers, bars, number=20, status=status)
    add("a minute of 503, 5 callers", callers, bars, number=5)
    quick = {"of the oracle": Bar(at_least=0.95), "failed": Bar(at_most=0)}
    add("Retry-After 60, 300 a minute", bucket, quick, with_sdk=False,
        rate=5.0, burst=10, service=2.0, number=600, retry_after=60.0)  # fmt: skip
    add("12 a minute, strict", bucket, {"failed": Bar(at_most=0)}, with_sdk=False,
        rate=0.2, burst=2, service=3.0, number=200, retry_after=None)  # fmt: skip
    slots = {"of the oracle": Bar(at_least=0.75), "failed": Bar(at_most=0)}
    add("Retry-After 60, four slots of 0.3 s", capped, slots, with_sdk=False, retry_after=60.0)
    for status in (503, 500, REFUSED):
        bars = {"answered in it": Bar(of_sdk=0.9), "failed": Bar(at_most=0)}
        add(f"up 2 s, down 2 s ({status})", flapping, bars, status=status)
    for status in (503, 500, REFUSED):
        for seconds in (1.0, 2.0, 5.0, 20.0, 60.0):
            bars = {
                "first answer after": Bar(at_most=max(1.0, min(5.5, seconds / 4))),
                "failed": Bar(at_most=0),
            }
            name = f"back after {seconds:g} s of {status}"
            add(name, recovery, bars, seconds=seconds, status=status)
    found.extend(_at_capacity_scenes())
    return found


def _at_capacity_scenes() -> list[Scene]:
    return [
        Scene(
            name=f"503 in JSON above 4 + 2, calls of {service:g} s",
            play=partial(at_capacity, service=service),
            bars={"answered": Bar(at_least=200), "refusals": Bar(at_most=most)},
            options={},
        )
        for service, most in ((0.3, 7), (2.0, 16))
    ]
