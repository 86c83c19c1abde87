"""A run in progress: it reads the items, begins the calls and returns their results.

The tasks live in a task group that ``run_all`` holds open around the caller's block. The results
come from an iterator object and not from a generator with a task group inside, because a ``yield``
within a cancel scope cancels the wrong task (PEP 789).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
)
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast

import anyio
from anyio import lowlevel

from ..limits.eventloop import clock
from ..log import logger
from ..overrides import Override, current_block
from .checkpoint import Checkpoint, InexactResultError
from .keys import name_of
from .pace import BulkCall, Pace
from .progress import Progress, Rate, eta

if TYPE_CHECKING:
    from collections.abc import Hashable

    from anyio.abc import TaskGroup, TaskStatus

    from ..call.engine import Engine
    from ..limits.limiter import Limiter
    from ..overrides import HearsUsage
    from ..verdict.usage import Usage

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")

#: The most calls that begin, or finished items that are skipped, before other tasks run.
AT_ONCE: Final = 8
#: Seconds after which the limiter is checked again although no call has ended.
LOOKS_AFTER: Final = 0.05


#: The run and the call that a task works for, inherited by the tasks that it starts.
_works_for: ContextVar[tuple[object, BulkCall] | None] = ContextVar(
    "comet_resilience_bulk_call", default=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The arguments of ``run_all``, checked."""

    ask: Callable[[Any], Awaitable[Any]]
    items: Iterable[Any] | AsyncIterable[Any]
    engine: Engine
    in_order: bool
    raises: bool
    checkpoint: Checkpoint | None
    stores: bool
    key: Callable[[Any], object] | None
    total: int | None


class Source(Generic[ItemT]):
    """Both kinds of iterables as one async iterator. Nothing is read ahead.

    It is not a generator: an abandoned one would need the event loop to clean it up.
    """

    def __init__(self, items: Iterable[ItemT] | AsyncIterable[ItemT]) -> None:
        self._is_async = isinstance(items, AsyncIterable)
        self._items: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        if self._is_async:
            return cast("ItemT", await anext(self._items))
        for item in self._items:
            return cast("ItemT", item)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let an async generator clean up while its event loop runs; others belong to the user."""
        if isinstance(self._items, AsyncGenerator):
            await self._items.aclose()


def size_of(items: object) -> int | None:
    """Return the number of items, ``None`` if it is unknown before they are read."""
    try:
        return len(cast("Any", items))
    except TypeError:
        return None


class BulkResults(Generic[ItemT, ValueT]):
    """The results of ``run_all``: pairs of an item and its result, for ``async for``."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._source: Source[Any] = Source(plan.items)
        self._total = size_of(plan.items) if plan.total is None else plan.total
        block = current_block()
        # The run causes its own waits for slots: they must not fail its calls or delay others.
        self._options: dict[str, object] = {"queue_timeout": None}
        if block is None or "priority" not in block.options:
            self._options["priority"] = "bulk"
        config = plan.engine.config if block is None else block.over(plan.engine.config)
        self._pace = Pace(
            plan.engine.limiter.load_of,
            plan.engine.config.max_queue,
            has_deadline=config.deadline is not None,
        )
        # The mutable state: calls whose results come next, in order, and what has happened so far.
        self._queue: deque[BulkCall] = deque()
        self._handed: BulkCall | None = None
        self._is_read = self._is_closed = False
        self._source_error: Exception | None = None
        self._broken: OSError | TypeError | None = None
        self._skipped = self._answered = self._failed = 0
        self._started = clock()
        self._rate, self._token_rate = Rate(self._started), Rate(self._started)
        self._tokens = 0
        self._calls: TaskGroup
        self._room, self._progressed, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        self._is_asked = self._warned_of_unstored = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[ItemT, ValueT]:
        if self._is_asked:
            raise RuntimeError("results can be read by one task at a time")
        self._is_asked = True
        try:
            self._acknowledge()
            call = await self._next_over()
        finally:
            self._is_asked = False
        self._pace.held -= 1
        self._room.set()
        if call.error is None:
            self._handed = call
            return call.item, call.value
        if self._plan.raises:
            self.end()
            is_end = isinstance(call.error, StopAsyncIteration)  # which would just end the loop
            raise _foreign(call.error) if is_end else call.error
        error: Any = call.error  # which ``ValueT`` includes
        return call.item, error

    async def aclose(self) -> None:
        """Cancel the calls under way and end the iteration; return when no task is left.

        Leaving the block does the same; this is for code that continues inside of it.
        """
        self.end()
        await self._ended.wait()

    def end(self) -> None:
        """Cancel the calls under way; no more results are returned."""
        self._is_closed = True
        self._calls.cancel_scope.cancel()
        self._progressed.set()

    @property
    def is_open(self) -> bool:
        """Return whether there may be more results."""
        return not self._is_closed

    def progress(self) -> Progress:
        """Return the progress of the run."""
        now = clock()
        over = self._answered + self._failed
        rate = self._rate.at(now, over)
        return Progress(
            total=self._total,
            skipped=self._skipped,
            answered=self._answered,
            failed=self._failed,
            running=self._pace.running,
            elapsed=now - self._started,
            rate=rate,
            eta=eta(self._total, self._skipped + over, rate),
            limit=self._pace.limit(),
            refused=self._pace.refused(),
            tokens=self._tokens,
            tokens_per_minute=60 * self._token_rate.at(now, self._tokens),
        )

    async def work(self, *, task_status: TaskStatus[None]) -> None:
        """Begin the calls, each in a task of its own, until all are over or the run is closed."""
        try:
            with Override(self._options, self._note_request):
                async with anyio.create_task_group() as self._calls:
                    task_status.started()
                    await self._begin_all()
        finally:
            self._ended.set()
            self._progressed.set()

    def _acknowledge(self) -> None:
        """Record that the reader came back, and is done with its last result."""
        handed, self._handed = self._handed, None
        if handed is not None and self._plan.checkpoint is not None:
            try:
                self._plan.checkpoint.done(handed.name)
            except OSError as error:
                self._stop_beginning(error)

    async def _next_over(self) -> BulkCall:
        await lowlevel.checkpoint()
        while not (self._is_closed or (self._queue and self._queue[0].is_over)):
            self._raise_if_read()
            self._progressed = anyio.Event()
            await self._progressed.wait()
        if self._is_closed:
            raise StopAsyncIteration
        return self._queue.popleft()

    def _raise_if_read(self) -> None:
        if self._pace.running or self._queue or not (self._is_read or self._broken):
            return
        error = self._broken or self._source_error
        self._broken = self._source_error = None
        if error is not None:
            self.end()
        raise error or StopAsyncIteration

    async def _begin_all(self) -> None:
        try:
            await self._read_source()
        except Exception as error:  # noqa: BLE001 - raised after the results
            self._source_error = error
        finally:
            with anyio.CancelScope(shield=True):
                await self._source.aclose()
        self._is_read = True
        self._progressed.set()

    async def _read_source(self) -> None:
        turns, room = 0, 1
        async for item in self._source:
            if self._broken is not None:
                return
            room -= self._begin(item)
            turns += 1
            if turns % AT_ONCE == 0:
                await lowlevel.checkpoint()
            if room < 1:
                room = min(AT_ONCE, await self._wait_for_room())

    def _store(self, checkpoint: Checkpoint, call: BulkCall) -> None:
        """Store a result in the file; one that cannot be stored is returned all the same."""
        try:
            checkpoint.answered(call.name, call.value)
        except (OSError, TypeError) as error:
            if not isinstance(error, InexactResultError):  # nor can the next ones
                self._stop_beginning(error)
            elif not self._warned_of_unstored:
                self._warned_of_unstored = True
                what = "store_results: %s; such results are returned but not stored in the file"
                logger.warning(what, error)

    def _stop_beginning(self, error: OSError | TypeError) -> None:
        """Return what was paid for, begin nothing, then raise: the file accepts no more."""
        self._broken = self._broken or error
        self._room.set()
        self._progressed.set()

    async def _wait_for_room(self) -> int:
        while (room := self._pace.room(clock())) < 1 and self._broken is None:
            self._room = anyio.Event()
            with anyio.move_on_after(LOOKS_AFTER):
                await self._room.wait()
        return room

    def _begin(self, item: object) -> bool:
        """Begin the call for an item; ``False`` if it needs none."""
        call, checkpoint = BulkCall(item, b"", clock()), self._plan.checkpoint
        if checkpoint is not None:
            call.name = name_of(item if self._plan.key is None else self._plan.key(item))
            if not checkpoint.add(call.name):
                self._skipped += 1
                return False
            call.is_over, call.value = checkpoint.stored(call.name)
        if call.is_over:
            self._pace.held += 1
            self._skipped += 1
            self._queue.append(call)
            self._progressed.set()
            return False
        self._pace.began(call)
        if self._plan.in_order:
            self._queue.append(call)
        self._calls.start_soon(self._run, call)
        return True

    async def _run(self, call: BulkCall) -> None:
        _works_for.set((self, call))
        try:
            call.value = await self._plan.ask(call.item)
        except Exception as error:  # noqa: BLE001 - for the reader
            call.error = error
        except anyio.get_cancelled_exc_class() as error:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            call.error = _foreign(error)  # a task that ``ask`` waited for was cancelled
        finally:
            self._pace.ended(call)
            self._room.set()
        self._settle(call)

    def _note_request(self, limiter: Limiter, key: Hashable) -> HearsUsage | None:
        run, call = _works_for.get() or (None, None)
        if run is not self or limiter is not self._plan.engine.limiter:
            return None
        if call is not None and not call.is_over and self._pace.asked(call, key):
            self._room.set()
        return self._note_usage

    def _note_usage(self, usage: Usage) -> None:
        self._tokens += usage.total_tokens

    def _settle(self, call: BulkCall) -> None:
        """Store the result of a call that is over, and wake the reader."""
        call.is_over = True
        if call.error is not None:
            self._failed += 1
        else:
            self._answered += 1
            if self._plan.checkpoint is not None and self._plan.stores:
                self._store(self._plan.checkpoint, call)
        if not self._plan.in_order:
            self._queue.append(call)
        self._progressed.set()


def _foreign(error: BaseException) -> RuntimeError:
    """Return an ordinary exception in place of one that has a meaning for loops and tasks."""
    ordinary = RuntimeError(f"{type(error).__name__} was raised while an item was asked for")
    ordinary.__cause__ = error
    return ordinary
