"""The scope of a limit: the processes that share it, and its keys in Redis. Pure.

A scope is an account at a gateway and one of its partitions. Its name is a digest: neither an API
key nor a model's name ever reaches Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import sha256
from inspect import iscoroutinefunction
from typing import Any, Final

#: The prefix of all keys; braces keep the keys of one account in one slot of a cluster.
PREFIX: Final = "comet"
_DIGITS: Final = 20
_SCHEMES: Final = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")

#: A scope's two keys: its members and its limit.
Keys = tuple[str, str]

#: A URL, or a function that makes a client with the methods of redis-py.
RedisSource = str | Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The Redis that holds a fleet's limits, and their account: ``wrap(client, fleet=Fleet(...))``.

    ``redis`` is a URL (``redis://``, ``rediss://``, ``unix://``; ``valkey://`` and ``valkeys://``
    for the first two) or a function without arguments that makes a synchronous client with the
    methods of redis-py: valkey-py, Sentinel, a cluster. It is called in a thread of the library;
    give that client a ``socket_timeout`` of its own.
    ``account`` names the limits' owner: any text that all processes of the account agree on, for
    keys that change or several keys of one account. Without it the client's API key is the name.

    Raises:
        ValueError: If ``redis`` is neither, or ``account`` is not a text or empty.

    """

    redis: RedisSource
    account: str | None = None

    def __post_init__(self) -> None:
        is_async = iscoroutinefunction(self.redis)
        is_url = isinstance(self.redis, str) and self.redis.startswith(_SCHEMES)
        if is_async or not (callable(self.redis) or is_url):
            raise ValueError(
                "fleet: expected a URL (redis://, rediss://, unix://), a function that makes a"
                " synchronous client, or Fleet(...), got"
                f" {'an async function' if is_async else type(self.redis).__name__}"
            )
        if self.account is not None and (not isinstance(self.account, str) or not self.account):
            raise ValueError("fleet: expected account to be a non-empty text")

    def __repr__(self) -> str:
        return "Fleet(...)"  # a URL may hold a password


def account_of(base_url: str, api_key: str, account: str | None) -> str:
    """Return a digest that names the owner of the limits."""
    return _digest(base_url.rstrip("/"), "account" if account else "key", account or api_key)


def keys_of(account: str, partition: Hashable) -> Keys:
    """Return the keys of a partition's scope; ``account`` is a digest."""
    scope = f"{PREFIX}:{{{account}}}:{_digest(account, repr(partition))}"
    return f"{scope}:members", f"{scope}:limit"


def budget_key(account: str, name: str) -> str:
    """Return the key of a named budget; ``account`` is a digest."""
    return f"{PREFIX}:{{{account}}}:{_digest(account, name)}:budget"


def _digest(*parts: str) -> str:
    whole = "".join(f"{len(part)}:{part}" for part in parts)
    return sha256(whole.encode()).hexdigest()[:_DIGITS]
