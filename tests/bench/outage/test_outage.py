"""The benchmark's server is down in the way that it says, and its sky keeps its word."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import openai
import pytest

from comet_resilience.wire.family import family_of_sdk

from .real import Passage, Trial, misses
from .scenes import Bar, callers, poisoned
from .server import Counts, Kind, Server, failure
from .weather import REFUSED, Crowd, Rolling, in_virtual_time

httpx: Any = family_of_sdk()
pytestmark = pytest.mark.timeout(120)
MESSAGES: Any = [{"role": "user", "content": "x"}]


async def ask(server: Server, timeout: float | openai.Timeout = 30.0) -> str:
    """What one attempt of the bare SDK comes to."""
    client = openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k", max_retries=0, timeout=timeout
    )
    async with client:
        try:
            answer = await client.chat.completions.create(model="m", messages=MESSAGES)
        except openai.APIStatusError as error:
            return str(error.status_code)
        except openai.APIConnectionError as error:
            return type(error.__cause__).__name__
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (Kind.REFUSED, "ConnectError"),
        (Kind.RESET, "ReadError"),
        (Kind.HUNG, "ReadTimeout"),
        *((kind, kind.value) for kind in Kind if kind.isdecimal()),
    ],
)
def test_down_then_up_then_down_again(kind: Kind, outcome: str) -> None:
    """Each kind shows itself as it should, ends when told, on the same port, and can come back."""

    async def main() -> list[str]:
        server = Server(kind)
        told = []
        hung = openai.Timeout(30.0, read=0.2)
        for step in (server.go_down, server.come_up, server.go_down, server.come_up):
            await step()
            told.append(await ask(server, hung if server.down and kind is Kind.HUNG else 30.0))
        reached = 0 if kind is Kind.REFUSED else 2
        while server.counts.while_down < reached:  # it may read later than the client gives up
            await asyncio.sleep(0.01)
        assert (server.counts.while_down, server.counts.while_up) == (reached, 2)
        await server.close()
        return told

    assert asyncio.run(main()) == [outcome, "hi", outcome, "hi"]


def test_pages_come_from_edges_and_json_from_gateways() -> None:
    """A 502, 504 or 520 is a page; a 500 or 503 has an error in it."""
    assert failure(502)[0] == failure(504)[0] == failure(520)[0] == "text/html"
    assert b'"error"' in failure(500)[1]
    assert b'"error"' in failure(503)[1]


def test_the_greatest_burst_is_counted() -> None:
    """Three within a tenth of a second, though five came within a second."""
    counts = Counts()
    for when in (1.0, 1.3, 1.35, 1.39, 1.8):
        counts.arrived(False, when)
        counts.held -= 1
    assert (counts.burst, counts.at_once, counts.while_up) == (3, 1, 5)


def passage(**changes: Any) -> Passage:
    """A client that did well, but for the changes."""
    good: dict[str, Any] = {
        "answered": 100, "last": 5.0, "sends": 110, "while_down": 10, "at_once": 8, "burst": 8,
        "limit": 8, "errors": {},
    }  # fmt: skip
    return Passage(**{**good, **changes})


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"answered": 98}, ["2 calls fewer"]),
        ({"last": 6.5}, ["1.5 s later"]),
        ({"sends": 251}, ["more than 250 requests"]),
    ],
)
def test_the_bars_of_a_trial(changes: dict[str, Any], missed: list[str]) -> None:
    """Each is missed by itself; being later than a client that lost calls is none."""
    trial = Trial(kind=Kind.RESET, seconds=3)
    assert misses(trial, passage(), passage(**changes)) == missed
    lossy = misses(trial, passage(answered=90), passage(last=9.0))
    assert lossy == []


def test_a_burst_above_the_limit_is_missed_for_a_crowd() -> None:
    """A thousand calls may not come back above the limit."""
    trial = Trial(kind=Kind.RESET, seconds=3, calls=1000)
    assert misses(trial, None, passage(at_once=9)) == ["9 at once above the limit of 8"]


def test_bars_compare_with_numbers_and_with_the_sdk() -> None:
    """A figure that is not there has reached nothing."""
    assert Bar(at_least=2.0).reached(2.0, 9.0)
    assert not Bar(at_most=2.0).reached(2.1, 9.0)
    assert not Bar(of_sdk=0.9).reached(8.0, 9.0)
    assert not Bar(at_most=2.0).reached(float("nan"), 9.0)


def test_the_sky_is_down_for_as_long_as_it_says() -> None:
    """The bare SDK's calls fail inside of it alone, and each send is kept with its call."""
    sky = Rolling(random.Random(1), lambda now: 10.0 <= now < 20.0, REFUSED)
    crowd = Crowd(sky, None)

    async def main() -> None:
        crowd.client.max_retries = 0
        await crowd.steady(1, 30.0, random.Random(1))

    in_virtual_time(main)
    assert all(call.answered is not (10.0 <= call.began < 20.0) for call in crowd.calls[:-1])
    assert {call.error for call in crowd.calls} == {"", "APIConnectionError"}
    assert [sent.call for sent in crowd.transport.sent] == [call.name for call in crowd.calls]


def test_same_seed_same_figures() -> None:
    """What the bare SDK and the wrapped client came to depends on the seed alone."""
    either: tuple[dict[str, Any] | None, ...] = (None, {})
    for options in either:
        first, second = (
            callers(options, seed, number=1, status=500, seconds=10.0) for seed in (3, 3)
        )
        assert repr(first) == repr(second)


def test_poison_reaches_its_own_caller_only() -> None:
    """Without a limiter the others lose nothing by it."""
    assert poisoned(None, 1, service=0.3, others=2)["the rest"] == pytest.approx(1.0, abs=0.02)
