"""The rates that servers report, in headers and in words, for each partition and each account.

One source of the ``Pacer``. ``forecast`` makes a forecast of headers, ``named`` a limit of words,
and ``trust`` says when either is binding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..verdict.rates import Counted, RateReading
from ..verdict.vocabulary import Signal
from .forecast import Sent
from .gate import Standing

if TYPE_CHECKING:
    from .partition import Lease, Partition

#: Tokens are counted once less than this share of their limit is left.
_SCARCE: Final = 0.5


class Forecasts:
    """The limits that servers have reported; each partition and each account keeps its own."""

    __slots__ = ("_number", "count_tokens")

    def __init__(self) -> None:
        self._number = 0
        self.count_tokens: bool = False  # since tokens were scarce first

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when the reported limits let a request go: ``now`` if at once."""
        at = now
        for told in partition.all_told:
            if told.limits:
                at = max(at, told.ready_at(request, now))
        return at

    def sent(self, lease: Lease, now: float) -> None:
        """Count an attempt that goes out."""
        self._number += 1
        cost = lease.request.cost
        if cost is None:
            sent = Sent(self._number, now)
        else:
            sent = Sent(self._number, now, cost.prompt_tokens, cost.output_tokens)
        lease.foretold = sent
        for told in lease.partition.all_told:
            told.sent(sent, now)

    def accepted(self, lease: Lease, now: float) -> None:
        """Read the headers of an answer that has begun."""
        self.ended(lease, Signal.SUCCESS, now)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Read the headers of an attempt, unless that was done, and note whether it was refused."""
        sent = lease.foretold
        if sent is None:
            return
        is_refusal = signal.is_overload
        was = sent
        if is_refusal or lease.tokens is not None:
            was = self._settle(sent, lease, is_free=is_refusal)
        readings, lease.rates = lease.rates, ()
        for reading in readings:
            self._hear(lease, sent, reading, is_refusal=is_refusal)
        if is_refusal:
            self._refused(lease, sent, was, readings, now)
        elif not sent.is_accepted:
            sent.is_accepted = signal is Signal.SUCCESS
            for told in lease.partition.all_told:
                if told.limits:
                    told.accepted(sent, now) if sent.is_accepted else told.withdrawn(sent)

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Uncount an attempt that was never sent."""
        if lease.foretold is not None:
            self._settle(lease.foretold, lease, is_free=True)
            for told in lease.partition.all_told:
                told.withdrawn(lease.foretold)

    def _settle(self, sent: Sent, lease: Lease, *, is_free: bool) -> Sent:
        """Note what an attempt has really cost; return the estimate that counted until now."""
        was = Sent(sent.number, sent.at, sent.prompt_tokens, sent.output_tokens, sent.is_free)
        tokens, output = lease.tokens, lease.output_tokens
        if sent.is_free or not (is_free or tokens is not None):
            return was
        sent.is_free = is_free
        if tokens is not None:
            sent.output_tokens = max(0.0, tokens - sent.prompt_tokens)
            if output is not None:
                sent.output_tokens = float(output)
            sent.prompt_tokens = tokens - sent.output_tokens
        for told in lease.partition.all_told:
            told.changed(sent, was)
        return was

    def _hear(self, lease: Lease, sent: Sent, reading: RateReading, *, is_refusal: bool) -> None:
        if reading.counted is not Counted.REQUESTS:
            self.count_tokens |= reading.remaining < _SCARCE * reading.limit
            if lease.request.cost is None or not self.count_tokens:
                return  # its cost is unknown
        lease.partition.told.hear(sent, reading, is_refusal=is_refusal)

    def _refused(
        self, lease: Lease, sent: Sent, was: Sent, readings: tuple[RateReading, ...], now: float
    ) -> None:
        """Compare a refusal with the limits that were reported."""
        by = {(reading.counted, reading.name): reading for reading in readings}
        for key, forecast in lease.partition.told.forecasts.items():
            forecast.refused(sent, was.cost(forecast.counted), by.get(key))
        if all(reading.remaining >= max(1.0, was.cost(reading.counted)) for reading in readings):
            left = [one.remaining for one in readings if one.counted is Counted.TOKENS]
            lease.request.takes_more_than = max((lease.request.takes_more_than, *left))
        words, above = lease.words, lease.partition.above
        for told in lease.partition.all_told:
            for named in told.named.values():
                named.refused(words, now)
        if words is not None:
            self.count_tokens |= words.counted is not Counted.REQUESTS
            of_account = words.of_account and above is not None
            (above if of_account and above is not None else lease.partition).told.name(words, now)
