"""One process of a fleet: workers in a loop drive the real engine against the shared gateway."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from random import Random
from typing import Final

from comet_resilience.call.engine import Engine
from comet_resilience.config import Config
from comet_resilience.limits.algorithm import LimitAlgorithm, StepBack
from comet_resilience.limits.budget import Budget, Cost
from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.partition import Lease
from comet_resilience.limits.partitions import InAccount
from comet_resilience.verdict.vocabulary import Signal

from ..sim.policies import Refusal, product_retry
from .gateway import SharedGateway

#: The one partition of most runs.
KEY: Final = "model"
#: Seconds after which a refusal is heard.
_REFUSAL_TIME: Final = 0.003


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one process does in one run; times in seconds of the monotonic clock.

    ``fixed`` is a limit that never moves, else the library's own starts at ``initial`` and grows
    to ``most`` at most. ``think`` is how long a worker pauses between two requests, ``active``
    from when to when they work, again after ``period``. ``spread`` is that of a log-normal
    service time with that median; 0 makes it exponential, with that mean. With ``models`` each
    request is for one of so many, which have a limit of that kind each, below one of the account.
    ``budget`` is told: so many requests a minute.
    """

    url: str
    account: str
    begins: float
    ends: float
    workers: int
    fixed: int | None = None
    budget: int | None = None
    models: int = 0
    initial: int = Config().initial_concurrency
    most: int = Config().max_concurrency
    service: float = 0.2
    spread: float = 0.0
    think: float = 0.0
    active: tuple[float, float] = (0.0, math.inf)
    period: float = math.inf
    seed: int = 0

    def algorithm(self) -> LimitAlgorithm:
        """The algorithm of the fleet's limit."""
        if self.fixed is not None:
            return FixedLimit(self.fixed)
        return StepBack(self.initial, 1, self.most)


@dataclass(slots=True)
class Report:
    """What one process saw: waits as ``(when asked, seconds)``, calls as ``(when, seconds)``.

    A call is ``acquire_nowait`` or ``release``, which no request should wait in.
    """

    waits: list[tuple[float, float]] = field(default_factory=list)
    calls: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)


def serve(member: int, gateway: SharedGateway, orders: Connection) -> None:
    """Carry out orders until there is none."""
    orders.send(os.getpid())
    while True:
        order = orders.recv()
        if order is None:
            return
        orders.send(asyncio.run(_Work(member, gateway, order).run()))


class _Work:
    def __init__(self, member: int, gateway: SharedGateway, order: Order) -> None:
        self._member, self._gateway, self._order = member, gateway, order
        self._random = Random(f"{order.seed} {member}")
        self._report = Report()
        options: dict[str, object] = {
            "fleet": order.url,
            "algorithm": order.algorithm,
            "on_event": self._note,
        }
        if order.budget is not None:
            options["budget"] = Budget(requests=order.budget)
        self._engine = Engine(Config.from_options(options), order.account)
        if order.fixed is not None and self._engine.fleet is not None:
            self._engine.fleet._make_account = order.algorithm
        self._limiter = self._engine.limiter

    async def run(self) -> Report:
        """All workers until the end; then leave the fleet."""
        await self._until(self._order.begins)
        workers = [asyncio.create_task(self._worker()) for _ in range(self._order.workers)]
        for ended in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(ended, BaseException):
                self._report.errors.append(repr(ended))
        self._engine.close()
        return self._report

    def _note(self, event: object) -> None:
        limit = getattr(event, "new", None)
        if isinstance(limit, int):
            self._report.changes.append((time.monotonic(), limit))

    async def _worker(self) -> None:
        order = self._order
        while (now := time.monotonic()) < order.ends:
            wakes = self._works_at(now)
            if wakes > now:
                await self._until(min(wakes, order.ends))
                continue
            await self._request()
            await asyncio.sleep(order.think * self._random.uniform(0.5, 1.5))

    def _works_at(self, now: float) -> float:
        """When this process works next."""
        order = self._order
        begins, ends = order.active
        since = now - order.begins
        if order.period < math.inf:
            since %= order.period
        if since < begins:
            return now + begins - since
        return now if since < ends else now + order.period - since + begins

    async def _request(self) -> None:
        asked, key = time.monotonic(), self._key()
        lease = await self._lease(key, None)
        self._report.waits.append((asked, time.monotonic() - asked))
        attempts = 1
        while not self._gateway.enter(self._member):
            await asyncio.sleep(_REFUSAL_TIME)
            self._release(lease, Signal.OVERLOAD)
            pause = product_retry(attempts, Refusal(429, None), self._random.random())
            if pause is None:
                raise RuntimeError("out of retries")
            await asyncio.sleep(pause)
            if time.monotonic() > self._order.ends:
                return
            lease = await self._lease(key, lease.order)
            attempts += 1
        await asyncio.sleep(self._service_time())
        self._gateway.leave(self._member)
        self._release(lease, Signal.SUCCESS)

    async def _lease(self, key: Hashable, order: int | None) -> Lease:
        standing = Standing(cost=Cost(KEY)) if self._order.budget else None
        if order is None:
            began = time.perf_counter()
            lease = self._limiter.acquire_nowait(key, request=standing)
            self._took(began)
            if lease is not None:
                return lease
        return await self._limiter.acquire(key, order, request=standing)

    def _key(self) -> Hashable:
        models = self._order.models
        return InAccount(None, f"{KEY} {self._random.randrange(models)}") if models else KEY

    def _release(self, lease: Lease, signal: Signal) -> None:
        began = time.perf_counter()
        lease.release(signal)
        self._took(began)

    def _took(self, began: float) -> None:
        self._report.calls.append((time.monotonic(), time.perf_counter() - began))

    def _service_time(self) -> float:
        order = self._order
        if order.spread:
            drawn = self._random.lognormvariate(math.log(order.service), order.spread)
            return min(max(drawn, 0.15 * order.service), 30 * order.service)
        return self._random.expovariate(1 / order.service)

    async def _until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - time.monotonic()))
