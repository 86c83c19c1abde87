"""The connections of an http client that was dropped without being closed.

A client and its connections are often collected in one pass, which closes the sockets. To close
the connections after that, as the SDK's finalizer would, is to take whoever has got their
descriptors in the meantime off the event loop: another client's answer then lies unread for ever.
So what is to be closed is kept out of the collection, and closed on the loop that it belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import anyio

from ..limits.eventloop import EventLoop, running_loop
from .family import without_finalizer
from .forking import pool_of
from .response import CLOSE_SECONDS

#: The way from a pooled connection of either family to asyncio's transport beneath it.
_TOWARDS_THE_SOCKET: Final = (
    "_connection", "_network_stream", "_stream", "transport_stream", "_transport",
)  # fmt: skip
_LONGEST_WAY: Final = 16


class OpenConnections:
    """The connections to be closed after an http client, and the event loops that used it."""

    __slots__ = ("_loops", "_pools")

    def __init__(self, transports: Iterable[Any]) -> None:
        pools = (pool_of(transport) for transport in transports)
        self._pools = tuple(pool for pool in pools if pool is not None)
        self._loops: list[EventLoop] = []

    def note_use(self, loop: EventLoop) -> None:
        """Remember the running loop as one whose connections there may be."""
        if loop not in self._loops:
            self._loops = [*_alive(self._loops), loop]

    def forget_loops(self) -> None:
        """Leave the loops that were noted so far alone."""
        self._loops = []

    def close_soon(self) -> None:
        """Let each loop close its own. Called by a finalizer, on whatever thread."""
        if not any(pool._connections for pool in self._pools):  # noqa: SLF001
            return
        alive = _alive(self._loops or _running_loops())
        for loop in alive:
            loop.start(partial(self._close, is_alone=len(alive) == 1))

    async def _close(self, *, is_alone: bool) -> None:
        """Close what belongs to the running loop; what only may, if no other loop is left."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for pool in self._pools:
                connections = pool._connections  # noqa: SLF001 - there is no public way
                for connection in tuple(connections):
                    loop = _loop_of(connection)
                    if is_alone if loop is None else loop is _native_loop():
                        connections.remove(connection)
                        with contextlib.suppress(Exception):  # nobody is left to hear of it
                            await connection.aclose()


def connections_of(http_client: Any) -> OpenConnections | None:
    """Return the connections of an ``AsyncClient`` that the SDK made, to end in good order.

    Its own finalizer is taken away: it would close them in the midst of a collection, on whatever
    loop happens to run. A client that somebody else made is theirs to close: ``None``.
    """
    kept = _by_client.get(http_client)
    cls: Any = type(http_client)
    if kept is not None or not _is_closed_by_a_finalizer(cls):
        return kept
    transports = (http_client._transport, *http_client._mounts.values())  # noqa: SLF001
    connections = _by_client[http_client] = OpenConnections(transports)
    http_client.__class__ = without_finalizer(cls)
    weakref.finalize(http_client, connections.close_soon).atexit = False
    return connections


def _is_closed_by_a_finalizer(cls: type) -> bool:
    """Return True if the SDK closes the http clients of a class, as it does those it makes."""
    finalizer = getattr(cls, "__del__", None)
    return getattr(finalizer, "__module__", "").partition(".")[0] == "openai"


def _loop_of(connection: Any) -> Any:
    """Return the asyncio loop that a connection belongs to, ``None`` where it cannot be told."""
    thing = connection
    for _ in range(_LONGEST_WAY):
        deeper = (getattr(thing, name, None) for name in _TOWARDS_THE_SOCKET)
        beneath = next((one for one in deeper if one is not None), None)
        if beneath is None:
            break
        thing = beneath
    return getattr(thing, "_loop", None)


def _native_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _running_loops() -> list[EventLoop]:
    try:
        return [running_loop()]
    except RuntimeError:
        return []


def _alive(loops: Iterable[EventLoop]) -> list[EventLoop]:
    return [loop for loop in loops if loop.call_soon(_nothing)]


def _nothing() -> None:
    """Find out whether a loop takes anything at all."""


_by_client: weakref.WeakKeyDictionary[Any, OpenConnections] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    for connections in _by_client.values():
        connections.forget_loops()  # they are the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
