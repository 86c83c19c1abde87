"""The partitions, accounts and budgets of a limiter as ``snapshot`` shows them at one moment."""

from __future__ import annotations

from .gate import Gate
from .partition import Level, Partition
from .slots import Slots
from .snapshot import GateView, InFleet, PartitionSnapshot, RateView
from .told import Told
from .trust import Trust


def view_of(level: Level, now: float) -> PartitionSnapshot:
    """Return the state of a partition, or of an account, at this moment."""
    slots = level.slots
    algorithm = slots.algorithm
    partition = level if isinstance(level, Partition) else None
    gates = [] if partition is None else _closed_gates(partition)
    until = [gate.next_at for gate in gates]
    until += [at for at in (algorithm.closed_until,) if at is not None]
    above = None if partition is None else partition.above
    return PartitionSnapshot(
        partition=level.key,
        limit=algorithm.limit,
        in_flight=slots.in_flight,
        waiting=slots.waiting,
        waiting_by_priority=() if partition is None else partition.by_priority(),
        ok=slots.ok,
        refused=slots.refused,
        other=slots.other,
        closed_for=max(now, *until) - now if until else None,
        standstill=slots.stillness.lasts(now) if slots.waiting else None,
        changes=tuple(slots.changes),
        fleet=algorithm.view if isinstance(algorithm, InFleet) else None,
        gate=_view_of_gate(gates[0], partition.host, now) if partition and gates else None,
        account=None if above is None else above.key,
        waits_for=_waits_for(level),
        has_bound=slots.has_bound,
        rates=(*_rates_of(level.told, now), *_learnt_by(slots)),
    )


def _rates_of(told: Told, now: float) -> tuple[RateView, ...]:
    """Return the rates that a server has told, those of headers first."""
    by_headers = [
        RateView(
            source="headers",
            counted=forecast.counted.value,
            limit=round(forecast.limit),
            left=round(min(forecast.limit, max(0.0, forecast.left(now)))),
            per=None,
            state=_state_of(forecast.trust, now),
        )
        for forecast in told.forecasts.values()
    ]
    by_words = [
        RateView(
            source="words",
            counted=named.words.counted.value,
            limit=named.words.limit,
            left=None,
            per=named.words.per,
            state=_state_of(named.trust, now),
        )
        for named in told.named.values()
    ]
    return (*by_headers, *by_words)


def _learnt_by(slots: Slots) -> tuple[RateView, ...]:
    """Return the rate that refusals have taught, if any."""
    limit = None if slots.spacing is None else slots.spacing.per_minute
    if limit is None:
        return ()
    return (
        RateView(
            source="learnt", counted="requests", limit=limit, left=None, per=60.0, state="kept"
        ),
    )


def _state_of(trust: Trust, now: float) -> str:
    if trust.is_off(now):
        return "disproved"
    return "kept" if trust.is_confirmed else "untested"


def _closed_gates(partition: Partition) -> list[Gate]:
    return [gate for gate in (partition.host, partition.gate) if gate.is_closed]


def _waits_for(level: Level) -> str:
    if not level.slots.waiting:
        return ""
    if not level.is_open:
        return "gate"
    if level.is_paced:
        return "rate"
    return "account" if isinstance(level, Partition) and level.account_awaited else "limit"


def _view_of_gate(gate: Gate, host: Gate, now: float) -> GateView:
    return GateView(
        host=host.host,
        is_host=gate is host,
        reason=gate.seen,
        since=now - (gate.closed_since or now),
        next_canary=max(0.0, gate.next_at - now),
    )
