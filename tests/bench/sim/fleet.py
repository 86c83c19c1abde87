"""A fleet in virtual time: the real shares, the real exchange, the real script on a real server.

The coordinator's thread is replaced by events of the virtual loop, and the line in which the
script reads its server's clock by an argument: nothing else differs from the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from comet_resilience.fleet.draws import DrawReply, DrawRequest, parse_draw_reply
from comet_resilience.fleet.message import Addressed, ShareReply, StoreError, parse_share_reply
from comet_resilience.fleet.renewal import Renewal, RenewalRequest, exchange
from comet_resilience.fleet.scope import keys_of
from comet_resilience.fleet.share import FleetShare, due_together
from comet_resilience.fleet.store import script
from comet_resilience.limits.algorithm import LimitAlgorithm
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Level
from comet_resilience.observers import Observers

from .clock import Handle, VirtualLoop
from .policies import Policy
from .run import Run
from .scenario import Kind, Scenario

#: Seconds to Redis, and back.
ONE_WAY: Final = 0.0005
#: Where the virtual clock of the server starts; a time of 0 means none there.
EPOCH: Final = 1_000_000
_CLOCK: Final = "local clock = redis.call('TIME')"


class VirtualServer:
    """A real server whose scripts are told the time; ``client`` is redis-py's."""

    def __init__(self, client: Any, loop: VirtualLoop) -> None:
        self._client, self._loop = client, loop
        self._digests = {name: client.script_load(timed(name)) for name in ("sync", "draw")}
        self.called_at: list[float] = []
        self.scopes = 0

    def send(self, asked: Sequence[Addressed]) -> list[ShareReply | StoreError]:
        """What the store does, at the loop's time."""
        keys = [key for one in asked for key in one.keys]
        raw = self._evaluate(
            "sync", keys, [text for one in asked for text in one.request.arguments()]
        )
        self.scopes += len(asked)
        return [_parsed(reply, one.maximum) for reply, one in zip(raw, asked, strict=True)]

    def draw(self, key: str, request: DrawRequest) -> DrawReply:
        """What the store does for one budget, at the loop's time."""
        (raw,) = self._evaluate("draw", [key], request.arguments())
        reply = parse_draw_reply(raw, request)
        assert reply is not None, raw
        return reply

    def _evaluate(self, name: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        self.called_at.append(self._loop.time())
        seconds, rest = divmod(self._loop.time(), 1.0)
        clock = (str(EPOCH + int(seconds)), str(int(rest * 1_000_000)))
        return self._client.evalsha(self._digests[name], len(keys), *keys, *arguments, *clock)


def timed(name: str) -> str:
    """Return a script that reads the time of its last two arguments."""
    text = script(name).text
    if text.count(_CLOCK) != 1:
        raise AssertionError("the script reads its clock in another way")
    return text.replace(_CLOCK, "local clock = {ARGV[#ARGV - 1], ARGV[#ARGV]}")


class VirtualCoordinator:
    """Renews the shares of one limiter, as ``fleet.coordinator`` does, on the virtual loop."""

    def __init__(
        self,
        member: str,
        loop: VirtualLoop,
        server: VirtualServer,
        make: Callable[[], LimitAlgorithm],
        jitter: Callable[[], float],
        make_account: Callable[[], LimitAlgorithm],
    ) -> None:
        self._member, self._loop, self._server = member, loop, server
        self._make, self._make_account, self._next_jitter = make, make_account, jitter
        self._timer: Handle | None = None
        self._is_busy = False
        self.shares: list[FleetShare] = []
        self.limiter = Limiter(
            make_algorithm=partial(self._new_share, make),
            max_queue=None,
            observers=Observers(()),
            jitter=jitter,
            on_partition=self._join,
            make_account_limit=partial(self._new_share, self._make_account),
        )

    def _new_share(self, make: Callable[[], LimitAlgorithm]) -> FleetShare:
        name = f"{self._member}-{len(self.shares)}"
        return FleetShare(name, make, self._wake, lambda state, why: None, self._next_jitter)

    def _join(self, level: Level) -> None:
        share = level.slots.algorithm
        assert isinstance(share, FleetShare)
        share.bind(level, keys_of("virtual", level.key))
        self.shares.append(share)

    def _wake(self) -> None:
        self._loop.at(self._loop.time(), self._look)

    def _look(self) -> None:
        """Renew what is due, one command after the other, then wait for the next."""
        if self._is_busy:
            return
        now = self._loop.time()
        for shares in due_together(self.shares, now):
            self._is_busy = True
            asked = [self.limiter.adjust(_level(share), share.ask) for share in shares]
            self._loop.at(now + ONE_WAY, self._exchange, shares, asked)
            return
        self._next_due()

    def _next_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for share in self.shares:
            share.planned = share.due_at()
        earliest = min((share.planned for share in self.shares), default=math.inf)
        if earliest < math.inf:
            self._timer = self._loop.call_at(earliest, self._look)

    def _exchange(self, shares: Sequence[FleetShare], asked: Sequence[RenewalRequest]) -> None:
        results = exchange(self._server.send, asked)
        self._loop.at(self._loop.time() + ONE_WAY, self._take, shares, asked, results)

    def _take(
        self,
        shares: Sequence[FleetShare],
        asked: Sequence[RenewalRequest],
        results: Sequence[Renewal | Exception],
    ) -> None:
        for share, one, result in zip(shares, asked, results, strict=True):
            assert isinstance(result, Renewal), result
            self.limiter.adjust(_level(share), partial(share.take, one, result))
        self._is_busy = False
        self._look()


def _parsed(raw: object, maximum: int) -> ShareReply:
    reply = parse_share_reply(raw, maximum)
    assert reply is not None, raw
    return reply


def _level(share: FleetShare) -> Level:
    return share.partition


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
                policy.make_account_limit,
            )
            for number in range(scenario.processes)
        ]
        self.limiters = [coordinator.limiter for coordinator in self.coordinators]
