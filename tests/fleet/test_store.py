"""The Redis edge: what is asked of a client, and what is made of what it says."""

from __future__ import annotations

import gc
import re
from typing import Any

import pytest
import redis.asyncio
import valkey.asyncio

from comet_resilience.fleet.message import Addressed, ShareReply, ShareRequest, StoreError
from comet_resilience.fleet.store import Store, client_maker, script

ASK = Addressed(("members", "limit"), ShareRequest(member="m"), maximum=100)
REPLY: list[Any] = [[4, 20, "7", "3", 2, 10, 0, "1.5", "1000", 0, 1, "{}"]]


class NoScriptError(Exception):
    """As each client has one of its own."""


class Client:
    """A client that knows no script at first, then replies or raises as it is told."""

    def __init__(self, reply: Any = REPLY) -> None:
        self.reply = reply
        self.loaded = self.closed = False
        self.commands: list[str] = []

    def evalsha(self, _digest: str, *_arguments: Any) -> Any:
        self.commands.append("evalsha")
        if not self.loaded:
            raise NoScriptError("NOSCRIPT")
        return self.say()

    def eval(self, text: str, *_arguments: Any) -> Any:
        self.commands.append("eval")
        assert text == script().text
        self.loaded = True
        return self.say()

    def say(self) -> Any:
        if isinstance(self.reply, BaseException):
            raise self.reply
        return self.reply

    def close(self) -> None:
        self.closed = True


def test_a_script_that_the_server_does_not_know_is_sent_once() -> None:
    """Then its digest is enough."""
    client = Client()
    store = Store(lambda: client)
    for _ in range(2):
        (reply,) = store.send([ASK])
        assert isinstance(reply, ShareReply)
        assert (reply.share, reply.limit, reply.version, reply.members) == (4, 20, 7, 2)
    assert client.commands == ["evalsha", "eval", "evalsha"]


@pytest.mark.parametrize("nonsense", [None, [], "O", [[], []]])
def test_what_is_no_reply_is_an_error(nonsense: Any) -> None:
    """Whoever wrote it."""
    store = Store(lambda: Client(nonsense))
    with pytest.raises(StoreError, match="other than a reply"):
        store.send([ASK])


@pytest.mark.parametrize(
    ("nonsense", "words"),
    [
        *((odd, "other than a reply") for odd in (None, [], "OK", [1, 2, 3], ["x"] * 12)),
        (["WRONGTYPE of\nkey"], "WRONGTYPE of key"),
        ([b"WRONGTYPE"], "WRONGTYPE"),
    ],
)
def test_a_scope_without_a_reply_leaves_the_others_theirs(nonsense: Any, words: str) -> None:
    """It is an error by itself, in the words of the server where there are any."""
    store = Store(lambda: Client([nonsense, *REPLY]))
    lost, kept = store.send([ASK, ASK])
    assert isinstance(lost, StoreError)
    assert re.search(words, str(lost))
    assert isinstance(kept, ShareReply)
    assert kept.share == 4


@pytest.mark.parametrize("error", [ConnectionError("refused"), KeyboardInterrupt("odd")])
def test_whatever_a_client_raises_is_one_error_in_words(error: BaseException) -> None:
    """Its class and its words, and nothing chained to it."""
    store = Store(lambda: Client(error))
    with pytest.raises(StoreError, match=rf"^{type(error).__name__}: {error}$") as caught:
        store.send([ASK])
    assert caught.value.__cause__ is None


async def make_later() -> Client:
    """A client's maker that a user may hide in a function."""
    return Client()


@pytest.mark.parametrize("make", [make_later, redis.asyncio.Redis, valkey.asyncio.Valkey])
def test_an_asynchronous_client_is_named_and_leaves_no_coroutine(make: Any) -> None:
    """A warning about one that was never awaited would be an error here."""
    store = Store(make)
    with pytest.raises(StoreError, match="asynchronous"):
        store.send([ASK])
    store.close()
    gc.collect()


def test_a_url_that_a_users_function_cannot_parse_is_not_shown() -> None:
    """The parser quotes what it cannot read, and that may be a password."""
    store = Store(lambda: redis.Redis.from_url("redis://:hunter/2@localhost"))
    with pytest.raises(StoreError, match="raised ValueError") as caught:
        store.send([ASK])
    assert "hunter" not in str(caught.value)


def test_an_unquoted_at_sign_is_a_fault_only_where_it_moves_the_host() -> None:
    for url in ("redis://localhost?username=a@b", "unix:///tmp/a@b.sock"):
        client_maker(url)


def test_a_closed_store_makes_another_client() -> None:
    """The one before it is closed, also where that fails."""
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    store = Store(make)
    store.send([ASK])
    store.close()
    store.close()
    store.send([ASK])
    assert [client.closed for client in made] == [True, False]
