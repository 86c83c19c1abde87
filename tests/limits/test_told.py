"""What servers tell of one partition is kept apart by unit and name, and bounded."""

from __future__ import annotations

from comet_resilience.limits.budget import Cost
from comet_resilience.limits.forecast import Sent
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.told import Told
from comet_resilience.verdict.rates import Counted, RateInWords, RateReading


def _told(*readings: RateReading) -> Told:
    """Return what was told by a refusal with such headers, of which nothing is left."""
    told = Told()
    sent = Sent(1, 0.0, is_free=True)
    told.sent(sent, 0.0)
    for reading in readings:
        told.hear(sent, reading, is_refusal=True)
    for forecast in told.forecasts.values():
        forecast.trust.confirm()
    return told


def test_the_scarcest_limit_decides() -> None:
    """Of a burst and of a minute, and of requests and tokens."""
    request = Standing(cost=Cost("m", 100, 200))
    burst = RateReading(Counted.REQUESTS, 10.0, 0.0, 2.5, name="burst")
    minute = RateReading(Counted.REQUESTS, 100.0, 0.0, 30.5, name="minute")
    tokens = RateReading(Counted.OUTPUT_TOKENS, 1_000.0, 0.0, 40.5)
    assert 2 <= _told(burst).ready_at(request, 0.0) < 4
    assert 30 <= _told(burst, minute).ready_at(request, 0.0) < 33
    assert 40 <= _told(burst, minute, tokens).ready_at(request, 0.0) < 43


def test_input_and_output_are_counted_apart() -> None:
    """A short prompt with a long answer waits for its answer's tokens alone."""
    told = _told(RateReading(Counted.INPUT_TOKENS, 1_000.0, 0.0, 40.5))
    assert told.ready_at(Standing(cost=Cost("m", 100, 200)), 0.0) > 1
    told = _told(RateReading(Counted.INPUT_TOKENS, 1_000.0, 900.0, 40.5))
    assert told.ready_at(Standing(cost=Cost("m", 10, 5_000)), 0.0) == 0.0


def test_a_request_that_was_refused_with_more_left_than_it_costs_takes_more() -> None:
    """The estimate was too low: it waits until more is there than was left then."""
    told = _told(RateReading(Counted.TOKENS, 20_000.0, 9_000.0, 11.5))
    request = Standing(cost=Cost("m", 1_000, 1_000))
    assert told.ready_at(request, 0.0) == 0.0
    request.takes_more_than = 9_000.0
    assert told.ready_at(request, 0.0) > 1.0


def test_what_was_sent_before_the_first_header_counts() -> None:
    """It says what was left when its own request came in, and others are on their way since."""
    told = Told()
    sent = [Sent(number, 0.0) for number in range(1, 9)]
    for each in sent:
        told.sent(each, 0.0)
    told.hear(sent[2], RateReading(Counted.REQUESTS, 10.0, 7.0, 5.5), is_refusal=False)
    [forecast] = told.forecasts.values()
    assert forecast.left(0.0) == 2.0


def test_names_that_change_with_each_answer_take_no_memory() -> None:
    """Of headers or of words; and a thousand attempts are not a thousand records."""
    told = Told()
    for number in range(1_000):
        sent = Sent(number, float(number))
        told.sent(sent, float(number))
        reading = RateReading(Counted.REQUESTS, 60.0, 59.0, 60.0, name=str(number))
        told.hear(sent, reading, is_refusal=False)
        told.name(RateInWords(Counted.REQUESTS, 5, 1.0 + number, of_account=True), float(number))
    assert len(told.forecasts) < 20
    assert len(told.named) < 10
    assert len(told.recent) < 500


def test_another_number_in_the_same_words_replaces_the_first() -> None:
    """The limit was raised."""
    told = Told()
    told.sent(Sent(1, 0.0), 0.0)
    for limit in (1, 500):
        told.name(RateInWords(Counted.REQUESTS, limit, 60.0, of_account=True), 1.0)
    [named] = told.named.values()
    assert named.words.limit == 500
