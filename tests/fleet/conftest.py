"""A real server for all tests of the fleet, and the script with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from comet_resilience.fleet.message import ShareReply, ShareRequest, parse_share_reply
from comet_resilience.fleet.scope import keys_of
from comet_resilience.fleet.store import script
from tests.redis_server import RedisServer

KEYS = keys_of("an account", "a partition")
CLOCK = "local clock = redis.call('TIME')"
assert CLOCK in script().text


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server of this test run."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def db(redis_server: RedisServer) -> Iterator[Any]:
    """A client of the server, which is empty."""
    client = redis.Redis.from_url(redis_server.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@dataclass
class Timed:
    """The real script on the real server, at a time that the test says (seconds)."""

    db: Any
    now: float = 1_000_000.0
    sent: list[ShareRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        text = script().text.replace(CLOCK, "local clock = { ARGV[#ARGV - 1], ARGV[#ARGV] }")
        self._run = self.db.register_script(text)

    def send(self, request: ShareRequest, maximum: int = 1_000) -> ShareReply:
        """Ask at the time that it is."""
        self.sent.append(request)
        seconds, rest = divmod(round(self.now * 1_000_000), 1_000_000)
        raw = self._run(KEYS, [*request.arguments(), seconds, rest])
        reply = parse_share_reply(raw[0], maximum)
        assert reply is not None, raw
        return reply

    def held(self) -> dict[str, int]:
        """Return what each member holds, as stored by the server."""
        return {name: int(row.split(":")[3]) for name, row in self.db.hgetall(KEYS[0]).items()}


@pytest.fixture
def timed(db: Any) -> Timed:
    """The script, at a time of the test's own."""
    return Timed(db)


def drawn(db: Any, key: str) -> float:
    """Return how many requests were drawn, and not given back."""
    slices = db.hget(key, "requests:slices") or ""
    return sum(float(each.partition(":")[2]) for each in slices.split(";") if each)
