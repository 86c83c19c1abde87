"""What a scenario is: a gateway, the requests, and the bars that the limiter has to reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import StrEnum

from comet_resilience.limits.partitions import InAccount

from .gateways import Gateway, Steps
from .workload import Job, Workload

#: The saturated runs end here, whatever still waits.
HORIZON = 600.0
SATURATED_COUNT = 10_000
BATCH_COUNT = 2_000


class Kind(StrEnum):
    """A saturated run of ten minutes, or a batch that is run to its end."""

    SATURATED = "saturated"
    BATCH = "batch"


#: The Retry-After of a refusal, from the time and when there may be room; ``None`` for none.
Hint = Callable[[float, float], float | None]


def no_hint(now: float, opens_at: float) -> float | None:
    """Say nothing, like most gateways."""
    return None


def true_hint(now: float, opens_at: float) -> float | None:
    """Whole seconds until there is room, as an honest gateway says."""
    return math.ceil(opens_at - now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What the means over the seeds have to reach; ``None`` where nothing is asked.

    ``goodput`` and ``batch`` (the makespan), ``p99`` are shares of the oracle's; ``refused`` is
    per 100 successes; ``floor`` is for the goodput of each seed alone; ``recovery`` and ``wait``
    (the mean, of the ``others``) are in seconds; ``in_outage`` counts attempts. Where
    ``nobody_fails`` no request may fail or be left over.
    """

    goodput: float | None = None
    floor: float | None = None
    refused: float | None = None
    batch: float | None = None
    p99: float | None = None
    wait: float | None = None
    recovery: float | None = None
    in_outage: float | None = None
    nobody_fails: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One hidden limit, and who asks for how much of it.

    ``noise`` is the share of attempts refused for no reason; ``outage`` when every attempt is
    answered 503; ``recovers`` is ``(from when, how many in use)`` for measuring recovery. ``drawn``
    gives requests in place of the workload; ``others`` is how the names of the models
    begin whose wait is measured.
    """

    name: str
    gateway: Callable[[int], Gateway]
    bars: Bars = field(default_factory=Bars)
    workload: Workload = field(default_factory=Workload)
    kinds: tuple[Kind, ...] = (Kind.SATURATED, Kind.BATCH)
    count: int = SATURATED_COUNT
    batch_count: int = BATCH_COUNT
    hint: Hint = no_hint
    noise: float = 0.0
    outage: tuple[float, float] = (math.inf, math.inf)
    recovers: tuple[float, float] | None = None
    processes: int = 1
    one_partition: bool = False
    drawn: Callable[[int], list[Job]] | None = None
    others: str | None = None
    batch_starts: float = 0.0
    shown_capacity: Steps = ()

    def jobs(self, seed: int, kind: Kind) -> list[Job]:
        """The requests of one run."""
        if self.drawn is not None:
            return self.drawn(seed)
        count = self.batch_count if kind is Kind.BATCH else self.count
        return self.workload.draw(seed, count, HORIZON)

    def horizon(self, kind: Kind) -> float:
        """When a run is cut off."""
        return math.inf if kind is Kind.BATCH else HORIZON

    def key(self, job: Job, *, in_account: bool) -> Hashable:
        """The partition of a request, below its account or by itself."""
        model = "" if self.one_partition else job.model
        return InAccount("", model) if in_account else model

    def is_out(self, now: float) -> bool:
        """Whether the gateway is in its outage."""
        return self.outage[0] <= now < self.outage[1]
