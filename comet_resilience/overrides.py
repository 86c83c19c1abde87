"""Keywords for a block of code: ``with override(deadline=3): ...``.

A block is a value in a context variable, so tasks that begin inside of it inherit it and other
tasks never see it. What a block says is merged with the blocks around it when it is entered and
with a client's configuration at the first request; a request outside of any block pays one look
at the variable.

A block's word counts more than the client's, ``with_options(max_retries=...)`` included, and an
inner block's more than an outer one's. A request keeps the word under which it began, also when
its stream is read after the block.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Unpack

from .config import Config, PerCallOptions

if TYPE_CHECKING:
    from .limits.limiter import Limiter

PER_CALL: Final = frozenset(PerCallOptions.__annotations__)

_SHARED_LIMIT: Final = "all requests of a partition share one limit"
_WHY_NOT: Final = {
    "initial_concurrency": _SHARED_LIMIT,
    "min_concurrency": _SHARED_LIMIT,
    "max_concurrency": _SHARED_LIMIT,
    "algorithm": _SHARED_LIMIT,
    "max_queue": "all requests of a partition share one queue",
    "fleet": "the processes of a fleet share it",
    "partition": "a request that changed its partition would escape the limit that others keep",
    "rules": "one client judges one answer in one way",
    "on_event": "observers belong to the client; an event names its request",
    "journal": "the journal belongs to the client; it would have gaps",
}

#: Hears of each request that begins in a block: whose limiter, and which partition.
Witness = Callable[["Limiter", Hashable], object]


class Block:
    """What holds inside a block of code: merged options, and who hears of its requests."""

    __slots__ = ("_last", "options", "outer", "witness")

    def __init__(
        self, options: Mapping[str, Any], outer: Block | None, witness: Witness | None
    ) -> None:
        self.options: Mapping[str, Any] = options
        self.outer: Block | None = outer
        self.witness: Witness | None = witness
        self._last: tuple[Config, Config] | None = None

    def over(self, config: Config) -> Config:
        """A client's configuration with this block's word in place of its own."""
        if self._last is None or self._last[0] is not config:
            self._last = (config, replace(config, **self.options))
        return self._last[1]


_block: ContextVar[Block | None] = ContextVar("comet_resilience_block", default=None)

#: The block that the running code is in, ``None`` outside of any.
current_block: Callable[[], Block | None] = _block.get


class Override:
    """A block to be entered by ``with``, as often as wanted, in any number of tasks."""

    __slots__ = ("_alone",)

    def __init__(self, options: Mapping[str, Any], witness: Witness | None = None) -> None:
        self._alone = Block(options, None, witness)

    def __enter__(self) -> None:
        outer, alone = current_block(), self._alone
        if outer is None:
            _block.set(alone)
            return
        merged = {**outer.options, **alone.options}
        _block.set(Block(merged, outer, alone.witness or outer.witness))

    def __exit__(self, *exception: object) -> None:
        inside = current_block()
        if inside is not None:
            _block.set(inside.outer)


def override(**options: Unpack[PerCallOptions]) -> Override:
    """Change keywords of ``wrap`` for the requests that begin inside a ``with`` block.

    ``with override(deadline=3, max_retries=0): ...`` works in sync and async code, for every
    wrapped client, and for the tasks that begin inside. Blocks nest: what an inner one does not
    name it inherits. ``max_retries`` here also counts more than ``with_options(max_retries=...)``.

    Raises:
        TypeError: If a keyword is unknown, or none of a single request's; the message says why.
        ValueError: If a value is out of its bounds.

    """
    checked = Config.from_options(options)
    for name in options:
        if name not in PER_CALL:
            raise TypeError(
                f"override() cannot change {name}: {_WHY_NOT[name]}. Give it to wrap();"
                f" a block can change: {', '.join(sorted(PER_CALL))}"
            )
    return Override({name: getattr(checked, name) for name in options})
