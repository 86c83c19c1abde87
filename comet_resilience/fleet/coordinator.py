"""The thread that renews all shares of one client.

A thread with a blocking client works the same under asyncio and trio, with several event loops and
consecutive runs, and while a loop is blocked. It starts with the first partition and ends when none
is left. A forked child starts its own.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import random
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from ..config import Config
from ..events import FleetChanged, FleetState
from ..limits.budget import Budget, Spending
from ..limits.eventloop import clock
from .draws import DrawReply
from .message import StoreError
from .renewal import MOST_SCOPES, exchange
from .scope import budget_key, keys_of
from .share import FleetShare, MakeAlgorithm, due_together
from .spending import SharedSpending
from .store import Store, client_maker

if TYPE_CHECKING:
    from ..limits.limiter import Limiter
    from ..limits.partition import Level

#: Seconds that the exit of the process waits for its members to leave.
EXIT_TIMEOUT: Final = 0.6

T = TypeVar("T")


class Coordinator:
    """Renews the shares of one limiter's partitions, and of the account above them.

    ``account`` is a digest; ``make`` and ``make_account`` return the algorithm that decides a
    partition's limit and the account's.
    """

    def __init__(
        self, store: Store, account: str, make: MakeAlgorithm, make_account: MakeAlgorithm
    ) -> None:
        self._store = store
        self._account = account
        self._make, self._make_account = make, make_account
        self._limiter: Limiter
        self._reset()
        _coordinators.add(self)

    def _reset(self) -> None:
        # The mutable state of this class. A forked child starts with its own.
        self._shares: list[weakref.ref[FleetShare]] = []
        self._spendings: list[weakref.ref[SharedSpending]] = []
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._state = FleetState.JOINING
        self._store.forget()

    def attach(self, limiter: Limiter) -> None:
        """Set the limiter whose partitions share."""
        self._limiter = limiter

    def new_share(self) -> FleetShare:
        """Return the algorithm of a new partition."""
        return self._new_share(self._make)

    def new_account_share(self) -> FleetShare:
        """Return the limit of a new account."""
        return self._new_share(self._make_account)

    def new_spending(self, name: str, budget: Budget, waiting: Callable[[], int]) -> Spending:
        """Return the spending of a named budget."""
        key = budget_key(self._account, name)
        return SharedSpending(budget, _member(), key, waiting, self._wake_for_draws, random.random)

    def _new_share(self, make: MakeAlgorithm) -> FleetShare:
        return FleetShare(_member(), make, self.wake, self._note, random.random)

    def join(self, level: Level) -> None:
        """Add a new partition or account; called under the limiter's lock."""
        share = level.slots.algorithm
        if isinstance(share, FleetShare):
            share.bind(level, keys_of(self._account, level.key))
            share.retired = self._limiter.note_retired(level.key)
            with self._lock:
                self._shares.append(weakref.ref(share))

    def _wake_for_draws(self, spending: SharedSpending) -> str:
        with self._lock:
            if not any(reference() is spending for reference in self._spendings):
                self._spendings.append(weakref.ref(spending))
        return self.wake()

    def wake(self) -> str:
        """Ask for an earlier renewal; return why that is impossible, or "".

        Called under the limiter's lock.
        """
        with self._lock:
            self._is_closing = False
            self._wakeup.set()
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="comet_resilience fleet", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads, or the interpreter is ending
                    return f"the thread of the fleet cannot start: {error}"
                self._thread = thread
        return ""

    def close(self) -> threading.Thread | None:
        """Make the thread return unused slots and end; return it if it is running.

        There is no need to join it. A later request starts another.
        """
        with self._lock:
            self._is_closing = True
            self._wakeup.set()
            return self._thread

    def _run(self) -> None:
        try:
            self._renew_until_idle()
        finally:
            with self._lock:  # even after an error the next request starts another
                if self._thread is threading.current_thread():
                    self._thread = None

    def _renew_until_idle(self) -> None:
        while self._has_work():
            now = clock()
            self._leave([share for share in _live(self._shares) if share.is_idle(now)], now)
            for batch in due_together(_live(self._shares), clock()):
                self._renew(batch)
            self._draw([one for one in _live(self._spendings) if one.due_at() <= clock()])
            due_at = self._next_due()
            if due_at < math.inf:
                self._wakeup.wait(max(0.0, due_at - clock()))

    def _has_work(self) -> bool:
        """Return False if nothing is left to renew: the shares are returned, the thread may end."""
        was_woken = self._wakeup.is_set()
        self._wakeup.clear()
        if not self._is_closing and (was_woken or self._next_due() < math.inf):
            return True
        self._leave(_live(self._shares), math.inf)
        self._leave_budgets()
        self._store.close()
        with self._lock:
            if self._wakeup.is_set() and not self._is_closing:  # a request arrived meanwhile
                return True
            self._thread = None
            return False

    def _next_due(self) -> float:
        """Return the time of the next renewal."""
        live: list[FleetShare | SharedSpending] = [*_live(self._shares), *_live(self._spendings)]
        for one in live:
            one.planned = one.due_at()
        return min((one.planned for one in live), default=math.inf)

    def _renew(self, shares: Sequence[FleetShare]) -> None:
        """Renew shares and report their samples."""
        asked = [self._limiter.adjust(share.partition, share.ask) for share in shares]
        results = exchange(self._store.send, asked)
        for share, one, result in zip(shares, asked, results, strict=True):
            self._limiter.adjust(share.partition, partial(share.conclude, one, result))

    def _leave(self, shares: Sequence[FleetShare], at: float) -> None:
        """Return shares, unless a request has arrived since they were found idle."""
        requests = [
            self._limiter.adjust(share.partition, partial(share.leave, at)) for share in shares
        ]
        leaving = [request for request in requests if request is not None]
        for first in range(0, len(leaving), MOST_SCOPES):
            with contextlib.suppress(StoreError):  # then they expire
                self._store.send(leaving[first : first + MOST_SCOPES])

    def _draw(self, spendings: Sequence[SharedSpending]) -> None:
        """Draw on budgets, and report corrections."""
        if not spendings:
            return
        asked = [(one.key, self._limiter.adjust(None, one.ask)) for one in spendings]
        results: Sequence[DrawReply | StoreError]
        try:
            results = self._store.draw(asked)
        except StoreError as error:
            results = [error] * len(asked)
        for spending, (_, request), result in zip(spendings, asked, results, strict=True):
            self._limiter.adjust(None, partial(spending.conclude, request, result))

    def _leave_budgets(self) -> None:
        """Return unused draws."""
        spendings = _live(self._spendings)
        requests = [(one.key, self._limiter.adjust(None, one.leave)) for one in spendings]
        leaving = [(key, request) for key, request in requests if request is not None]
        if leaving:
            with contextlib.suppress(StoreError):  # then they are lost
                self._store.draw(leaving)

    def _note(self, state: FleetState, why: str) -> None:
        """Note a share's new state; called under the limiter's lock."""
        if state is not self._state:
            self._limiter.note(FleetChanged(old=self._state, new=state, reason=why))
            self._state = state


def _member() -> str:
    """Return a name that is unique among all processes."""
    return f"{os.getpid()}-{os.urandom(6).hex()}"


def _live(references: list[weakref.ref[T]]) -> list[T]:
    """Return the objects that still exist, and drop the references to others."""
    found = [(reference, reference()) for reference in tuple(references)]
    for reference, one in found:
        if one is None:
            references.remove(reference)
    return [one for _, one in found if one is not None]


def coordinator_for(config: Config, account: str) -> Coordinator | None:
    """Return the coordinator of a client with ``fleet=``, ``None`` without it.

    Raises:
        ImportError: If a URL is given and redis-py is not installed.
        ValueError: If redis-py cannot read the URL.

    """
    fleet = config.as_fleet
    if fleet is None:
        return None
    store = Store(client_maker(fleet.redis))
    return Coordinator(store, account, config.make_algorithm, config.make_account_limit)


_coordinators: weakref.WeakSet[Coordinator] = weakref.WeakSet()


def _after_fork() -> None:
    for coordinator in _coordinators:
        coordinator._reset()  # noqa: SLF001 - the parent's thread is not the child's


def _at_exit() -> None:
    ending = [coordinator.close() for coordinator in tuple(_coordinators)]
    until = clock() + EXIT_TIMEOUT  # for all of them together
    for thread in ending:
        if thread is not None:
            thread.join(max(0.0, until - clock()))


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
