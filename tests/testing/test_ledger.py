"""The counts."""

from __future__ import annotations

from comet_resilience.testing.ledger import Ledger, Outcome, Sample, Statistics


def test_every_request_is_counted_once() -> None:
    """Requests are those in flight and those that ended, and the peak stays."""
    ledger = Ledger(lambda now: 2 if now < 3 else 1)
    ledger.begin(0.0)
    ledger.begin(1.0)
    ledger.end(2.0, Outcome.REFUSED)
    ledger.end(3.0, Outcome.ANSWERED)
    assert ledger.statistics() == Statistics(
        requests=3, in_flight=1, peak_in_flight=2, answered=1, refused=1
    )
    assert ledger.samples == [Sample(0.0, 1, 2), Sample(1.0, 2, 2), Sample(3.0, 1, 1)]
