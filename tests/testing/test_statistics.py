"""Requests counted by their ends."""

from __future__ import annotations

from comet_resilience.testing.statistics import Outcome, Recorder, Sample, Statistics


def test_every_request_is_counted_once() -> None:
    """Requests are those in flight and those that ended, and the peak stays."""
    recorder = Recorder(lambda now: 2 if now < 3 else 1)
    recorder.begin(0.0)
    recorder.begin(1.0)
    recorder.end(2.0, Outcome.REFUSED)
    recorder.end(3.0, Outcome.ANSWERED)
    assert recorder.statistics() == Statistics(
        requests=3, in_flight=1, peak_in_flight=2, answered=1, refused=1
    )
    assert recorder.samples == [Sample(0.0, 1, 2), Sample(1.0, 2, 2), Sample(3.0, 1, 1)]
