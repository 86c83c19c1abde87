"""The snapshot of one partition or account, made from its live state."""

from __future__ import annotations

from collections.abc import Iterator

from .gate import Gate
from .partition import Level, Partition
from .snapshot import GateView, InFleet, PartitionSnapshot, RateView
from .trust import Trust


def view_of(level: Level, now: float) -> PartitionSnapshot:
    """Return the state of a partition, or of an account, at this moment."""
    slots = level.slots
    algorithm = slots.algorithm
    partition = level if isinstance(level, Partition) else None
    gates = () if partition is None else (partition.host, partition.gate)
    closed = [gate for gate in gates if gate.is_closed]
    until = [gate.next_at for gate in closed]
    if algorithm.closed_until is not None:
        until.append(algorithm.closed_until)
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
        gate=_view_of_gate(closed[0], partition.host, now) if partition and closed else None,
        account=None if above is None else above.key,
        waits_for=_waits_for(level),
        has_bound=slots.has_bound,
        rates=tuple(_rates_of(level, now)),
    )


def _rates_of(level: Level, now: float) -> Iterator[RateView]:
    """Yield the known rates: those read from headers first, then from words, then learnt."""
    for forecast in level.told.forecasts.values():
        yield RateView(
            source="headers",
            counted=forecast.counted.value,
            limit=round(forecast.limit),
            left=round(min(forecast.limit, max(0.0, forecast.left(now)))),
            state=_state_of(forecast.trust, now),
        )
    for named in level.told.named.values():
        words, state = named.words, _state_of(named.trust, now)
        counted, limit = words.counted.value, words.limit
        yield RateView(source="words", counted=counted, limit=limit, per=words.per, state=state)
    if level.slots.spacing is not None and (learnt := level.slots.spacing.per_minute) is not None:
        yield RateView(source="learnt", counted="requests", limit=learnt, per=60.0, state="kept")


def _state_of(trust: Trust, now: float) -> str:
    if trust.is_off(now):
        return "disproved"
    return "kept" if trust.is_confirmed else "untested"


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
