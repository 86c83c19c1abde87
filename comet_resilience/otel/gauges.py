"""Gauges of the limiters, read at each collection: limits, slots, queues, accounts, fleet."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Observation

from ..events import FleetState
from .labels import ACCOUNT, PREFIX, Labels
from .metrics import meter_of

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider

    from ..limits.limiter import Limiter
    from ..limits.snapshot import PartitionSnapshot, Snapshot

STATE: Final = PREFIX + "fleet.state"


class _Gauge(NamedTuple):
    """A reading of a partition; of those with the same attributes the sum is shown, or the largest.

    ``common`` is what several clients say of one and the same thing: it counts once.
    """

    name: str
    unit: str
    description: str
    reading: Callable[[PartitionSnapshot], float | None]
    added_up: bool = True
    common: bool = False


_GAUGES: Final = (
    _Gauge("queue.size", "{request}", "Requests that wait for a slot", lambda p: p.waiting),
    _Gauge("concurrency.limit", "{request}", "Requests permitted at once", lambda p: p.limit),
    _Gauge("concurrency.in_use", "{request}", "Slots that are held", lambda p: p.in_flight),
    _Gauge("cooldown.remaining", "s",
           "Until a closed limit sends its next canary, 0 where it is open",
           lambda p: p.closed_for or 0.0, added_up=False),
    _Gauge("rate.learnt", "{request}", "Requests a minute that are kept to, learnt from refusals",
           lambda p: next((rate.limit for rate in p.rates if rate.source == "learnt"), None)),
    _Gauge("fleet.share", "{request}", "This process's part of the fleet's limit",
           lambda p: None if p.fleet is None else p.fleet.share),
    _Gauge("fleet.limit", "{request}",
           "Requests permitted at once to the whole fleet, as last heard of",
           lambda p: None if p.fleet is None else p.fleet.limit, common=True),
    _Gauge("fleet.members", "{process}", "Processes that share a limit, as last heard of",
           lambda p: None if p.fleet is None else p.fleet.members, added_up=False),
)  # fmt: skip


class _AccountGauge(NamedTuple):
    """A reading of an account; ``reading`` also takes the snapshot that it is part of."""

    name: str
    unit: str
    description: str
    reading: Callable[[PartitionSnapshot, Snapshot], float]


def _waiting_for(account: PartitionSnapshot, found: Snapshot) -> int:
    """Return how many requests wait for an account, and not for their own model."""
    return sum(
        below.waiting
        for below in found.partitions
        if below.account == account.partition and below.waits_for == "account"
    )


_OF_ACCOUNTS: Final = (
    _AccountGauge("account.concurrency.limit", "{request}",
                  "Requests permitted at once over all models of an account",
                  lambda account, _: account.limit),
    _AccountGauge("account.concurrency.in_use", "{request}",
                  "Slots that are held over all models of an account",
                  lambda account, _: account.in_flight),
    _AccountGauge("account.queue.size", "{request}",
                  "Requests that wait for the limit of their account, and not for that of their"
                  " model", _waiting_for),
)  # fmt: skip


class Gauges:
    """The gauges of all clients with one meter provider. Clients are held weakly."""

    def __init__(self, meter: Meter) -> None:
        self._lock = threading.Lock()  # collections run in threads of their own
        self._limiters: WeakKeyDictionary[Limiter, Labels] = WeakKeyDictionary()
        for gauge in _GAUGES:
            meter.create_observable_gauge(
                PREFIX + gauge.name, [self._callback(gauge)], gauge.unit, gauge.description
            )
        for one in _OF_ACCOUNTS:
            meter.create_observable_gauge(
                PREFIX + one.name, [self._of_accounts(one)], one.unit, one.description
            )
        meter.create_observable_gauge(
            STATE, [self._fleet_states], "{partition}", "Partitions in each state towards the fleet"
        )

    def add(self, limiter: Limiter, labels: Labels) -> None:
        """Show a limiter from now on."""
        with self._lock:
            self._limiters[limiter] = labels

    def _snapshots(self) -> Iterator[tuple[Snapshot, Labels]]:
        with self._lock:
            shown = list(self._limiters.items())
        for limiter, labels in shown:
            yield limiter.snapshot(), labels

    def _partitions(self) -> Iterator[tuple[PartitionSnapshot, Labels]]:
        for found, labels in self._snapshots():
            for partition in found.partitions:
                yield partition, labels

    def _callback(self, gauge: _Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            found: dict[tuple[tuple[str, str], ...], dict[Hashable, float]] = defaultdict(dict)
            for place, (partition, labels) in enumerate(self._partitions()):
                value = gauge.reading(partition)
                if value is not None:
                    values = found[tuple(labels.of_partition(partition.partition).items())]
                    thing = ("all", partition.partition) if gauge.common else place
                    values[thing] = max(value, values.get(thing, 0.0))
            for attributes, values in found.items():
                total = sum(values.values()) if gauge.added_up else max(values.values())
                yield Observation(total, dict(attributes))

        return observe

    def _of_accounts(self, gauge: _AccountGauge) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            sums: dict[str, float] = defaultdict(float)
            for found, labels in self._snapshots():
                for account in found.accounts:
                    sums[labels.account(str(account.partition))] += gauge.reading(account, found)
            return [Observation(value, {ACCOUNT: name}) for name, value in sums.items()]

        return observe

    def _fleet_states(self, _options: CallbackOptions) -> Iterable[Observation]:
        states = [p.fleet.state for p, _ in self._partitions() if p.fleet is not None]
        for state in FleetState if states else ():
            yield Observation(states.count(state), {STATE: state.value})


_of_providers: WeakKeyDictionary[object, Gauges] = WeakKeyDictionary()
_of_the_global_one: list[Gauges] = []
_making = threading.Lock()


def gauges_of(provider: MeterProvider | None) -> Gauges:
    """Return a provider's gauges, made once: of two with one name only the first is asked."""
    with _making:
        if provider is None:
            if not _of_the_global_one:
                _of_the_global_one.append(Gauges(meter_of(None)))
            return _of_the_global_one[0]
        if provider not in _of_providers:
            _of_providers[provider] = Gauges(meter_of(provider))
        return _of_providers[provider]
