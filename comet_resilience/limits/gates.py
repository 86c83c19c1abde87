"""The gates of one limiter: which of them a failure counts for, and who passes next.

Each partition has a gate of its own, each host one for all of its partitions. Nothing here waits;
the limiter calls every method under its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Final

from ..events import GateClosed, GateOpened
from ..verdict.vocabulary import Signal
from .gate import Gate, Passage, Standing
from .pressed import half_way

if TYPE_CHECKING:
    from .partition import Lease, Outcome, Partition, Waiter

#: Seconds for which a request waits at a closed gate: as long as the SDK's default read timeout;
#: less where nothing was ever answered, since the address may be wrong.
PATIENCE: Final = 600.0
PATIENCE_UNPROVEN: Final = 60.0
#: Hosts remembered before those whose gate is open are forgotten.
HOSTS_KEPT: Final = 64


class Gates:
    """The gates of hosts, and the effect of each outcome on both of its attempt's gates."""

    def __init__(
        self,
        partitions: Mapping[Hashable, Partition],
        longest: float,
        jitter: Callable[[], float],
    ) -> None:
        self._partitions = partitions
        self._longest = longest
        self._jitter = jitter
        self._hosts: dict[str, Gate] = {}
        self._in_line: dict[Gate, dict[Partition, None]] = {}

    def of_partition(self) -> Gate:
        """Return a gate for a new partition."""
        return Gate(self._longest)

    def of_host(self, name: str) -> Gate:
        """Return the gate of a host, by its name."""
        gate = self._hosts.get(name)
        if gate is None:
            if len(self._hosts) >= HOSTS_KEPT:
                self._hosts = {name: gate for name, gate in self._hosts.items() if gate.is_closed}
            gate = self._hosts[name] = Gate(self._longest, host=name)
        return gate

    def at(self, host: Gate) -> list[Partition]:
        """Return the partitions of a host, the one whose first request waits longest first."""
        found = self._of(host)
        return sorted(found, key=lambda one: one.head().since if one.slots.waiting else 0.0)

    def queue_up(self, partition: Partition, host: Gate) -> None:
        """Put a partition in line for a host's gate that is opening and has no room."""
        self._in_line.setdefault(host, {})[partition] = None

    def next_in_line(self, host: Gate, now: float) -> Partition | None:
        """Remove the next partition from the line for a host; ``None`` if none may pass."""
        line = self._in_line.get(host) if self._in_line else None
        if line is None or not host.has_room(now):
            return None
        partition = next(iter(line))
        del line[partition]
        if not line:
            del self._in_line[host]
        return partition

    def dissolve_line(self, host: Gate) -> None:
        """Drop the line for a host: its gate has moved, and each partition is looked at."""
        self._in_line.pop(host, None)

    def sent(
        self, partition: Partition, host: Gate, request: Standing, now: float
    ) -> tuple[Passage, Passage]:
        """Return the passages of an attempt at both of its gates."""
        own = partition.gate
        if own.closed_since is None and host.closed_since is None:
            return own.sent(now, request, 1, 0.0), host.sent(now, request, 1, 0.0)
        jitter = self._jitter()
        return (
            own.sent(now, request, partition.slots.present, jitter),
            host.sent(now, request, self._present(host), jitter),
        )

    def judge(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Report the outcome of an attempt to both of its gates."""
        own, host, signal = lease.partition.gate, lease.host, outcome.signal
        at_own, at_host = lease.passages
        if signal is Signal.SUCCESS or signal.is_overload:
            own.answered(at_own, now)
            host.answered(at_host, now)
        elif signal is Signal.OUTAGE:
            self._service_failed(lease, outcome, now)
        elif signal.is_outage:
            self._fail(host, lease, at_host, outcome._replace(retry_after=None), now)
            own.passed(at_own, now)
        else:
            own.passed(at_own, now)
            host.answered(at_host, now) if outcome.answered else host.passed(at_host, now)
        if signal.is_outage:
            lease.request.failed_at = at_own.sent_at

    def _service_failed(self, lease: Lease, outcome: Outcome, now: float) -> None:
        own, host = lease.partition.gate, lease.host
        at_own, at_host = lease.passages
        was_closed = own.is_closed
        self._fail(own, lease, at_own, outcome, now)
        if host.is_closed and host.of_service:
            self._fail(host, lease, at_host, outcome, now)
        elif outcome.answered:
            host.answered(at_host, now, well=False)
        else:
            host.passed(at_host, now)
        if own.is_closed and not was_closed and self._is_the_hosts(lease):
            host.close(now, outcome.what, self._present(host), self._jitter(), of_service=True)

    def _is_the_hosts(self, lease: Lease) -> bool:
        """Return True if another partition of the host fails too, without a success since."""
        host = lease.host
        if host.is_closed:
            return False
        others = [one.gate for one in self._of(host) if one is not lease.partition]
        return any(gate.is_closed and host.well_at < gate.began_at for gate in others)

    def _fail(
        self, gate: Gate, lease: Lease, passage: Passage, outcome: Outcome, now: float
    ) -> None:
        present = 0  # as a closed gate need not know it
        if not gate.is_closed:
            is_host = gate is lease.host
            present = self._present(gate) if is_host else lease.partition.slots.present
        gate.failed(
            passage,
            now,
            unreachable=outcome.signal is Signal.UNREACHABLE,
            seen=outcome.what,
            retry_after=outcome.retry_after,
            present=present,
            jitter=self._jitter(),
        )

    def news(self, partition: Partition, host: Gate, now: float) -> list[GateClosed | GateOpened]:
        """Return the events for what has changed at these two gates since the last call."""
        events: list[GateClosed | GateOpened] = []
        for gate in (partition.gate, host):
            if gate.closed_since == gate.told_since:
                continue
            key = partition.key if gate is partition.gate else None
            mine = [partition] if gate is partition.gate else self._of(host)
            waiting = sum(one.slots.waiting for one in mine)
            if gate.told_since is not None:
                seconds = now - gate.told_since
                events.append(
                    GateOpened(partition=key, host=host.host, after=seconds, waiting=waiting)
                )
            if gate.closed_since is not None:
                events.append(
                    GateClosed(
                        partition=key,
                        host=host.host,
                        reason=gate.seen,
                        waiting=waiting,
                        next_canary=max(0.0, gate.next_at - now),
                    )
                )
            gate.told_since = gate.closed_since
        return events

    def hopeless(self, partition: Partition, now: float) -> list[Waiter]:
        """Return the waiters whose closed gate cannot open in time, or has kept them too long."""
        return [
            waiter for waiter in partition.waiters() if self.holds_for_good(waiter, partition, now)
        ]

    def holds_for_good(self, waiter: Waiter, partition: Partition, now: float) -> bool:
        """Return True if a waiter is to be turned away, and set its ``turned_away`` to the gate.

        One that would lose half of its time until the next canary brings that forward.
        """
        for gate in (partition.gate, waiter.host):
            if gate.closed_since is None:
                continue
            is_proven = gate.is_proven and waiter.host.is_proven
            patience = PATIENCE if is_proven else PATIENCE_UNPROVEN
            waited = now - max(waiter.since, gate.closed_since)
            if gate.opens_at(now) > half_way(now, waiter.latest):
                gate.hasten(now)
            if gate.opens_at(now) > waiter.latest or waited > patience:
                waiter.turned_away = gate
                return True
        return False

    def _present(self, host: Gate) -> int:
        """Count the requests to a host: waiting, under way, or between two attempts."""
        return sum(one.slots.present for one in self._of(host))

    def _of(self, host: Gate) -> list[Partition]:
        return [one for one in self._partitions.values() if one.host is host]
