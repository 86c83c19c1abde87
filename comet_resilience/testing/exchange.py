"""One request with its reply: what the gateway hands to whoever carries the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .received import ReceivedRequest
    from .replies import Reply


class Exchange:
    """A request that has its reply, until the reply is over."""

    __slots__ = ("_on_end", "reply", "request")

    def __init__(
        self, request: ReceivedRequest, reply: Reply, on_end: Callable[[bool], None]
    ) -> None:
        self.request: ReceivedRequest = request
        self.reply: Reply = reply
        self._on_end: Callable[[bool], None] | None = on_end

    def end(self, *, delivered: bool) -> None:
        """Say that the reply is over, to its end or not. Only the first call counts."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(delivered)


class Brain(Protocol):
    """The side of the gateway that decides, as the side that carries the bytes sees it."""

    def begin(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Exchange:
        """Take in a request and decide the reply to it."""
        ...
