"""The state that all transports of one client share: configuration, limiter, observers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..journal.observer import observer_for
from ..limits.budgets import own_spending
from ..limits.eventloop import call_later
from ..limits.limiter import Limiter
from ..observers import Observers
from ..verdict.token_estimate import OutputHabit
from ..wire.closing import OpenConnections, connections_of
from .hooks import Instrumentation, instrumentations_of
from .nesting import NestingWatch
from .new_tasks import NewTasks
from .track_record import TrackRecord

if TYPE_CHECKING:
    from ..config import Config
    from ..fleet.coordinator import Coordinator
    from ..verdict.retry import RetryPolicy
    from ..verdict.rule import Rule


class Engine:
    """The state that all transports of one client share.

    ``account`` is a digest of whose limits these are, for ``fleet=``. ``http_client`` is the one
    that was wrapped: it lives as long as a request or a body that is still to be read.
    """

    def __init__(self, config: Config, account: str = "", http_client: Any = None) -> None:
        self.config = config
        self.http_client: Any = http_client
        self.connections: OpenConnections | None = (
            None if http_client is None else connections_of(http_client)
        )
        self.policy: RetryPolicy = config.retry_policy
        self.rules: tuple[Rule, ...] = tuple(config.rules)
        journal = () if config.journal is None else (observer_for(config.journal),)
        self.observers: Observers = Observers((*config.observers, *journal), call_later)
        self.new_tasks: NewTasks = NewTasks()
        self.nesting: NestingWatch = NestingWatch()
        self.track_record: TrackRecord = TrackRecord()
        self.output_habit: OutputHabit = OutputHabit()
        self.fleet: Coordinator | None = _coordinator(config, account)
        #: Whether a limit for each account stands above the partitions: not where the user says
        #: what shares a limit, or how it moves.
        self.has_accounts: bool = config.partition is None and config.algorithm is None
        self.limiter: Limiter = Limiter(
            make_algorithm=self.fleet.new_share if self.fleet else config.make_algorithm,
            max_queue=config.max_queue,
            observers=self.observers,
            on_partition=self.fleet.join if self.fleet else None,
            longest_closed=config.backoff_max,
            make_account_limit=(
                self.fleet.new_account_share if self.fleet else config.make_account_limit
            ),
            budgets=config.budgets,
            make_spending=self.fleet.new_spending if self.fleet else own_spending,
        )
        if self.fleet:
            self.fleet.attach(self.limiter)
        self.instrumentations: tuple[Instrumentation, ...] = instrumentations_of(config.observers)
        for instrumentation in self.instrumentations:
            instrumentation.watch(self.limiter)

    def close(self) -> None:
        """Give back what other processes may use, and let the log write what it has counted."""
        if self.fleet:
            self.fleet.close()
        self.observers.close()


def _coordinator(config: Config, account: str) -> Coordinator | None:
    if config.fleet is None:
        return None
    from ..fleet.coordinator import coordinator_for  # noqa: PLC0415 - half as much again to import

    return coordinator_for(config, account)
