"""The Redis edge: the one file that knows a client. Blocking, for a thread of its own.

The client is redis-py's or one with the same methods. Every command has a short timeout and no
retry of the client's: the next renewal is the retry, and nothing that is lost does harm.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from ..escaping import printable
from .message import ShareReply, ShareRequest, parse_share_reply
from .scope import RedisSource

#: Seconds that a command may take, and a connection.
COMMAND_TIMEOUT: Final = 0.25
_MOST_WORDS: Final = 200
INSTALL: Final = "pip install 'comet-resilience[redis]'"


class StoreError(Exception):
    """No reply that can be used; the message says why, without a secret."""


@cache
def script() -> str:
    """Return the text of the script."""
    return files("comet_resilience.fleet").joinpath("sync.lua").read_text(encoding="utf-8")


def client_maker(redis: RedisSource) -> Callable[[], Any]:
    """Return what makes the client.

    Raises:
        ImportError: If ``redis`` is a URL and redis-py is not installed.
        ValueError: If the URL cannot be read.

    """
    if callable(redis):
        return redis
    try:
        module = importlib.import_module("redis")
        retry = importlib.import_module("redis.retry").Retry
        no_backoff = importlib.import_module("redis.backoff").NoBackoff
    except ImportError:
        raise ImportError(f"fleet= with a URL needs redis-py: {INSTALL}") from None
    url = redis.replace("valkey", "redis", 1) if redis.startswith("valkey") else redis

    def make() -> Any:
        return module.Redis.from_url(
            url,
            socket_timeout=COMMAND_TIMEOUT,
            socket_connect_timeout=COMMAND_TIMEOUT,
            retry=retry(no_backoff(), 0),
        )

    try:
        make().close()  # connects to nothing, but reads the URL
    except ValueError:  # its words may hold a part of the password
        raise ValueError(
            "fleet: the URL cannot be read; are special characters of the password quoted?"
        ) from None
    return make


class Store:
    """A connection to Redis, made at the first use and anew after a failure."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._client: Any = None
        # Redis names scripts by this digest; nothing is protected by it.
        self._digest = sha1(script().encode(), usedforsecurity=False).hexdigest()

    def send(self, keys: tuple[str, str], request: ShareRequest, maximum: int) -> ShareReply:
        """Ask the script.

        Raises:
            StoreError: If it does not answer, or with what is no reply of the script.

        """
        reply = parse_share_reply(self._run(keys, request), maximum)
        if reply is None:
            raise StoreError("Redis answered with something that is no answer of the script")
        return reply

    def say_farewell(self, keys: tuple[str, str], request: ShareRequest) -> None:
        """Remove a member.

        Raises:
            StoreError: If Redis does not answer.

        """
        self._run(keys, request)

    def forget(self) -> None:
        """Leave the connection to the process that it belongs to."""
        self._client = None

    def close(self) -> None:
        """Close the connection; a later use makes another."""
        client, self._client = self._client, None
        if client is not None:
            try:
                client.close()
            except Exception:  # noqa: BLE001 - it is gone either way
                return

    def _run(self, keys: tuple[str, str], request: ShareRequest) -> object:
        try:
            if self._client is None:
                self._client = self._make()
            return self._evaluate(self._client, (*keys, *request.arguments()))
        except BaseException as error:  # noqa: BLE001 - whatever a client raises: no answer
            raise StoreError(f"{type(error).__name__}: {_words(error)}") from None

    def _evaluate(self, client: Any, arguments: tuple[str, ...]) -> object:
        try:
            return client.evalsha(self._digest, 2, *arguments)
        except Exception as error:
            # Each client has a class of its own for it, all with this name.
            if type(error).__name__ != "NoScriptError":
                raise
            return client.eval(script(), 2, *arguments)


def _words(error: BaseException) -> str:
    return printable(str(error))[:_MOST_WORDS]
