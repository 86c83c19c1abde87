"""Whole fleets: real clients, a real server, and what happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from comet_resilience import (
    Budget,
    Event,
    FixedLimit,
    Fleet,
    FleetChanged,
    FleetState,
    ResilientTransport,
    snapshot,
    wrap,
)
from comet_resilience.fleet import coordinator, pace, share, store
from comet_resilience.limits.snapshot import PartitionSnapshot
from comet_resilience.testing import ConcurrencyCap, Gateway
from tests.redis_server import RedisServer

from ..conftest import COMPLETION, MESSAGES, Scripted, bare_client, httpx
from .conftest import drawn

OPTIONS: Any = {"algorithm": lambda: FixedLimit(6), "backoff_initial": 0.0, "backoff_max": 0.0}
LEAVING = (FleetState.DEGRADED, FleetState.LOCAL)
#: What a process goes through whose server falls silent and comes back.
CHANGES = ("shared -> degraded", "degraded -> local", "local -> shared")
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """The next test begins without members of this one."""
    yield
    coordinator._at_exit()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes no client out of its fleet."""
    monkeypatch.setattr(store, "COMMAND_TIMEOUT", 30.0)
    monkeypatch.setattr(share, "JOIN_WITHIN", 60.0)
    monkeypatch.setattr(pace, "TTL", 60.0)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, to be frozen and killed."""
    with RedisServer() as server:
        yield server


class Slow(Scripted):
    """A slow gateway that counts how many requests it had at once."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__([])
        self.seconds, self.here, self.most, self.total = seconds, 0, 0, 0

    async def handle_async_request(self, request: Any) -> Any:
        """Take a while."""
        self.here += 1
        self.total += 1
        self.most = max(self.most, self.here)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.here -= 1
        return httpx.Response(200, json=COMPLETION)


def fleet_client(redis: Any, inner: Any, **options: Any) -> Any:
    """A client of a fleet."""
    client = wrap(bare_client(inner), **{**OPTIONS, **options}, fleet=redis)
    client._platform = "Unknown"
    return client


async def ask(client: Any) -> None:
    """One request."""
    await client.chat.completions.create(model="m", messages=MESSAGES)


def shown(client: Any) -> PartitionSnapshot:
    """The one partition."""
    (partition,) = snapshot(client).partitions
    return partition


def state(client: Any) -> FleetState:
    """Return the client's state in its fleet."""
    fleet = shown(client).fleet
    assert fleet is not None
    return fleet.state


def share_of(client: Any) -> int | None:
    """Its share of the fleet's limit, ``None`` while it has none."""
    partitions = snapshot(client).partitions
    fleet = partitions[0].fleet if partitions else None
    return fleet.share if fleet is not None and fleet.state is FleetState.SHARED else None


def members_of(client: Any) -> int | None:
    """Return the number of members in its last reply."""
    fleet = shown(client).fleet
    return fleet.members if fleet is not None else None


async def until(what: Callable[[], bool]) -> None:
    """Wait until a condition holds; the only time limit is the test's."""
    while not what():  # noqa: ASYNC110 - threads and processes set no event
        await asyncio.sleep(0.005)


async def keep_busy(client: Any, workers: int, stop: asyncio.Event) -> int:
    """Ask without a pause; return the number of answers."""

    async def work() -> int:
        answered = 0
        while not stop.is_set():
            await ask(client)
            answered += 1
        return answered

    return sum(await asyncio.gather(*(work() for _ in range(workers))))


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_two_clients_share_one_limit(redis_server: RedisServer, db: Any) -> None:
    async def main() -> None:
        inner = Slow()
        clients = [fleet_client(redis_server.url, inner) for _ in range(2)]
        await asyncio.gather(*(ask(client) for client in clients for _ in range(60)))
        assert inner.most == 6
        assert [shown(client).ok for client in clients] == [60, 60]
        await until(lambda: [members_of(client) for client in clients] == [2, 2])
        assert "shared: " in str(snapshot(clients[0]))
        for client in clients:
            await client.close()
        await until(lambda: not db.keys("*:members"))

    asyncio.run(main())


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_other_accounts_and_partitions_do_not_share(redis_server: RedisServer, db: Any) -> None:
    async def main() -> None:
        inner = Slow(60.0)
        fleet = Fleet(redis_server.url, account="one"), Fleet(redis_server.url, account="two")
        clients = [fleet_client(each, inner) for each in fleet]
        work = asyncio.gather(*(ask(client) for client in clients for _ in range(6)))
        await until(lambda: inner.here == 12)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert len(db.keys("*:members")) == 2

    asyncio.run(main())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://192.0.2.1:6379"])
def test_redis_that_was_never_there_costs_no_request(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        client = fleet_client(url, Slow())
        with caplog.at_level(logging.WARNING, "comet_resilience"):
            await asyncio.gather(*(ask(client) for _ in range(20)))
            assert state(client) is FleetState.LOCAL
            assert shown(client).limit == 6
            await asyncio.sleep(0.3)
            await ask(client)
        assert [record.message.split(":")[0] for record in caplog.records] == [
            "fleet joining -> local"
        ]

    asyncio.run(main())


@pytest.mark.timeout(120)
def test_redis_freezes_and_comes_back(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Shares hold, then each process limits itself; one warning for each change."""
    changes: list[FleetChanged] = []

    async def main() -> None:
        inner, stop = Slow(), asyncio.Event()
        clients = [fleet_client(server.url, inner, on_event=note) for _ in range(2)]
        work = [asyncio.create_task(keep_busy(client, 8, stop)) for client in clients]
        await until(lambda: [share_of(client) for client in clients] == [3, 3])
        server.freeze()
        try:
            inner.most = 0
            await until(lambda: all(state(client) in LEAVING for client in clients))
            assert [shown(client).limit for client in clients] == [3, 3]
            await until(lambda: all(state(client) is FleetState.LOCAL for client in clients))
            before = inner.total
            await until(lambda: inner.total > before + 50)
            assert [shown(client).limit for client in clients] == [3, 3]
            assert inner.most <= 6
        finally:
            server.thaw()
        await until(lambda: all(state(client) is FleetState.SHARED for client in clients))
        stop.set()
        answered = sum(await asyncio.gather(*work))
        assert answered == inner.total  # not one was lost
        assert inner.most <= 6

    def note(event: Event) -> None:
        if isinstance(event, FleetChanged) and event.old is not FleetState.JOINING:
            changes.append(event)

    with caplog.at_level(logging.WARNING, "comet_resilience"):
        asyncio.run(main())
    told = [f"fleet {event.old} -> {event.new}" for event in changes]
    assert [record.message.split(":")[0] for record in caplog.records] == told
    # More often where the machine was too busy to answer in time.
    assert all(told.count(f"fleet {change}") >= 2 for change in CHANGES)


@pytest.mark.timeout(120)
def test_redis_is_killed_and_comes_back_empty(server: RedisServer) -> None:
    async def main() -> None:
        inner, stop = Slow(), asyncio.Event()
        clients = [fleet_client(server.url, inner) for _ in range(2)]
        work = [asyncio.create_task(keep_busy(client, 8, stop)) for client in clients]
        await until(lambda: [share_of(client) for client in clients] == [3, 3])
        server.kill()
        await until(lambda: all(state(client) is FleetState.LOCAL for client in clients))
        server.start()
        await until(lambda: all(state(client) is FleetState.SHARED for client in clients))
        await until(lambda: sum(shown(client).limit for client in clients) == 6)
        stop.set()
        assert sum(await asyncio.gather(*work)) == inner.total
        assert inner.most <= 6

    asyncio.run(main())


def work_for_ever(url: str, limit: int, ready: Any) -> None:
    """A process of a fleet, to be killed; its share is soon over."""
    setattr(pace, "TTL", 1.0)  # noqa: B010 - it is final to the type checker

    async def main() -> None:
        client = fleet_client(url, Slow(60.0), algorithm=lambda: FixedLimit(limit))
        work = asyncio.gather(*(ask(client) for _ in range(limit)))
        await until(lambda: share_of(client) == limit and shown(client).in_flight == limit)
        ready.set()
        await work

    asyncio.run(main())


@contextlib.contextmanager
def child_process(target: Callable[..., None], *given: Any) -> Iterator[Any]:
    """A process of its own; on a busy machine it takes long to begin."""
    child = SPAWN.Process(target=target, args=given)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_a_process_that_is_killed_returns_its_share(redis_server: RedisServer, db: Any) -> None:
    """The server's clock says when: how late anybody is here makes no difference."""

    async def main() -> None:
        client = fleet_client(redis_server.url, Slow())
        await ask(client)  # in vain, did all six stay over there
        (members,) = db.keys("*:members")
        assert [name.partition("-")[0] for name in db.hgetall(members)] == [str(os.getpid())]

    ready = SPAWN.Event()
    with child_process(work_for_ever, redis_server.url, 6, ready) as child:
        assert ready.wait(90)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        (members,) = db.keys("*:members")
        (row,) = db.hgetall(members).values()
        assert row.split(":")[3] == "6"  # what it holds
        asyncio.run(main())


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_a_process_that_stood_still_for_long_gets_no_share_twice(
    redis_server: RedisServer, db: Any
) -> None:
    """It goes to others; once the process is back they make room for what it has in flight."""

    async def main(child: Any) -> None:
        client = fleet_client(redis_server.url, Slow())
        await ask(client)
        os.kill(child.pid, signal.SIGCONT)
        await until(lambda: share_of(client) == 0)

    ready = SPAWN.Event()
    with child_process(work_for_ever, redis_server.url, 6, ready) as child:
        assert ready.wait(90)
        os.kill(child.pid, signal.SIGSTOP)
        asyncio.run(main(child))


@pytest.mark.timeout(120)
def test_one_client_in_consecutive_runs_and_in_loops_of_several_threads(
    redis_server: RedisServer, db: Any
) -> None:
    inner = Slow()
    client = fleet_client(redis_server.url, inner)

    async def some() -> None:
        await asyncio.gather(*(ask(client) for _ in range(20)))

    for _ in range(3):
        asyncio.run(some())
    threads = [threading.Thread(target=lambda: asyncio.run(some())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown(client).ok == 140
    assert inner.most <= 6


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_trio(redis_server: RedisServer, db: Any) -> None:
    async def main() -> None:
        client = fleet_client(redis_server.url, Scripted([(200, COMPLETION, {})]))
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(ask, client)
        assert state(client) is FleetState.SHARED
        assert shown(client).ok == 30

    trio.run(main)


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_a_member_of_its_own(redis_server: RedisServer, db: Any) -> None:
    client = fleet_client(redis_server.url, Slow())
    asyncio.run(ask(client))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(ask(client))
            fleet = shown(client).fleet
            os._exit(0 if fleet and fleet.state is FleetState.SHARED and fleet.members == 2 else 3)
        except BaseException:  # noqa: BLE001 - the child must end here
            os._exit(4)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    asyncio.run(ask(client))
    assert shown(client).ok == 2
    members = {name.split("-")[0] for name in db.hgetall(db.keys("*:members")[0])}
    assert str(os.getpid()) in members


@pytest.mark.timeout(120)
def test_a_process_that_ends_leaves_the_fleet(redis_server: RedisServer, db: Any) -> None:
    with child_process(ask_once, redis_server.url) as child:
        child.join(90)
    assert child.exitcode == 0
    assert db.keys("*:limit")
    assert not db.keys("*:members")  # an empty hash is no key


def test_references_to_objects_that_are_gone_are_dropped() -> None:
    kept, gone = {1}, {2}
    references = [weakref.ref(gone), weakref.ref(kept), weakref.ref(gone)]
    del gone
    assert coordinator._live(references) == [kept]
    assert len(references) == 1


def test_the_end_of_the_process_waits_once_for_all_clients_that_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many they are: the wait is one for all of them."""
    now, waited = [100.0], []

    class Hanging:
        def close(self) -> Hanging:
            return self

        def join(self, seconds: float) -> None:
            waited.append(seconds)
            now[0] += seconds

    monkeypatch.setattr(coordinator, "_coordinators", [Hanging() for _ in range(100)])
    monkeypatch.setattr(coordinator, "clock", lambda: now[0])
    coordinator._at_exit()
    assert len(waited) == 100
    assert sum(waited) == pytest.approx(coordinator.EXIT_TIMEOUT)


def ask_once(url: str) -> None:
    """A process that asks once and ends."""
    asyncio.run(ask(fleet_client(url, Slow())))


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_idle_threads_end_and_start_again(
    redis_server: RedisServer, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fleet_client(redis_server.url, Slow())

    def is_running() -> bool:
        return any(thread.name == "comet_resilience fleet" for thread in threading.enumerate())

    async def main() -> None:
        await until(lambda: not is_running())
        for _ in range(2):
            await ask(client)
            assert is_running()
            assert state(client) is FleetState.SHARED
            with monkeypatch.context() as shorter:
                shorter.setattr(share, "IDLE", 0.1)
                await until(lambda: not is_running())
            assert not db.keys("*:members")

    asyncio.run(main())


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_three_clients_at_a_hidden_capacity_lose_no_request(
    redis_server: RedisServer, db: Any
) -> None:
    """The real algorithm, a real gateway that takes eight at once: one limit, all answered.

    How close the limit comes to the capacity depends on the machine's speed here; ``test_share``
    judges it in virtual time.
    """

    async def main() -> None:
        async with Gateway(capacity=ConcurrencyCap(8), latency=0.05) as gateway:
            clients = [
                wrap(gateway_client(gateway), fleet=redis_server.url, backoff_initial=0.01)
                for _ in range(3)
            ]
            await asyncio.gather(*(ask(client) for client in clients for _ in range(60)))
            assert gateway.answered == 180
            assert len(gateway.requests) == 180 + gateway.refused
            assert len(db.keys("*:limit")) == 2  # the model's, and the account's
            assert [shown(client).ok for client in clients] == [60] * 3
            for client in clients:
                await client.close()

    asyncio.run(main())


def gateway_client(gateway: Gateway) -> Any:
    """The real SDK over a socket."""
    import openai

    client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
    client._platform = "Unknown"
    return client


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install 'comet-resilience\[redis\]'"):
        fleet_client("redis://localhost", Slow())


@pytest.mark.parametrize(
    ("fleet", "words"),
    [
        ("localhost", "expected a URL"),
        (5, "expected a URL"),
        (ask, "got an async function"),
        ("redis://:hunter2@localhost:notaport", "redis-py can read"),
        ("redis://localhost?timeout=hunter2", "all options"),
        ("rediss://localhost?ssl_cert_reqs=hunter2", "all options"),
        (Fleet("redis://localhost:1"), None),
    ],
)
def test_bad_values_are_refused_at_once(fleet: Any, words: str | None) -> None:
    if words is None:
        assert fleet_client(fleet, Slow())
        return
    with pytest.raises(ValueError, match=words) as caught:
        fleet_client(fleet, Slow())
    assert "hunter2" not in str(caught.value)


def test_an_account_must_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def key() -> str:
        return "sk-changes"

    bare = bare_client(Slow())
    bare._api_key_provider = key  # as AsyncOpenAI(api_key=key) sets it
    with pytest.raises(ValueError, match="account"):
        wrap(bare, fleet="redis://localhost:1")
    with pytest.raises(ValueError, match="account"):
        ResilientTransport(Slow(), fleet="redis://localhost:1")
    ResilientTransport(Slow(), fleet=Fleet("redis://localhost:1", account="team"))


def test_only_algorithms_that_can_be_written_down_are_shared() -> None:
    class Own:
        limit = 5

    own: Any = Own
    with pytest.raises(ValueError, match="StepBack or a FixedLimit"):
        wrap(bare_client(Slow()), fleet="redis://localhost:1", algorithm=own)


def test_a_client_that_hangs_for_ever_delays_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory's client may have no timeout: the share runs out by the process' own clock."""
    hang = threading.Event()

    class Hanging:
        def evalsha(self, *arguments: object) -> object:
            hang.wait(600)
            raise ConnectionError

        def close(self) -> None:
            hang.set()

    async def main() -> None:
        client = fleet_client(Hanging, Slow())
        try:
            await ask(client)
            assert state(client) is FleetState.LOCAL
        finally:
            hang.set()

    asyncio.run(main())
    assert store.COMMAND_TIMEOUT <= 0.5


# -- budgets ---------------------------------------------------------------------------------------

BUDGET: Any = {"budget": Budget(requests=600), "algorithm": lambda: FixedLimit(50)}


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
def test_two_clients_spend_one_budget_and_give_back_what_they_do_not_use(
    redis_server: RedisServer, db: Any
) -> None:
    """Ten a second: so many requests take so long, whoever sends them."""

    async def main() -> None:
        inner = Slow(0.0)
        clients = [fleet_client(redis_server.url, inner, **BUDGET) for _ in range(2)]
        began = time.monotonic()
        await asyncio.gather(*(ask(client) for client in clients for _ in range(8)))
        assert time.monotonic() - began >= 1.5 - 0.1
        (view,) = snapshot(clients[0]).budgets
        assert (view.requests, view.budget) == (8, Budget(requests=600))
        assert view.requests_left is not None
        assert view.requests_left >= 600 - 16 - 8
        (key,) = db.keys("*:budget")
        for client in clients:
            await client.close()
        await until(lambda: not [name for name in db.hgetall(key) if name.startswith("m:")])
        assert drawn(db, key) == pytest.approx(16, abs=1)

    asyncio.run(main())


def ask_in_a_child(client: Any, times: int) -> int:
    """Fork, and let the child ask so many times; return its number, in the parent."""
    child = os.fork()
    if child == 0:
        code = 4
        try:

            async def main() -> None:
                await asyncio.gather(*(ask(client) for _ in range(times)))

            asyncio.run(main())
            code = 0
        finally:
            os._exit(code)  # what is the parent's must not run here
    return child


@pytest.mark.usefixtures("patient")
@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_draws_for_itself_and_leaves_the_parent_its_draws(
    redis_server: RedisServer, db: Any
) -> None:
    """At the fork the parent has draws ahead: neither are they spent twice, nor given back."""

    async def main() -> None:
        client = fleet_client(redis_server.url, Slow(0.0), **BUDGET)
        work = asyncio.gather(*(ask(client) for _ in range(10)))
        await until(lambda: bool(db.keys("*:budget")) and shown(client).ok > 0)
        child = await asyncio.to_thread(ask_in_a_child, client, 10)
        await work
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        await ask(client)
        (key,) = db.keys("*:budget")
        members = {name.split(":")[1].partition("-")[0] for name in db.hkeys(key) if ":" in name}
        assert {str(os.getpid()), str(child)} <= members
        assert drawn(db, key) == 10 + 10 + 1

    asyncio.run(main())


@pytest.mark.timeout(120)
def test_a_budget_is_kept_to_without_a_server() -> None:
    """As by a client without a fleet."""

    async def main() -> None:
        inner = Slow(0.0)
        client = fleet_client("redis://127.0.0.1:1/0", inner, **BUDGET)
        began = time.monotonic()
        await asyncio.gather(*(ask(client) for _ in range(8)))
        assert time.monotonic() - began >= 0.7 - 0.1
        await client.close()

    asyncio.run(main())
