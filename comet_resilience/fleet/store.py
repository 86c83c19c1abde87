"""The Redis edge: the only file that knows a client. It blocks, in a thread of its own.

The client is redis-py's or one with the same methods. Every command has a short timeout and no
retry: the next renewal is the retry, and a lost command is harmless.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from hashlib import sha1
from importlib.resources import files
from inspect import isawaitable, iscoroutine
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ..escaping import printable
from .draws import DrawReply, DrawRequest, parse_draw_reply
from .message import NO_REPLY, Addressed, ShareReply, StoreError, parse_share_reply
from .scope import RedisSource

#: Timeout of a command and of connecting, in seconds.
COMMAND_TIMEOUT: Final = 0.25
_REASON_SHOWN: Final = 200
INSTALL: Final = "pip install 'comet-resilience[redis]'"


class Script(NamedTuple):
    """A script, and the digest by which Redis names it (it protects nothing)."""

    text: str
    digest: str


@cache
def script(name: str = "sync") -> Script:
    """Return one of the scripts, after the fragment that they share."""
    room = files("comet_resilience.fleet")
    texts = (room.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("batch", name))
    text = "".join(texts)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def client_maker(redis: RedisSource) -> Callable[[], Any]:
    """Return a function that makes the client.

    Raises:
        ImportError: If ``redis`` is a URL and redis-py is not installed.
        ValueError: If the URL is malformed, or has an option that redis-py does not know.

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
        with closing(make()) as client:  # parses the URL and its options, does not connect
            client.connection_pool.make_connection()
        is_sound = not _has_stray_password(url)
    except Exception:  # noqa: BLE001 - its text may contain a part of the password
        is_sound = False
    if not is_sound:
        raise ValueError(
            "fleet: expected a URL that redis-py can read; are special characters of the password"
            " quoted, and does redis-py know all options after the question mark?"
        )
    return make


def _has_stray_password(url: str) -> bool:
    """Return True if an unquoted password has spilled over: the host would be a part of it."""
    parts = urlsplit(url)
    option = parts.query.partition("=")[0]
    return parts.scheme != "unix" and "@" in f"{parts.path}{option}{parts.fragment}"


class Store:
    """A connection to Redis, made at the first use and anew after a failure."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._client: Any = None

    def send(self, asked: Sequence[Addressed]) -> list[ShareReply | StoreError]:
        """Run the script once for all scopes; return an error for a scope without a reply.

        A member that leaves gets none.

        Raises:
            StoreError: If there is no reply, or not one of the script.

        """
        keys = [key for one in asked for key in one.keys]
        arguments = [text for one in asked for text in one.request.arguments()]
        raw = self._run(script(), keys, arguments)
        return [
            parse_share_reply(reply, one.maximum) or _error_in(reply)
            for reply, one in zip(_each(raw, len(asked)), asked, strict=True)
        ]

    def draw(self, asked: Sequence[tuple[str, DrawRequest]]) -> list[DrawReply | StoreError]:
        """Draw on budgets, each with its key; return an error for a budget without a reply.

        Raises:
            StoreError: If there is no reply, or not one of the script.

        """
        arguments = [text for _, request in asked for text in request.arguments()]
        raw = self._run(script("draw"), [key for key, _ in asked], arguments)
        return [
            parse_draw_reply(reply, request) or _error_in(reply)
            for reply, (_, request) in zip(_each(raw, len(asked)), asked, strict=True)
        ]

    def forget(self) -> None:
        """Drop the connection without closing it: it belongs to the parent process."""
        self._client = None

    def close(self) -> None:
        """Close the connection; a later use opens another."""
        client, self._client = self._client, None
        if client is not None:
            try:
                client.close()
            except Exception:  # noqa: BLE001 - it is gone either way
                return

    def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str]) -> object:
        try:
            if self._client is None:
                self._client = self._connect()
            return self._evaluate(script, len(keys), (*keys, *arguments))
        except StoreError:
            raise
        except BaseException as error:  # noqa: BLE001 - a client may raise anything
            raise StoreError(f"{type(error).__name__}: {_words(error)}") from None

    def _connect(self) -> Any:
        try:
            client = self._make()
        except ValueError:  # its text may quote a malformed URL, password included
            raise StoreError("the function that makes the client raised ValueError") from None
        if isawaitable(client):
            if iscoroutine(client):
                client.close()
            raise StoreError("the function that makes the client returned an asynchronous one")
        return client

    def _evaluate(self, script: Script, keys: int, arguments: tuple[str, ...]) -> object:
        client = self._client
        try:
            return client.evalsha(script.digest, keys, *arguments)
        except Exception as error:
            # Each client library has its own class of this name.
            if type(error).__name__ != "NoScriptError":
                raise
            return client.eval(script.text, keys, *arguments)


def _each(raw: object, number: int) -> Sequence[object]:
    """Return the list of replies, one for each scope or budget."""
    if isinstance(raw, (str, bytes)) or not isinstance(raw, Sequence) or len(raw) != number:
        raise StoreError(NO_REPLY)
    return raw


def _error_in(reply: object) -> StoreError:
    """Return the error that the script reports for one scope."""
    if isinstance(reply, Sequence) and len(reply) == 1 and isinstance(reply[0], (str, bytes)):
        text = reply[0] if isinstance(reply[0], str) else reply[0].decode("utf-8", "replace")
        return StoreError(_words(text))
    return StoreError(NO_REPLY)


def _words(error: object) -> str:
    return printable(str(error))[:_REASON_SHOWN]
