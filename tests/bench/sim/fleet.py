"""A fleet in virtual time: the real shares, the real exchange, the real script on a real server.

The coordinator's thread is replaced by events of the virtual loop, and the line in which the
script reads its server's clock by an argument: nothing else differs from the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final

from comet_resilience.fleet.merge import ceiling
from comet_resilience.fleet.message import ShareReply, ShareRequest, parse_share_reply
from comet_resilience.fleet.renewal import Renewal, Report, exchange
from comet_resilience.fleet.scope import keys_of
from comet_resilience.fleet.share import FleetShare
from comet_resilience.fleet.store import script
from comet_resilience.limits.algorithm import LimitAlgorithm
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Partition
from comet_resilience.observers import Observers

from .clock import Handle, VirtualLoop
from .policies import Policy
from .run import Run
from .scenario import Kind, Scenario
from .workload import Job

#: Seconds to Redis, and back.
_ONE_WAY: Final = 0.0005
#: Where the virtual clock of the server starts; a time of 0 means none there.
_EPOCH: Final = 1_000_000
_CLOCK: Final = "local clock = redis.call('TIME')"
_ARGUMENTS: Final = 13


class VirtualServer:
    """A real server whose script is told the time; ``client`` is redis-py's."""

    def __init__(self, client: Any, loop: VirtualLoop) -> None:
        text = script()
        if text.count(_CLOCK) != 1:
            raise AssertionError("the script reads its clock in another way")
        first = _ARGUMENTS + 1
        text = text.replace(_CLOCK, f"local clock = {{ARGV[{first}], ARGV[{first + 1}]}}")
        self._client, self._loop = client, loop
        self._digest = client.script_load(text)
        self.called_at: list[float] = []

    def send(self, keys: tuple[str, str], maximum: int, request: ShareRequest) -> ShareReply:
        """What the store does, at the loop's time."""
        self.called_at.append(self._loop.time())
        seconds, rest = divmod(self._loop.time(), 1.0)
        clock = (str(_EPOCH + int(seconds)), str(int(rest * 1_000_000)))
        arguments = request.arguments()
        assert len(arguments) == _ARGUMENTS
        reply = parse_share_reply(
            self._client.evalsha(self._digest, 2, *keys, *arguments, *clock), maximum
        )
        assert reply is not None
        return reply


class VirtualCoordinator:
    """Renews the shares of one limiter, as ``fleet.coordinator`` does, on the virtual loop."""

    def __init__(
        self,
        member: str,
        loop: VirtualLoop,
        server: VirtualServer,
        make: Callable[[], LimitAlgorithm],
        jitter: Callable[[], float],
    ) -> None:
        self._member, self._loop, self._server = member, loop, server
        self._make, self._next_jitter = make, jitter
        self._maximum = ceiling(make())
        self._timer: Handle | None = None
        self._is_busy = False
        self.shares: list[FleetShare] = []
        self.limiter = Limiter(
            make_algorithm=self._new_share,
            max_queue=None,
            observers=Observers(()),
            jitter=jitter,
            on_partition=self._join,
        )

    def _new_share(self) -> FleetShare:
        name = f"{self._member}-{len(self.shares)}"
        return FleetShare(name, self._make, self._wake, lambda state, why: None, self._next_jitter)

    def _join(self, partition: Partition) -> None:
        share = partition.slots.algorithm
        assert isinstance(share, FleetShare)
        share.bind(partition, keys_of("virtual", partition.key))
        self.shares.append(share)

    def _wake(self) -> None:
        self._loop.at(self._loop.time(), self._look)

    def _look(self) -> None:
        """Renew what is due, one after the other, then wait for the next."""
        if self._is_busy:
            return
        now = self._loop.time()
        for share in self.shares:
            if share.due_at() <= now:
                self._is_busy = True
                assert share.partition is not None
                report = self.limiter.adjust(share.partition, share.report)
                self._loop.at(now + _ONE_WAY, self._exchange, share, report)
                return
        self._plan()

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for share in self.shares:
            share.planned = share.due_at()
        earliest = min((share.planned for share in self.shares), default=math.inf)
        if earliest < math.inf:
            self._timer = self._loop.call_at(earliest, self._look)

    def _exchange(self, share: FleetShare, report: Report) -> None:
        send = partial(self._server.send, share.keys, self._maximum)
        renewal = exchange(send, report, self._make, share.remembered, self._next_jitter())
        self._loop.at(self._loop.time() + _ONE_WAY, self._take, share, report, renewal)

    def _take(self, share: FleetShare, report: Report, renewal: Renewal) -> None:
        assert share.partition is not None
        self.limiter.adjust(share.partition, lambda now: share.take(report, renewal, now))
        self._is_busy = False
        self._look()


class FleetRun(Run):
    """A run whose processes share one limit; the server must be empty."""

    def __init__(
        self, scenario: Scenario, policy: Policy, seed: int, kind: Kind, client: Any
    ) -> None:
        super().__init__(scenario, policy, seed, kind)
        self.server = VirtualServer(client, self.loop)
        self.coordinators = [
            VirtualCoordinator(
                f"member-{number}",
                self.loop,
                self.server,
                policy.make_algorithm,
                self._random.random,
            )
            for number in range(scenario.processes)
        ]
        self.limiters = [coordinator.limiter for coordinator in self.coordinators]

    def _key(self, job: Job) -> Hashable:
        """The model alone: in a fleet no account stands above the partitions."""
        return "" if self._scenario.one_partition else job.model
