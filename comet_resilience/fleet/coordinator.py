"""The thread that renews the shares of one client; one for all its partitions.

A thread with a blocking client, because it works the same below asyncio and trio, several loops
and consecutive runs, and goes on while a loop is busy; no request ever waits for it. It starts
with the first partition, and ends when there is none left. A forked child starts its own.
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

#: Seconds that the end of the process waits for the farewell.
FAREWELL: Final = 0.6

T = TypeVar("T")


class Coordinator:
    """Renews the shares of one limiter's partitions, and of the account above them.

    ``account`` is a digest, ``make`` makes the algorithm that decides a partition's limit,
    ``make_account`` that of the account.
    """

    def __init__(
        self, store: Store, account: str, make: MakeAlgorithm, make_account: MakeAlgorithm
    ) -> None:
        self._store = store
        self._account = account
        self._make, self._make_account = make, make_account
        self._limiter: Limiter
        self._start_afresh()
        _coordinators.add(self)

    def _start_afresh(self) -> None:
        # The mutable state of this class. A forked child starts with its own, empty.
        self._shares: list[weakref.ref[FleetShare]] = []
        self._spendings: list[weakref.ref[SharedSpending]] = []
        self._lock = threading.Lock()
        self._word = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._state = FleetState.JOINING
        self._store.forget()

    def limit_by(self, limiter: Limiter) -> None:
        """Take the limiter whose partitions these are."""
        self._limiter = limiter

    def new_share(self) -> FleetShare:
        """Return the algorithm of a new partition."""
        return self._new_share(self._make)

    def new_account_share(self) -> FleetShare:
        """Return the limit of a new account."""
        return self._new_share(self._make_account)

    def new_spending(self, name: str, budget: Budget, waiting: Callable[[], int]) -> Spending:
        """Return the spending of a budget of that name."""
        key = budget_key(self._account, name)
        return SharedSpending(budget, _member(), key, waiting, self._wake_to_draw, random.random)

    def _new_share(self, make: MakeAlgorithm) -> FleetShare:
        return FleetShare(_member(), make, self.wake, self._note, random.random)

    def join(self, level: Level) -> None:
        """Take a new partition or account in; called under the limiter's lock."""
        share = level.slots.algorithm
        if isinstance(share, FleetShare):
            share.bind(level, keys_of(self._account, level.key))
            share.retired = self._limiter.note_retired(level.key)
            with self._lock:
                self._shares.append(weakref.ref(share))

    def _wake_to_draw(self, spending: SharedSpending) -> str:
        with self._lock:
            if not any(reference() is spending for reference in self._spendings):
                self._spendings.append(weakref.ref(spending))
        return self.wake()

    def wake(self) -> str:
        """Have a renewal made sooner than the thread has planned.

        Return why that cannot be, "" if it can. Called under the limiter's lock.
        """
        with self._lock:
            self._is_closing = False
            self._word.set()
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="comet_resilience fleet", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads, or the interpreter is ending
                    return f"the thread that asks the fleet cannot start: {error}"
                self._thread = thread
        return ""

    def close(self) -> threading.Thread | None:
        """Have the thread give back what is not in use, and end; return it if it runs.

        Nobody need wait for it. A later request starts another.
        """
        with self._lock:
            self._is_closing = True
            self._word.set()
            return self._thread

    def _run(self) -> None:
        try:
            self._renew_until_idle()
        finally:
            with self._lock:  # whatever ended it, the next request starts another
                if self._thread is threading.current_thread():
                    self._thread = None

    def _renew_until_idle(self) -> None:
        while self._goes_on():
            now = clock()
            self._leave([share for share in _alive(self._shares) if share.is_idle(now)], now)
            for batch in due_together(_alive(self._shares), clock()):
                self._renew(batch)
            self._draw([one for one in _alive(self._spendings) if one.due_at() <= clock()])
            due_at = self._plan()
            if due_at < math.inf:
                self._word.wait(max(0.0, due_at - clock()))

    def _goes_on(self) -> bool:
        """Tell whether there is anything to do; if not, give all back, and let the thread end."""
        has_word = self._word.is_set()
        self._word.clear()
        if not self._is_closing and (has_word or self._plan() < math.inf):
            return True
        self._leave(_alive(self._shares), math.inf)
        self._leave_budgets()
        self._store.close()
        with self._lock:
            if self._word.is_set() and not self._is_closing:  # a request came meanwhile
                return True
            self._thread = None
            return False

    def _plan(self) -> float:
        """Return when to renew next."""
        renewed: list[FleetShare | SharedSpending] = [
            *_alive(self._shares),
            *_alive(self._spendings),
        ]
        for one in renewed:
            one.planned = one.due_at()
        return min((one.planned for one in renewed), default=math.inf)

    def _renew(self, shares: Sequence[FleetShare]) -> None:
        """Renew shares: ask for them, report samples if there are any, take what comes."""
        asked = [self._limiter.adjust(share.partition, share.ask) for share in shares]
        results = exchange(self._store.send, asked)
        for share, one, result in zip(shares, asked, results, strict=True):
            self._limiter.adjust(share.partition, partial(share.conclude, one, result))

    def _leave(self, shares: Sequence[FleetShare], at: float) -> None:
        """Give shares back, unless a request has come since they were looked at."""
        farewells = [
            self._limiter.adjust(share.partition, partial(share.leave, at)) for share in shares
        ]
        leaving = [farewell for farewell in farewells if farewell is not None]
        for first in range(0, len(leaving), MOST_SCOPES):
            with contextlib.suppress(StoreError):  # then they run out by themselves
                self._store.send(leaving[first : first + MOST_SCOPES])

    def _draw(self, spendings: Sequence[SharedSpending]) -> None:
        """Draw on budgets, and tell them what was spent beside."""
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
        """Give back what was drawn and not used."""
        spendings = _alive(self._spendings)
        farewells = [(one.key, self._limiter.adjust(None, one.leave)) for one in spendings]
        leaving = [(key, request) for key, request in farewells if request is not None]
        if leaving:
            with contextlib.suppress(StoreError):  # then it is lost
                self._store.draw(leaving)

    def _note(self, state: FleetState, why: str) -> None:
        """Note a share's new state; called under the limiter's lock."""
        if state is not self._state:
            self._limiter.note(FleetChanged(old=self._state, new=state, reason=why))
            self._state = state


def _member() -> str:
    """Return a name that no other member has, in no process."""
    return f"{os.getpid()}-{os.urandom(6).hex()}"


def _alive(references: list[weakref.ref[T]]) -> list[T]:
    """Return what still exists, and forget the rest."""
    alive = [(reference, reference()) for reference in tuple(references)]
    if any(one is None for _, one in alive):
        gone = {id(reference) for reference, one in alive if one is None}
        references[:] = [kept for kept in references if id(kept) not in gone]
    return [one for _, one in alive if one is not None]


def coordinator_for(config: Config, account: str) -> Coordinator | None:
    """Return what renews the shares of a client with ``fleet=``, ``None`` without.

    Raises:
        ImportError: If a URL is given and redis-py is not installed.
        ValueError: If the URL cannot be read.

    """
    fleet = config.as_fleet
    if fleet is None:
        return None
    store = Store(client_maker(fleet.redis))
    return Coordinator(store, account, config.make_algorithm, config.make_account_limit)


_coordinators: weakref.WeakSet[Coordinator] = weakref.WeakSet()


def _after_fork() -> None:
    for coordinator in _coordinators:
        coordinator._start_afresh()  # noqa: SLF001 - the parent's thread is not the child's


def _at_exit() -> None:
    ending = [coordinator.close() for coordinator in tuple(_coordinators)]
    until = clock() + FAREWELL  # for all of them together
    for thread in ending:
        if thread is not None:
            thread.join(max(0.0, until - clock()))


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
