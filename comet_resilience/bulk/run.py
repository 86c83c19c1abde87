"""``run_all``: bulk work in a block of code that no task outlives."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args, overload

import anyio
from anyio.to_thread import run_sync
from openai import AsyncOpenAI

from ..client import engine_of
from ..keywords import check_choice
from ..log import logger
from .bar import Bar, make_bar
from .checkpoint import Checkpoint, check_stored
from .progress import Progress
from .results import BulkResults, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..call.engine import Engine

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Order = Literal["completed", "input"]
Errors = Literal["return", "raise"]
ShowProgress = Callable[[Progress], object]

#: Seconds between calls of ``progress``, and between those of ``fsync``.
SHOWN_EVERY: Final = 0.5
SYNCED_EVERY: Final = 1.0


@overload
def run_all(
    ask: Callable[[ItemT], Awaitable[ResultT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    client: AsyncOpenAI,
    order: Order = ...,
    errors: Literal["return"] = ...,
    finished: str | Path | None = ...,
    store_results: bool = ...,
    key: Callable[[ItemT], object] | None = ...,
    progress: bool | ShowProgress = ...,
    total: int | None = ...,
) -> AbstractAsyncContextManager[BulkResults[ItemT, ResultT | Exception]]: ...


@overload
def run_all(
    ask: Callable[[ItemT], Awaitable[ResultT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    client: AsyncOpenAI,
    order: Order = ...,
    errors: Literal["raise"],
    finished: str | Path | None = ...,
    store_results: bool = ...,
    key: Callable[[ItemT], object] | None = ...,
    progress: bool | ShowProgress = ...,
    total: int | None = ...,
) -> AbstractAsyncContextManager[BulkResults[ItemT, ResultT]]: ...


def run_all(
    ask: Callable[[ItemT], Awaitable[ResultT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    client: AsyncOpenAI,
    order: Order = "completed",
    errors: Errors = "return",
    finished: str | Path | None = None,
    store_results: bool = False,
    key: Callable[[ItemT], object] | None = None,
    progress: bool | ShowProgress = False,
    total: int | None = None,
) -> AbstractAsyncContextManager[BulkResults[Any, Any]]:
    """Call ``await ask(item)`` for each item, as many at once as the client's limiter can send.

    Use it as ``async with run_all(...) as results: async for item, result in results: ...``.
    No task outlives the block, however you leave it: at its end, by ``break``, an exception, a
    cancellation or Ctrl-C. Items are read one by one as calls begin; calls that have not begun take
    no memory.

    Args:
        ask: The call for one item, through ``client``; each runs in a task of its own.
        items: An iterable or an async iterable, read lazily by the event loop.
        client: The wrapped client that ``ask`` uses; its limiter sets the pace.
        order: ``"completed"`` returns results as they come, ``"input"`` in the order of the items;
            at most four times the limit wait for their turn.
        errors: ``"return"`` makes an ``Exception`` of ``ask`` the result of its item; ``"raise"``
            cancels the rest and raises it.
        finished: A file that records finished items, so that the run continues after being killed:
            an item is finished when the loop comes back for the next one. Items that failed are
            not, nor is the one at which the loop was left.
        store_results: Store each result in that file before it is returned, so that no answered
            call is ever repeated. Results must be JSON types; one that JSON would not restore
            exactly (a tuple, a number as a dict's key, NaN, too deep a nesting) is returned but not
            stored, and the log says so once. An ``ask`` whose annotation cannot be stored is
            refused before anything is sent.
        key: A function from an item to its name in that file: text, a number, or lists and dicts
            of these. By default the item itself. Items with equal keys are one item.
        progress: A function that is called with a ``Progress`` twice a second and at the end, or
            ``True`` for a bar in the terminal.
        total: The number of items, where ``len(items)`` does not tell it.

    Raises:
        TypeError: If ``client`` is not wrapped, or the annotation of ``ask`` says that its results
            cannot be stored; from the loop: if a key or a result cannot be stored.
        ValueError: If a choice is unknown, or ``finished`` is some other file (from the block).
        ImportError: If ``progress=True`` and rich is not installed.
        OSError: If the file cannot be read, locked or written (from the block, and from the loop
            after all results that were paid for), or belongs to another user.

    """
    check_choice("order", order, get_args(Order))
    check_choice("errors", errors, get_args(Errors))
    if finished is None and (store_results or key is not None):
        raise ValueError("store_results and key need the file of finished=..., which is None")
    if store_results:
        check_stored(ask)
    plan = Plan(
        ask=ask,
        items=items,
        engine=_engine_of(client),
        in_order=order == "input",
        raises=errors == "raise",
        checkpoint=None if finished is None else Checkpoint(finished),
        stores=store_results,
        key=key,
        total=total,
    )
    return _block(plan, make_bar() if progress is True else progress or None)


def _engine_of(client: object) -> Engine:
    engine = engine_of(client)
    if engine is None:
        raise TypeError(
            f"client: expected one made by wrap(), whose limiter sets the pace, got"
            f" {type(client).__name__}{' as it is' if isinstance(client, AsyncOpenAI) else ''}"
        )
    return engine


@asynccontextmanager
async def _block(plan: Plan, show: ShowProgress | None) -> AsyncIterator[BulkResults[Any, Any]]:
    async with _opened(plan.checkpoint):
        results: BulkResults[Any, Any] = BulkResults(plan)
        with _shown(results, show) as shown, _unwrapped():
            failure: BaseException | None = None
            async with anyio.create_task_group() as tasks:
                await tasks.start(results.work)
                if plan.checkpoint is not None:
                    tasks.start_soon(_keep_synced, results, plan.checkpoint)
                if shown is not None:
                    tasks.start_soon(_keep_shown, results, shown)
                try:
                    yield results
                except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001
                    failure = error  # raised again below: the group would wrap it
                finally:
                    results.end()
                    tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure


@asynccontextmanager
async def _opened(checkpoint: Checkpoint | None) -> AsyncIterator[None]:
    """Read and close the file in a thread: millions of lines take seconds."""
    if checkpoint is None:
        yield
        return
    try:
        with anyio.CancelScope(shield=True):
            await _in_thread(checkpoint.open)
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await _in_thread(checkpoint.close)


async def _in_thread(function: Callable[[], None]) -> None:
    """Run a blocking function in a thread, or in this one if none can start."""
    try:
        await run_sync(function)
    except RuntimeError as error:
        if "new thread" not in str(error):
            raise
        function()


@contextmanager
def _shown(
    results: BulkResults[object, object], show: ShowProgress | None
) -> Iterator[Callable[[], None] | None]:
    """Yield a function that shows the progress; call it again at the end, then close the bar."""
    if show is None:
        yield None
        return
    failed = False

    def shown() -> None:
        nonlocal failed
        try:
            if not failed:
                show(results.progress())
        except Exception:  # noqa: BLE001 - a broken display must not end the run
            failed = True
            logger.exception("progress failed; it is not called again")

    try:
        yield shown
    finally:
        shown()
        if isinstance(show, Bar):
            show.close()


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Unwrap a single exception of a task (Ctrl-C on trio, say) from its exception groups."""
    try:
        yield
    except BaseExceptionGroup as group:
        only: BaseException = group
        while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
            only = only.exceptions[0]
        raise only from None


async def _keep_synced(results: BulkResults[object, object], checkpoint: Checkpoint) -> None:
    while results.is_open:
        await anyio.sleep(SYNCED_EVERY)
        try:
            await _in_thread(checkpoint.sync)
        except OSError as error:  # the next write fails in the loop, after the results paid for
            logger.warning("the file of finished items could not be flushed to the disk: %s", error)


async def _keep_shown(results: BulkResults[object, object], shown: Callable[[], None]) -> None:
    while results.is_open:
        await anyio.sleep(SHOWN_EVERY)
        shown()
