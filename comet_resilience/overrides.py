"""Keywords for a block of code: ``with override(deadline=3): ...``.

A block is a value in a context variable, so tasks that begin inside of it inherit it and other
tasks never see it. Who leaves it takes back what was entered and nothing else: blocks of two
generators may end in any order, and one that an event loop ends on behalf of a generator that was
dropped, in a context of its own, is over everywhere.

What a block says is merged with the blocks around it when it is entered and with a client's
configuration at the first request; a request outside of any block pays one look at the variable.

A block's word counts more than the client's, ``with_options(max_retries=...)`` included, and an
inner block's more than an outer one's. A request keeps the word under which it began, also when
its stream is read after the block.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar, Token
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Unpack

from .config import Config, IncompleteStream, Opening, PerCallOptions
from .keywords import implemented_by
from .limits.priority import Priority
from .verdict.retry import Jitter, RetryAmbiguous, WaitGenerator

if TYPE_CHECKING:
    from .limits.limiter import Limiter
    from .verdict.usage import Usage

PER_CALL: Final = frozenset(PerCallOptions.__annotations__)

_SHARED_LIMIT: Final = "all requests of a partition share one limit"
_WHY_NOT: Final = {
    "initial_concurrency": _SHARED_LIMIT,
    "min_concurrency": _SHARED_LIMIT,
    "max_concurrency": _SHARED_LIMIT,
    "algorithm": _SHARED_LIMIT,
    "budget": "all requests of an account or a model share it",
    "max_queue": "all requests of a partition share one queue",
    "fleet": "the processes of a fleet share it",
    "partition": "a request that changed its partition would escape the limit that others keep",
    "rules": "one client judges one answer in one way",
    "on_event": "observers belong to the client; an event names its request",
    "journal": "the journal belongs to the client; it would have gaps",
}

#: Hears what an answer says that it took.
HearsUsage = Callable[["Usage"], object]
#: Hears of each request that begins in a block: whose limiter, and which partition. It may return
#: who is to hear of the tokens that the request takes.
Witness = Callable[["Limiter", Hashable], HearsUsage | None]


class Block:
    """The merged options of a block of code, and the witness of its requests."""

    __slots__ = ("_last", "options", "witness")

    def __init__(self, options: Mapping[str, Any], witness: Witness | None) -> None:
        self.options: Mapping[str, Any] = options
        self.witness: Witness | None = witness
        self._last: tuple[Config, Config] | None = None

    def over(self, config: Config) -> Config:
        """Return a client's configuration with this block's options in place of its own."""
        if self._last is None or self._last[0] is not config:
            self._last = (config, replace(config, **self.options))
        return self._last[1]


class _Entry:
    """A block that was entered, by whom, and in which other one; ``is_over`` wherever it is."""

    __slots__ = ("block", "is_over", "outer", "owner", "token")

    def __init__(self, block: Block, outer: _Entry | None, owner: Override) -> None:
        self.block: Block = block
        self.outer: _Entry | None = outer
        self.owner: Override = owner
        self.is_over: bool = False
        self.token: Token[_Entry | None] | None = None


#: The block that was entered last in this context; ``current_block`` says whether it still holds.
entered: Final[ContextVar[_Entry | None]] = ContextVar("comet_resilience_block", default=None)


def _current_entry() -> _Entry | None:
    entry = entered.get()
    while entry is not None and entry.is_over:
        entry = entry.outer
    return entry


def current_block() -> Block | None:
    """Return the block that the running code is in, ``None`` outside of any."""
    entry = _current_entry()
    return None if entry is None else entry.block


class Override:
    """A block made by ``override()``, entered by ``with`` any number of times, in any tasks."""

    __slots__ = ("_alone", "_open")

    def __init__(self, options: Mapping[str, Any], witness: Witness | None = None) -> None:
        self._alone = Block(options, witness)
        self._open: list[_Entry] = []

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._alone.options.items())
        return f"override({options})"

    def __enter__(self) -> None:
        outer, block = _current_entry(), self._alone
        if outer is not None:
            merged = {**outer.block.options, **block.options}
            block = Block(merged, block.witness or outer.block.witness)
        entered.set(outer)  # no token is to keep what is over
        entry = _Entry(block, outer, self)
        entry.token = entered.set(entry)
        self._open.append(entry)

    def __exit__(self, *exception: object) -> None:
        entry = self._entry_to_leave()
        if entry is None:
            return
        self._open.remove(entry)
        if not _left_in_order(entry):
            entry.is_over = True
        entry.token = None

    def _entry_to_leave(self) -> _Entry | None:
        """Return the innermost of our entries open in this context, or the only one at all."""
        entry = _current_entry()
        while entry is not None and (entry.owner is not self or entry.is_over):
            entry = entry.outer
        if entry is None and len(self._open) == 1:
            return self._open[0]
        return entry


def _left_in_order(entry: _Entry) -> bool:
    """Go back to what was before an entry, if it is the latest of the context that entered it."""
    if entry.token is None or entered.get() is not entry:
        return False
    try:
        entered.reset(entry.token)
    except ValueError:  # entered in another context
        return False
    return True


class _Unchanged:
    """The default of a keyword that a block leaves to the code around it."""

    def __repr__(self) -> str:
        return "unchanged"


#: A keyword that is not given keeps the value of the block around, or of the client.
UNCHANGED: Final[Any] = _Unchanged()


def _override(**options: Unpack[PerCallOptions]) -> Override:
    checked = Config.from_options(options)
    for name in options:
        if name not in PER_CALL:
            raise TypeError(
                f"override() cannot change {name}: {_WHY_NOT[name]}. Give it to wrap();"
                f" a block can change: {', '.join(sorted(PER_CALL))}"
            )
    return Override({name: getattr(checked, name) for name in options})


@implemented_by(_override)
def override(
    *,
    max_retries: int = UNCHANGED,
    backoff_initial: float = UNCHANGED,
    backoff_max: float = UNCHANGED,
    max_retry_after: float = UNCHANGED,
    wait: WaitGenerator = UNCHANGED,
    jitter: Jitter | None = UNCHANGED,
    retry_ambiguous: RetryAmbiguous = UNCHANGED,
    deadline: float | None = UNCHANGED,
    queue_timeout: float | None = UNCHANGED,
    priority: Priority = UNCHANGED,
    stall_timeout: float | None = UNCHANGED,
    incomplete_stream: IncompleteStream = UNCHANGED,
    opening: Opening = UNCHANGED,
) -> Override:
    """Change keywords of ``wrap`` for the requests that begin inside a ``with`` block.

    ``with override(deadline=3, max_retries=0): ...`` works in sync and async code, for every
    wrapped client, and for the tasks that begin inside. Blocks nest: what an inner one does not
    name it inherits. ``max_retries`` here also counts more than ``with_options(max_retries=...)``.

    Args:
        max_retries: Retries after the first attempt (0 to 1000 retries).
        backoff_initial: Longest wait before the first retry; doubles with each further one (0 to
            3600 seconds).
        backoff_max: Upper bound of the waits that the server does not ask for (0 to 86400
            seconds).
        max_retry_after: Give up at once if the server asks for a longer wait (0 to 86400 seconds).
        wait: Wait generator as in the package ``backoff``: ``backoff.fibo``,
            ``partial(backoff.constant, interval=2)``; ``backoff_initial`` applies to ``expo``
            alone.
        jitter: Function that turns the longest wait into the actual one, such as
            ``backoff.random_jitter``; by default 75 to 100 % of it, or 40 to 100 % of waits up to
            2 s.
        retry_ambiguous: What is retried although the failed attempt may have been carried out and
            billed: ``text`` (all but images, videos, speech), ``all``, ``none``.
        deadline: Time for the whole request until its answer begins, with all attempts and waits
            (0.001 to 86400 seconds, or None).
        queue_timeout: Longest wait for a slot (0 to 86400 seconds, or None).
        priority: Place in the queue: ``high``, ``normal``, ``low``, ``bulk`` (the default of
            ``run_all``), or a whole number from -10 (first) to 10 (last); nobody starves.
        stall_timeout: Longest wait for the next event of a stream, the first included; keep-alives
            do not count (0.001 to 86400 seconds, or None).
        incomplete_stream: What to do where a stream ends without its terminal event: ``raise``, or
            only ``warn``.
        opening: Events before a stream's first output: ``hold`` them back, so that a failure among
            them is retried, or ``pass`` them on at once.

    Raises:
        TypeError: If a keyword is unknown, or none of a single request's; the message says why.
        ValueError: If a value is out of its bounds.

    """
    raise NotImplementedError
