"""The rates that servers tell in the headers of their answers, one forecast for each partition.

One source of the ``Pacer``; how a forecast is made and when it is believed is in ``forecast``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..verdict.vocabulary import Signal
from .forecast import Forecast
from .gate import Standing

if TYPE_CHECKING:
    from .partition import Lease, Partition


class Forecasts:
    """The forecasts of all partitions; each is kept by its own, from the first header on."""

    __slots__ = ()

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when the server's own limit lets a request go: ``now`` if at once."""
        forecast = partition.forecast
        if forecast is None:
            return now
        forecast.tick(now)
        return forecast.ready_at(now, 1.0)

    def sent(self, lease: Lease, now: float) -> None:
        """Count an attempt that goes out."""
        if lease.partition.forecast is not None:
            lease.foretold = lease.partition.forecast.sent(now, 1.0)

    def accepted(self, lease: Lease, now: float) -> None:
        """Read the headers of an answer that has begun."""
        self.ended(lease, Signal.SUCCESS, now)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Read the headers of an attempt, unless they are read, and note whether it was refused."""
        partition, rate, sent = lease.partition, lease.rate, lease.foretold
        if rate is None and sent is None:
            return
        if partition.forecast is None:
            partition.forecast = Forecast()
        lease.rate = None
        if sent is None:
            return  # sent before anything was known: the next answer tells
        if rate is not None:
            partition.forecast.hear(sent, rate, now, is_refusal=signal.is_overload)
        if signal.is_overload:
            partition.forecast.refused(sent, rate)
        elif signal is Signal.SUCCESS:
            partition.forecast.accepted(sent, now)

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Count an attempt no longer that was never sent."""
        if lease.foretold is not None and lease.partition.forecast is not None:
            lease.partition.forecast.withdrawn(lease.foretold)
