"""Mode 28: the state that a fleet shares in Redis, written to by somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from comet_resilience import FleetState, snapshot
from comet_resilience.fleet import pace
from comet_resilience.fleet.scope import account_of, keys_of
from tests.conftest import (
    BASE_URL,
    KEY,
    OK,
    ask,
    engine_of,
    scripted,
)
from tests.redis_server import RedisServer, server_binary

redis = pytest.importorskip("redis")
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(server_binary() is None, reason="no server to share through is installed"),
]
#: Members and fleet of the one partition that is used here.
MEMBERS, FLEET = keys_of(account_of(BASE_URL, KEY, None), ("POST /chat/completions", "m"))
MOST = 16
GARBAGE: list[str | bytes] = [
    "", " ", "garbage", "-1", "0", "-1e9", "1e309", "1e15", "nan", "inf", "-inf", "0x10", "1_0",
    "9" * 400, "9" * 100_000, "null", "true", "[]", "{}", '{"level": NaN}', "\x00", b"\xff\xfe\x80",
    "1000000000", "1.5", "١٢", "'; redis.call('FLUSHALL') --",
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A real server."""
    with RedisServer() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that takes seconds takes a twentieth of it."""
    for name in ("RENEW_EVERY", "TTL"):
        monkeypatch.setattr(pace, name, getattr(pace, name) / 20)


@asynccontextmanager
async def member(server: RedisServer) -> AsyncIterator[tuple[Any, Any]]:
    """A client that has its share of the fleet's limit, and the server's data."""
    data = redis.Redis.from_url(server.url)
    data.flushall()
    client, _ = scripted(OK, fleet=server.url, backoff_initial=0.0, max_concurrency=MOST)
    try:
        await ask(client)
        await _in_the_fleet(client)
        yield client, data
    finally:
        fleet = engine_of(client).fleet
        assert fleet is not None
        thread = fleet.close()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        data.close()


async def _in_the_fleet(client: Any) -> None:
    while _fleet_of(client).state is not FleetState.SHARED:
        await ask(client)
        await asyncio.sleep(0.002)


def _fleet_of(client: Any) -> Any:
    return snapshot(client).partitions[0].fleet


async def _two_renewals(client: Any, data: Any) -> None:
    """Ask on; each answer comes, and what is believed of the limit stays in its bounds."""
    calls = data.info("commandstats")["cmdstat_evalsha"]["calls"]
    while data.info("commandstats")["cmdstat_evalsha"]["calls"] < calls + 2:
        assert await asyncio.wait_for(ask(client), 100) == "Hi"
        (shown,) = snapshot(client).partitions
        assert 0 <= shown.limit <= MOST
        assert shown.fleet is not None
        assert shown.fleet.limit is None or 0 <= shown.fleet.limit <= MOST
        assert shown.fleet.members is None or 1 <= shown.fleet.members <= 1_000_000
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("name", ["limit", "version", "epoch", "born", "state", "unheard-of"])
def test_fm28_garbage_in_a_field_of_the_fleet(server: RedisServer, name: str) -> None:
    """Whatever stands in it: each request is answered, and the limit stays between 0 and ours."""

    async def main() -> None:
        async with member(server) as (client, data):
            for value in GARBAGE:
                data.hset(FLEET, name, value)
                await _two_renewals(client, data)
            data.hset(FLEET, "limit", 4)
            await _in_the_fleet(client)

    asyncio.run(main())


@pytest.mark.parametrize("place", range(8))
def test_fm28_garbage_in_a_field_of_a_member(server: RedisServer, place: int) -> None:
    """Rows of others that are no rows, or claim absurd things for a while, void nobody's share."""

    async def main() -> None:
        async with member(server) as (client, data):
            seconds, micros = data.time()
            soon = str(seconds * 1_000 + micros // 1_000 + 200).encode()  # then it has expired
            for number, value in enumerate(GARBAGE):
                row = [soon, b"1", b"1", b"1", b"1", b"0", b"0", b"0.5"]
                row[place] = value if isinstance(value, bytes) else value.encode()
                data.hset(MEMBERS, f"somebody-{number}", b":".join(row))
            for _ in range(5):
                await _two_renewals(client, data)
            await _in_the_fleet(client)

    asyncio.run(main())


WRONG_TYPES: dict[str, Callable[[Any], object]] = {
    "a_string": lambda data: [data.set(key, "x") for key in (MEMBERS, FLEET)],
    "a_list": lambda data: [data.rpush(key, "x") for key in (MEMBERS, FLEET)],
    "a_set": lambda data: [data.sadd(key, "x") for key in (MEMBERS, FLEET)],
    "nothing": lambda _data: None,
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_fm28_keys_of_another_type(server: RedisServer, name: str) -> None:
    """Where a key is no hash the process limits itself, and comes back when it is one again."""

    async def main() -> None:
        async with member(server) as (client, data):
            with data.pipeline(transaction=True) as at_once:  # or a renewal comes in between
                at_once.delete(MEMBERS, FLEET)
                WRONG_TYPES[name](at_once)
                at_once.execute()
            for _ in range(50):
                assert await asyncio.wait_for(ask(client), 100) == "Hi"
                await asyncio.sleep(0.002)
            assert 0 <= snapshot(client).partitions[0].limit <= MOST
            data.delete(MEMBERS, FLEET)
            await asyncio.wait_for(_in_the_fleet(client), 100)

    asyncio.run(main())
