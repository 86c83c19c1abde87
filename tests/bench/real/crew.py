"""The parent's side: a crew of processes that lives through all runs, and what a run came to."""

from __future__ import annotations

import math
import multiprocessing
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import redis

from comet_resilience.fleet.scope import keys_of
from tests.redis_server import RedisServer

from ..sim.crowd import server_cpu
from .gateway import SharedGateway
from .member import KEY, Order, Report, serve
from .record import Record

#: Seconds between the order and the beginning of a run, for all to hear of it.
_NOTICE: Final = 0.3
_ENDS_WITHIN: Final = 30.0
UNBOUNDED: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Done:
    """One run: the gateway's record, what each process reported, and who was killed."""

    record: Record
    reports: list[Report]


class Crew:
    """Processes of one benchmark, one gateway, one server: ``with Crew(10) as crew``."""

    def __init__(self, members: int) -> None:
        self.members = members
        self.redis = RedisServer()
        self._context = multiprocessing.get_context("spawn")
        self.gateway = SharedGateway(self._context, members)
        self._processes: list[Any] = [None] * members
        self._pipes: list[Any] = [None] * members
        self.account = ""
        self.begins = 0.0

    def __enter__(self) -> Self:
        self.redis.start()
        self._man()
        return self

    def __exit__(self, *exception: object) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            if process.is_alive():
                pipe.send(None)
        for process in self._processes:
            process.join(5.0)
            process.kill()
        self.redis.__exit__(*exception)

    def play(
        self,
        orders: Sequence[Order],
        seconds: float,
        events: Sequence[tuple[float, Callable[[], object]]] = (),
        capacity: int = UNBOUNDED,
    ) -> Done:
        """One run of so many seconds, with what happens at which second of it."""
        self._man()
        self.account = uuid.uuid4().hex
        self.begins = time.monotonic() + _NOTICE
        self.gateway.open(capacity)
        for pipe, order in zip(self._pipes, orders, strict=False):
            pipe.send(
                replace(
                    order,
                    url=self.redis.url,
                    account=self.account,
                    begins=self.begins,
                    ends=self.begins + seconds,
                )
            )
        for when, event in sorted(events, key=lambda event: event[0]):
            time.sleep(max(0.0, self.begins + when - time.monotonic()))
            event()
        ends = self.begins + seconds
        reports = [self._report(member, ends + _ENDS_WITHIN) for member in range(len(orders))]
        return Done(Record(self.gateway.record(), self.begins, ends), reports)

    def kill(self, member: int) -> None:
        """Kill one for good: its requests are gone, as far as the gateway is concerned."""
        process = self._processes[member]

        def end() -> None:
            process.kill()
            process.join()

        self.gateway.remove(member, end)

    def control(self) -> dict[str, str]:
        """What Redis holds about the fleet's limit."""
        with self._client() as client:
            return dict(client.hgetall(keys_of(self.account, KEY)[1]))

    def commands(self) -> tuple[int, float]:
        """How often the script was run since the server's start, and the server's CPU seconds."""
        with self._client() as client:
            stats = client.info("commandstats")
            cpu = server_cpu(client)
        calls = sum(
            stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval")
        )
        return calls, cpu

    def _client(self) -> Any:
        return redis.Redis.from_url(self.redis.url, decode_responses=True)

    def _man(self) -> None:
        """Start who is missing."""
        missing = [i for i, process in enumerate(self._processes) if not self._is_alive(process)]
        for member in missing:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=serve, args=(member, self.gateway, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._processes[member], self._pipes[member] = process, ours
        for member in missing:
            self._pipes[member].recv()

    @staticmethod
    def _is_alive(process: Any) -> bool:
        return process is not None and bool(process.is_alive())

    def _report(self, member: int, give_up_at: float) -> Report:
        """What a process saw; nothing if it was killed."""
        try:
            if self._pipes[member].poll(max(0.0, give_up_at - time.monotonic())):
                report: Report = self._pipes[member].recv()
                return report
        except (EOFError, ConnectionResetError):
            return Report()
        return Report(errors=["no report came"])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that all but so large a share are at or below."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.nan
