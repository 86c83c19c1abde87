"""The timer of a partition or an account, on the event loop of its first waiter."""

from __future__ import annotations

from collections.abc import Callable

from .eventloop import EventLoop


class Timer:
    """A timer that can be moved. The limiter calls every method under its lock."""

    __slots__ = ("_cancel", "_loop", "at")

    def __init__(self) -> None:
        self._cancel: Callable[[], object] | None = None
        self.at: float | None = None  # when it goes off, ``None`` if it is not set
        self._loop: EventLoop | None = None

    def set(
        self,
        at: float | None,
        owner: EventLoop | None,
        running: EventLoop | None,
        go_off: Callable[[], object],
    ) -> None:
        """Set it on the loop ``owner``; cancel it if there is no time or no owner.

        Only a loop itself can set its timers: if another one is ``running``, the owner is asked to
        look at once.
        """
        if self._cancel is not None:
            if owner is self._loop and at == self.at:
                return
            self.cancel(running)
        if at is None or owner is None:
            return
        if owner is not running:
            owner.call_soon(go_off)
            return
        self.at, self._loop = at, owner
        self._cancel = owner.call_at(at, go_off)

    def cancel(self, running: EventLoop | None) -> None:
        """Cancel it, on the loop that it belongs to."""
        if self._cancel is not None and self._loop is not None:
            if self._loop is running:
                self._cancel()
            else:
                self._loop.call_soon(self._cancel)
        self.at = self._cancel = None

    def went_off(self, running: EventLoop | None) -> None:
        """Note that it went off, on the loop that is running."""
        if self._loop is running:
            self.at = self._cancel = None
