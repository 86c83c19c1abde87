"""Disturbances from a seed: the same every time, each as a client would see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Self

import anyio
import openai
import pytest

from comet_resilience import diagnose, snapshot, wrap
from comet_resilience.testing import DISTURBANCES, EVERYDAY, FAILURES, ChaosTransport, Gateway

from ..conftest import MESSAGES, ask, bare_client, in_virtual_time

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]
Rate = float | Mapping[str, float]


def chaos_of(rate: Any, seed: int = 1, **keywords: Any) -> tuple[Gateway, ChaosTransport]:
    """A gateway and the disturbances on the way to it."""
    gateway = Gateway()
    return gateway, ChaosTransport(gateway.transport(), seed=seed, rate=rate, **keywords)


async def outcomes(chaos: ChaosTransport, family: ModuleType, count: int) -> list[str]:
    """Return what becomes of so many requests of a plain client."""
    seen = []
    async with family.AsyncClient(transport=chaos, timeout=5.0) as http:
        for _ in range(count):
            try:
                response = await http.post(
                    "http://gateway.test/v1/chat/completions",
                    headers={"authorization": "Bearer k"},
                    json={"model": "m", "messages": MESSAGES},
                )
            except family.TransportError as error:
                seen.append(type(error).__name__)
            else:
                seen.append(str(response.status_code))
    return seen


async def test_the_seed_decides(family: ModuleType) -> None:
    """The same seed gives the same run; another seed another one."""
    runs = []
    for seed in (1, 1, 2):
        _, chaos = chaos_of(0.5, seed, chunk_delay=0.0)
        runs.append((await outcomes(chaos, family, 100), list(chaos.disturbances)))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


async def test_the_record_is_of_what_happened(family: ModuleType) -> None:
    """Counts, the requests passed on and the outcomes agree."""
    gateway, chaos = chaos_of({"connect": 0.2, "unavailable": 0.2, 429: 0.1, "read": 0.2}, seed=3)
    seen = Counter(await outcomes(chaos, family, 200))
    assert seen["ConnectError"] == chaos.counts["connect"] > 0
    assert seen["503"] == chaos.counts["unavailable"] > 0
    assert seen["429"] == chaos.counts["429"] > 0
    assert seen["ReadError"] == chaos.counts["read"] > 0
    assert chaos.requests == 200
    assert chaos.passed_on == len(gateway.requests) == seen["200"] + seen["ReadError"]
    struck = list(chaos.disturbances)
    assert len(struck) == sum(chaos.counts.values())
    assert [each.number for each in struck] == sorted({each.number for each in struck})
    assert {each.path for each in struck} == {"/v1/chat/completions"}
    assert repr(chaos).startswith("<ChaosTransport seed 3: ")


@in_virtual_time
@pytest.mark.parametrize(
    ("name", "fault", "passed_on"),
    [
        ("connect", "ConnectError", 0),
        ("connect_timeout", "ConnectTimeout", 0),
        ("pool_timeout", "PoolTimeout", 0),
        ("write", "WriteError", 0),
        ("read_unsent", "ReadError", 0),
        ("read", "ReadError", 1),
        ("protocol", "RemoteProtocolError", 1),
        ("read_timeout", "ReadTimeout", 1),
        ("cut", "RemoteProtocolError", 1),
        ("stall", "ReadTimeout", 1),
        ("slow", "200", 1),
        ("hanging", "ReadTimeout", 0),
        ("dropped", "RemoteProtocolError", 0),
        ("unreachable", "ConnectError", 0),
        ("overloaded", "503", 0),
    ],
)
async def test_each_disturbance_is_what_a_client_would_see(
    family: ModuleType, name: str, fault: str, passed_on: int
) -> None:
    """Before sending the server hears nothing; after it the work is done, and nothing leaks."""
    gateway, chaos = chaos_of({name: 1.0})
    assert await outcomes(chaos, family, 1) == [fault]
    assert chaos.passed_on == len(gateway.requests) == passed_on
    assert gateway.in_flight == 0


@in_virtual_time
async def test_a_stalled_body_lasts_as_long_as_the_client_reads(family: ModuleType) -> None:
    """The silence of a stall is the client's own read timeout."""
    gateway, chaos = chaos_of({"stall": 1.0}, latency=2.0)
    await outcomes(chaos, family, 1)
    # The gateway's clock starts with its first request, after the latency.
    assert gateway.now() == 5.0


async def test_a_cut_takes_something_away(family: ModuleType) -> None:
    """What arrives before a cut is a beginning of the answer, never all of it."""
    for seed in range(6):
        gateway, chaos = chaos_of({"cut": 1.0}, seed)
        seen = bytearray()
        async with family.AsyncClient(transport=gateway.transport()) as http:
            url, key = "http://gateway.test/v1/models", {"authorization": "Bearer k"}
            whole = await http.get(url, headers=key)
        async with family.AsyncClient(transport=chaos) as http:
            response = await http.send(http.build_request("GET", url, headers=key), stream=True)
            with pytest.raises(family.RemoteProtocolError):
                async for chunk in response.aiter_raw():
                    seen += chunk
            await response.aclose()
        assert b"data" in whole.content
        assert whole.content.startswith(seen)
        assert len(seen) < len(whole.content)


@pytest.mark.parametrize("sdk_streams", [False, True])
@in_virtual_time
async def test_hundreds_of_requests_come_through(sdk_streams: bool) -> None:
    """At a third disturbed, every request of a wrapped client ends in an answer or a reason."""
    gateway, chaos = chaos_of({name: 0.3 / len(EVERYDAY) for name in EVERYDAY}, seed=5)
    client = wrap(bare_client(chaos))
    ends: Counter[str] = Counter()

    async def one() -> None:
        try:
            if not sdk_streams:
                await ask(client)
            else:
                stream = await client.chat.completions.create(
                    model="m", messages=MESSAGES, stream=True
                )
                async with stream:
                    assert [chunk async for chunk in stream]
        except (openai.APIConnectionError, openai.APIStatusError) as error:
            found = diagnose(error)
            is_cut = sdk_streams and "the answer had begun" in found.reason
            assert is_cut or len(found.attempts) == 7
            ends["cut" if is_cut else "failed"] += 1
        else:
            ends["answered"] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(400):
            tasks.start_soon(one)
    assert sum(ends.values()) == 400
    assert ends["answered"] > 360
    assert ends["cut"] <= chaos.counts["cut"]
    assert len(chaos.disturbances) > 100
    for partition in snapshot(client).partitions:
        assert (partition.in_flight, partition.waiting) == (0, 0)
    assert gateway.in_flight == 0


async def test_an_answer_that_is_read_already_can_be_cut_too(family: ModuleType) -> None:
    """Mock transports give whole responses."""
    mock = family.MockTransport(lambda _request: family.Response(200, json={"a": 1}))
    async with family.AsyncClient(transport=ChaosTransport(mock, rate={"cut": 1.0})) as http:
        with pytest.raises(family.RemoteProtocolError):
            await http.get("http://gateway.test/v1/models")


@pytest.mark.parametrize(
    "keywords",
    [
        {"rate": {"conect": 0.1}},
        {"rate": {200: 0.1}},
        {"rate": {"read": -0.1}},
        {"rate": {"read": 0.6, "connect": 0.6}},
        {"rate": 1.5},
        {"latency": -1.0},
        {"latency": (2.0, 1.0)},
        {"chunk_delay": -1.0},
    ],
)
def test_senseless_keywords_are_refused(keywords: dict[str, Any]) -> None:
    """Names and shares are checked when the transport is made."""
    with pytest.raises(ValueError, match="disturbance|shares|seconds|failure"):
        ChaosTransport(None, **keywords)


def test_the_names_are_apart() -> None:
    """A disturbance and a failure never share a name; everyday ones exist."""
    assert not set(DISTURBANCES) & set(FAILURES)
    assert set(EVERYDAY) <= {*DISTURBANCES, *FAILURES}


async def test_it_closes_what_is_below(client_of: Callable[..., Any]) -> None:
    """Entered and left like any transport."""
    closed = []

    class Inner:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            closed.append("left")

        async def aclose(self) -> None:
            closed.append("closed")

    async with ChaosTransport(Inner()) as chaos:
        await chaos.aclose()
    assert closed == ["closed", "left"]
