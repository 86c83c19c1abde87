"""Servers as they are run: users with few rights, TLS, a cluster, other clients, and bad days."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import anyio
import pytest
import redis
import redis.cluster
import valkey
import valkey.cluster
from anyio.abc import SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSListener

from comet_resilience import Budget, Config, Fleet, FleetState, snapshot, wrap
from comet_resilience.fleet import pace
from comet_resilience.fleet.scope import account_of, budget_key, keys_of
from comet_resilience.limits.budget import EVERY_MODEL
from tests.redis_server import RedisServer

from ..conftest import (
    BASE_URL,
    KEY,
    LIMITED,
    OK,
    Scripted,
    ask,
    bare_client,
    engine_of,
    scripted,
)
from .conftest import drawn

PASSWORD = "pw-CANARY-55d2c7/#?"  # must never be shown, even if mistyped
#: What the manual says that a user needs.
RIGHTS = "+evalsha +eval +time +hmget +hset +hdel +hgetall +pexpire"
#: The keys of the one partition that these tests use.
_ACCOUNT = account_of(BASE_URL, KEY, None)
#: The keys of the model, those of the account above, and that of its budget.
KEYS = keys_of(_ACCOUNT, ("POST /chat/completions", "m"))
BUDGET_KEY = budget_key(_ACCOUNT, EVERY_MODEL)
ALL_KEYS = {*KEYS, *keys_of(_ACCOUNT, "account"), BUDGET_KEY}
#: Those that outlive their members.
LEFT = {key for key in ALL_KEYS if not key.endswith(":members")}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what takes seconds."""
    monkeypatch.setattr(pace, "RENEW_EVERY", pace.RENEW_EVERY / 5)
    monkeypatch.setattr(pace, "TTL", pace.TTL / 3)


@asynccontextmanager
async def member(fleet: Any, *answers: Any) -> AsyncIterator[Any]:
    """A client of a fleet; at the end its thread has ended, too."""
    budget = Budget(requests=600_000)
    client, _ = scripted(*(answers or (OK,)), fleet=fleet, budget=budget, backoff_initial=0.0)
    coordinator = engine_of(client).fleet
    assert coordinator is not None
    try:
        yield client
    finally:
        thread = coordinator.close()
        if thread is not None:
            await asyncio.to_thread(thread.join)


def is_in(client: Any, state: FleetState) -> bool:
    """Return whether all its partitions are in that state."""
    views = [partition.fleet for partition in snapshot(client).partitions]
    return bool(views) and all(view is not None and view.state is state for view in views)


async def ask_until(client: Any, state: FleetState, *models: str) -> None:
    """Keep asking, without a failure, until its partitions are in that state."""
    while not is_in(client, state):
        for model in models or ("m",):
            assert await ask(client, model=model) == "Hi"
        await asyncio.sleep(0.005)


async def until_reported(client: Any, db: Any) -> None:
    """Wait until all spending of the budget is reported, with the fleet and without it."""
    (budget,) = snapshot(client).budgets
    while drawn(db, BUDGET_KEY) != budget.requests:  # noqa: ASYNC110 - a thread reports it
        await asyncio.sleep(0.005)


def connect(url: str, **options: Any) -> Any:
    """A client of our own."""
    return redis.Redis.from_url(url, **options)


def is_shared(fleet: Any) -> None:
    """A client comes to a share through this server, and goes on with it."""

    async def main() -> None:
        async with member(fleet) as client:
            await ask_until(client, FleetState.SHARED)

    asyncio.run(main())


def moves_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The changes of state that were warned of."""
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == "comet_resilience"
    ]
    assert all(line.startswith("fleet ") for line in lines)
    return [line.removeprefix("fleet ").partition(":")[0] for line in lines]


# -- who may do what ----------------------------------------------------------------------------


@pytest.fixture
def user(redis_server: RedisServer, db: Any) -> Iterator[str]:
    """The URL of a user with the fewest rights."""
    rights = ["reset", "on", ">secret", "~comet:*", "resetchannels", "-@all", *RIGHTS.split()]
    db.execute_command("ACL", "SETUSER", "comet", *rights)
    yield f"redis://comet:secret@127.0.0.1:{redis_server.port}/0"
    db.execute_command("ACL", "DELUSER", "comet")


@pytest.mark.parametrize("library", [redis.Redis, valkey.Valkey])
def test_a_user_with_the_fewest_rights_is_enough(user: str, db: Any, library: Any) -> None:
    """From the first connection until it leaves, with the script not yet loaded."""
    db.script_flush()
    is_shared(lambda: library.from_url(user, socket_timeout=0.25))
    assert set(db.keys()) == LEFT  # the member has left


@pytest.mark.parametrize("right", RIGHTS.split())
def test_no_right_of_it_could_be_left_out(user: str, db: Any, right: str) -> None:
    db.script_flush()
    db.execute_command("ACL", "SETUSER", "comet", right.replace("+", "-"))

    async def main() -> None:
        async with member(user) as client:
            await ask_until(client, FleetState.LOCAL)

    if right != "+hdel":  # only a member that leaves needs it
        asyncio.run(main())
    else:
        is_shared(user)
        assert set(db.keys()) == ALL_KEYS


@pytest.mark.parametrize(
    "command",
    [
        "GET other", "GET comet:{x}:limit", "DEL comet:{x}:limit", "KEYS *", "SCAN 0", "INFO",
        "HGETALL other", "HSET other a 1", "CONFIG GET *", "FLUSHALL", "SCRIPT FLUSH", "MONITOR",
        "PUBLISH comet x", "CLIENT LIST", "ACL LIST", "REPLICAOF NO ONE",
        "EVAL return(redis.call('GET',KEYS[1])) 1 other",
        "EVAL return(redis.call('HGETALL',KEYS[1])) 1 other",
    ],
)  # fmt: skip
def test_such_a_user_may_do_nothing_else(user: str, db: Any, command: str) -> None:
    db.set("other", "1")
    denied = pytest.raises(redis.ResponseError, match=r"permission|can't run|can't access")
    with closing(connect(user)) as limited, denied:
        limited.execute_command(*command.split())


# -- other clients, other servers -----------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_url_may_name_a_database(redis_server: RedisServer, db: Any, scheme: str) -> None:
    is_shared(f"{scheme}://127.0.0.1:{redis_server.port}/3")
    assert db.keys() == []
    with closing(connect(f"redis://127.0.0.1:{redis_server.port}/3")) as third:
        assert set(third.keys()) == {key.encode() for key in LEFT}


def test_a_url_may_name_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        is_shared(f"unix://{path}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    """A cluster of one node, which refuses keys that do not belong together."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        bus = str(probe.getsockname()[1])
    server = RedisServer("--cluster-enabled", "yes", "--cluster-port", bus)
    with server, closing(connect(server.url)) as node:
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "cluster_state:ok" not in str(node.execute_command("CLUSTER", "INFO")):
            pass
        yield server


@pytest.mark.parametrize("library", [redis.cluster.RedisCluster, valkey.cluster.ValkeyCluster])
def test_a_cluster_keeps_what_belongs_together_in_one_slot(
    cluster: RedisServer, library: Any
) -> None:
    with closing(connect(cluster.url, decode_responses=True)) as node:
        node.flushall()
        with ExitStack() as opened:
            # A client whose constructor fails half-way cannot be closed: it gets time enough.
            is_shared(
                lambda: opened.enter_context(
                    closing(library.from_url(cluster.url, socket_timeout=20.0))
                )
            )
        assert set(node.keys()) == LEFT


class Tls(NamedTuple):
    """An address that speaks TLS, and the certificate that it shows."""

    port: int
    certificate: Path


@pytest.fixture
def tls(redis_server: RedisServer, tmp_path: Path) -> Iterator[Tls]:
    """TLS in front of the server, which need not have been built with it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(  # noqa: S603 - our own words
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",  # noqa: S607
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with start_blocking_portal() as portal:
        front = _tls_front(context, redis_server.port)
        with portal.wrap_async_context_manager(front) as port:
            yield Tls(port, certificate)


@asynccontextmanager
async def _tls_front(context: ssl.SSLContext, behind: int) -> AsyncIterator[int]:
    """Take TLS off for a server: the port to connect to."""

    async def pump(source: Any, sink: Any) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await sink.send(await source.receive())

    async def serve(outer: Any) -> None:
        inner = await anyio.connect_tcp("127.0.0.1", behind)
        async with outer, inner, anyio.create_task_group() as both:
            both.start_soon(pump, inner, outer)
            await pump(outer, inner)
            both.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    front = TLSListener(listener, context, standard_compatible=False)
    async with front, anyio.create_task_group() as group:
        group.start_soon(front.serve, serve)
        yield listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
        group.cancel_scope.cancel()


def test_tls(tls: Tls, db: Any) -> None:
    is_shared(f"rediss://localhost:{tls.port}/0?ssl_ca_certs={tls.certificate}")
    assert set(db.keys()) == LEFT


def test_a_certificate_without_a_known_authority_is_not_accepted(
    tls: Tls, db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with member(f"rediss://localhost:{tls.port}/0") as client:
            await ask_until(client, FleetState.LOCAL)

    asyncio.run(main())
    assert moves_of(caplog) == ["joining -> local"]
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert db.keys() == []


# -- bad days -------------------------------------------------------------------------------------


def configure(name: str, value: str) -> Callable[[Any], object]:
    """Return a function that changes the server's configuration."""
    return lambda db: db.config_set(name, value)


def put_other_types(db: Any) -> None:
    """Put values of another type in place of ours."""
    for key in list(db.scan_iter()):
        db.delete(key)
        db.set(key, "x")


def follow(host: str) -> Callable[[Any], object]:
    """Return a function that makes the server a read-only replica, or ends that."""
    return lambda db: db.execute_command("REPLICAOF", *host.split())


BAD_DAYS = {
    "read-only": (follow("127.0.0.1 1"), follow("NO ONE"), "read only replica"),
    "full": (configure("maxmemory", "1"), configure("maxmemory", "0"), "OutOfMemoryError"),
    "other types": (put_other_types, lambda db: db.flushall(), "WRONGTYPE"),
    "rights withdrawn": (
        lambda db: db.execute_command("ACL", "SETUSER", "default", "-evalsha"),
        lambda db: db.execute_command("ACL", "SETUSER", "default", "+evalsha"),
        "NoPermissionError",
    ),
}


@pytest.mark.parametrize(("breaks", "mends", "says"), BAD_DAYS.values(), ids=BAD_DAYS)
def test_on_a_bad_day_of_the_server_each_process_goes_on_by_itself_and_comes_back(
    redis_server: RedisServer, db: Any, caplog: pytest.LogCaptureFixture,
    breaks: Callable[[Any], object], mends: Callable[[Any], object], says: str,
) -> None:  # fmt: skip
    """Every request is answered; each change of state is one warning for all partitions."""

    async def main() -> None:
        async with member(redis_server.url) as client:
            await ask_until(client, FleetState.SHARED, "m", "another")
            breaks(db)
            try:
                await ask_until(client, FleetState.LOCAL, "m", "another")
                assert says in caplog.text
            finally:
                mends(db)
            await ask_until(client, FleetState.SHARED, "m", "another")
            if says != "WRONGTYPE":  # that ends with an empty server
                await until_reported(client, db)

    asyncio.run(main())
    assert moves_of(caplog) == ["shared -> degraded", "degraded -> local", "local -> shared"]


DISTURBANCES: dict[str, Callable[[Any], object]] = {
    "SCRIPT FLUSH": lambda db: db.script_flush(),
    "CLIENT KILL": lambda db: db.execute_command("CLIENT", "KILL", "SKIPME", "yes"),
    "a damaged state": lambda db: db.hset(KEYS[1], "state", '{"level":NaN}'),
    "a damaged member": lambda db: db.hset(KEYS[0], "somebody", "nonsense"),
    "FLUSHALL": lambda db: db.flushall(),
}


@pytest.mark.parametrize(("name", "disturb"), DISTURBANCES.items(), ids=DISTURBANCES)
def test_what_one_renewal_mends_is_not_felt(
    redis_server: RedisServer, db: Any, caplog: pytest.LogCaptureFixture,
    name: str, disturb: Callable[[Any], object],
) -> None:  # fmt: skip
    async def main() -> None:
        async with member(redis_server.url) as client:
            await ask_until(client, FleetState.SHARED)
            for _ in range(2):
                disturb(db)
                calls = db.info("commandstats")["cmdstat_evalsha"]["calls"]
                while db.info("commandstats")["cmdstat_evalsha"]["calls"] < calls + 2:
                    await ask(client)
                    await asyncio.sleep(0.005)
            assert is_in(client, FleetState.SHARED)
            assert set(db.keys()) == ALL_KEYS
            if name != "FLUSHALL":
                await until_reported(client, db)

    asyncio.run(main())
    assert moves_of(caplog) == []


# -- secrets --------------------------------------------------------------------------------------


def test_a_wrong_password_is_said_once_and_never_shown(
    redis_server: RedisServer, db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "comet_resilience")
    db.execute_command("ACL", "SETUSER", "strict", "reset", "on", ">right", "~*", "+@all")
    url = f"redis://strict:{quote(PASSWORD, safe='')}@127.0.0.1:{redis_server.port}/0"

    async def main() -> None:
        async with member(url) as client:
            await ask_until(client, FleetState.LOCAL)
            for _ in range(30):
                await ask(client)
                await asyncio.sleep(0.01)
            assert_unseen(repr(client), repr(snapshot(client)), str(snapshot(client)))
            db.execute_command("ACL", "SETUSER", "strict", f">{PASSWORD}")
            await ask_until(client, FleetState.SHARED)

    try:
        asyncio.run(main())
    finally:
        db.execute_command("ACL", "DELUSER", "strict")
    assert moves_of(caplog) == ["joining -> local", "local -> shared"]
    assert "AuthenticationError" in caplog.text
    assert_unseen(caplog.text)


def assert_unseen(*texts: str) -> None:
    """No text shows any part of the password."""
    for text in texts:
        for part in (PASSWORD, quote(PASSWORD, safe=""), "CANARY", "55d2c7"):
            assert part not in text


#: The parser's own words are passed on, and they quote what stands before the slash.
@pytest.mark.parametrize(
    "url",
    [
        "redis://:{}@localhost/0",  # everything breaks at the slash
        "redis://user:{}@localhost:1/0",
        "redis://localhost:{}/0",
        "redis://:55/{}@localhost/0",  # digits before the slash could be a port, on no host
        "redis://user:55#{}@localhost/0",
        "redis://user:55?{}@localhost/0",
        "redis://[{}@localhost/0",
        "redis://localhost/0?socket_timeout={}",
        "http://user:{}@localhost/0",
        " redis://:{}@localhost/0",
    ],
)
def test_a_password_in_a_malformed_url_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="fleet: ") as caught:
        wrap(bare_client(Scripted([OK])), fleet=url.format(PASSWORD))
    assert_unseen("".join(traceback.format_exception(caught.value)))


def test_what_holds_a_url_does_not_show_it() -> None:
    url = f"redis://:{quote(PASSWORD, safe='')}@localhost/0"
    for holder in (Fleet(url), Config(fleet=url), Config(fleet=Fleet(url, account="a"))):
        assert_unseen(repr(holder), str(holder))


@pytest.mark.parametrize("account", [None, "account-CANARY"])
def test_redis_sees_no_key_no_model_no_prompt(
    redis_server: RedisServer, db: Any, account: str | None
) -> None:
    """Everything that goes to the server and is kept there, acceptances and refusals included."""
    model, prompt = "model-CANARY", "prompt-CANARY"

    async def main() -> None:
        fleet = Fleet(redis_server.url, account=account)
        async with member(fleet, OK, OK, LIMITED, OK) as client:
            messages: Any = [{"role": "user", "content": prompt}]
            for _ in range(4):
                await client.chat.completions.create(model=model, messages=messages)
            await ask_until(client, FleetState.SHARED)
            kept.append(str([(key, db.hgetall(key)) for key in db.scan_iter()]))
            kept.append(str(db.client_list()))

    kept: list[str] = []
    with socket.create_connection(("127.0.0.1", redis_server.port)) as monitor:
        lines = monitor.makefile("rb")
        monitor.sendall(b"MONITOR\r\n")
        assert lines.readline() == b"+OK\r\n"
        asyncio.run(main())
        db.echo("the end")
        while b"the end" not in (line := lines.readline()):
            kept.append(line.decode())
    seen = "".join(kept)
    assert seen.count("EVALSHA") >= 3
    assert '\\"refusals\\":1' in seen  # a commit, refusals and all
    for secret in ("CANARY", KEY, "api.cometapi.com", "chat/completions"):
        assert secret not in seen
