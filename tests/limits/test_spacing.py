"""A rate that is learnt from refusals: when it is believed, kept to, explored and forgotten."""

from __future__ import annotations

import heapq
from functools import partial
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience.limits.algorithm import StepBack, Ticket
from comet_resilience.limits.attempt_log import LOG_MOST, Attempt
from comet_resilience.limits.belief import Listening
from comet_resilience.limits.explanations import Family, Kind
from comet_resilience.limits.spacing import LONGEST, Spacing

from ..servers import Server, bucket, cap, sliding

REFUSED_AFTER = 0.1


class Client:
    """Sends all the time, as far as ``StepBack`` and the spacing let it, and counts."""

    def __init__(self, server: Server, *, service: float = 1.0) -> None:
        self.server, self.service = server, service
        self.limit = StepBack(8, 1, 512)
        self.now, self.in_flight, self.at_server = 0.0, 0, 0
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.told: list[bool] = []
        self.explored: list[bool] = []
        self.sent_at: list[float] = []
        self.spacing: Spacing | None = None
        self.random = Random(5)
        self.events: list[tuple[float, int, partial[None]]] = []

    def run(self, until: float) -> None:
        """Send as much as may be sent until a time."""
        while self.now < until:
            self.limit.tick(self.now)
            at = self.now if self.spacing is None else self.spacing.ready_at(self.now)
            assert at >= self.now
            has_room = self.in_flight < self.limit.limit
            if at == self.now and has_room:
                self.send()
                continue
            due = [until, *(event[0] for event in self.events[:1])]
            if has_room:
                due.append(at)
            elif self.limit.wake_at is not None:
                due.append(self.limit.wake_at)
            self.now = max(min(due), self.now)
            while self.events and self.events[0][0] <= self.now:
                heapq.heappop(self.events)[2]()

    def send(self) -> None:
        self.in_flight += 1
        self.sent_at.append(self.now)
        ticket = self.limit.sent(self.now, self.in_flight)
        spaced = None
        if self.spacing is not None:
            spaced = self.spacing.sent(ticket.number, self.now, self.in_flight)
        taken = self.server(self.now, self.at_server + 1)
        self.at_server += taken
        after = self.service * self.random.uniform(0.5, 1.5) if taken else REFUSED_AFTER
        end = self.succeed if taken else self.refuse
        heapq.heappush(self.events, (self.now + after, ticket.number, partial(end, ticket, spaced)))

    def succeed(self, ticket: Ticket, spaced: Attempt | None) -> None:
        self.in_flight -= 1
        self.at_server -= 1
        self.accepted.append(self.now)
        if self.spacing is not None and spaced is not None:
            self.spacing.accepted(spaced, self.now)
        self.limit.accepted(ticket, self.now)
        self.limit.ended(ticket, self.now, self.in_flight)

    def refuse(self, ticket: Ticket, spaced: Attempt | None) -> None:
        self.in_flight -= 1
        self.refused.append(self.now)
        if self.spacing is None:
            self.spacing = Spacing(self.limit.numbered, self.limit.level, 0.0, self.now)
        number, at, in_flight = ticket.number, ticket.sent_at, ticket.in_flight
        spaced = spaced or self.spacing.sent_before(number, at, in_flight)
        self.told.append(not self.spacing.refused(spaced, self.now))
        self.explored.append(spaced.explores)
        if self.told[-1]:
            self.limit.refused(ticket, self.now, self.in_flight, None, self.random.random())
        due = self.spacing.take_doubt()
        if due is not None:
            self.limit.probe_at(due)
        self.limit.ended(ticket, self.now, self.in_flight)

    def share_refused(self, since: float) -> float:
        """Refusals for each answer since a time."""
        answered = sum(at >= since for at in self.accepted)
        return sum(at >= since for at in self.refused) / max(1, answered)

    def rate(self, since: float) -> float:
        """Answers a second since a time."""
        return sum(at >= since for at in self.accepted) / (self.now - since)


@pytest.mark.parametrize(
    ("server", "rate"),
    [
        (bucket(5.0, 1.0), 5.0),
        (bucket(5.0, 10.0), 5.0),
        (bucket(1.0, 5.0), 1.0),
        (sliding(20, 10.0), 2.0),
    ],
    ids=["no burst", "bucket", "slow bucket", "window"],
)
def test_a_rate_is_found_and_kept_to(server: Server, rate: float) -> None:
    client = Client(server)
    client.run(300.0)
    assert client.spacing is not None
    assert client.spacing.rate == pytest.approx(rate, rel=0.15)
    assert client.rate(since=60.0) > 0.9 * rate
    assert client.share_refused(since=60.0) < 0.06


def test_a_deep_bucket_is_believed_once_it_was_filled_anew() -> None:
    client = Client(bucket(0.2, 12.0))
    until = 0.0
    while client.spacing is None or isinstance(client.spacing.state, Listening):
        until += 1.0
        client.run(until)
    family = client.spacing.state.family
    assert family.kind is Kind.BUCKET
    assert len(client.accepted) >= 2 * family.size - 1


def test_refusals_of_what_was_explored_are_not_told_to_the_limit() -> None:
    client = Client(bucket(5.0, 10.0))
    client.run(300.0)
    told = [told for told, explored in zip(client.told, client.explored, strict=True) if explored]
    assert len(told) > 5
    assert not any(told)


@pytest.mark.parametrize("limit", [2, 5, 9])
def test_a_cap_is_no_rate(limit: int) -> None:
    client = Client(cap(limit))
    client.run(200.0)
    assert client.spacing is not None
    assert client.spacing.rate is None
    assert all(client.told)
    assert client.share_refused(since=30.0) < 0.6 / limit
    assert client.rate(since=30.0) > 0.9 * limit


def test_noise_is_no_rate_for_long() -> None:
    random = Random(11)
    client = Client(lambda now, in_flight: random.random() > 0.05)
    client.run(200.0)
    assert client.rate(since=0.0) > 10


def test_a_rise_of_the_rate_is_found() -> None:
    slow, fast = bucket(1.0, 5.0), bucket(5.0, 5.0)
    client = Client(lambda now, n: (slow if now < 200 else fast)(now, n))
    client.run(200.0)
    assert client.rate(since=100.0) < 1.1
    client.run(500.0)
    assert client.rate(since=400.0) > 0.85 * 5


def test_a_fall_of_the_rate_is_found() -> None:
    fast, slow = bucket(5.0, 5.0), bucket(1.0, 5.0)
    client = Client(lambda now, n: (fast if now < 200 else slow)(now, n))
    client.run(200.0)
    before = len(client.refused)
    client.run(500.0)
    assert client.rate(since=300.0) > 0.9
    assert len(client.refused) - before < 100
    assert client.share_refused(since=400.0) < 0.1


def test_a_rate_that_holds_nothing_back_is_forgotten() -> None:
    client = Client(bucket(5.0, 10.0))
    client.run(100.0)
    spacing = client.spacing
    assert spacing is not None
    assert spacing.rate is not None
    spacing.tick(200.0)
    assert isinstance(spacing.state, Listening)
    assert spacing.state.reason == "nothing was held back"
    assert spacing.ready_at(200.0) == 200.0


def test_what_met_another_limit_tells_nothing() -> None:
    spacing = Spacing(0, 0, 0.0, 0.0)
    spaced = spacing.sent(1, 1.0, 1)
    spacing.withdrawn(spaced)
    assert not spacing.log.attempts


def test_what_was_sent_before_the_first_refusal_is_taken_for_accepted() -> None:
    spacing = Spacing(5, 3, 0.0, 5.0)
    spaced = spacing.sent_before(4, 2.5, 4)
    assert [(one.at, one.in_flight) for one in spacing.log.attempts] == [
        (1.0, 1), (2.0, 2), (2.5, 3), (2.5, 4), (5.0, 3),
    ]  # fmt: skip
    assert not spacing.refused(spaced, 5.0)
    assert [one.is_accepted for one in spacing.log.attempts] == [True, True, True, False, True]


def test_the_next_probe_is_due_soon_after_the_first_refusals_and_no_more() -> None:
    spacing = Spacing(8, 0, 0.0, 0.1)
    for number in range(2, 9):
        spacing.refused(spacing.sent_before(number, 0.0, number), 0.1)
    due = spacing.take_doubt()
    assert due is not None
    assert 0.1 < due < 1.2
    assert spacing.take_doubt() is None


def test_slow_refusals_spread_the_first_sends_no_further_than_quick_ones() -> None:
    """Behind a busy proxy a refusal takes a second: eight slots must not stay empty as long."""
    spacing = Spacing(8, 8, 0.0, 1.0)
    assert not spacing.refused(spacing.sent_before(8, 0.0, 8), 1.0)
    assert spacing.log.silence > 0.4
    spacing.sent(9, 1.0, 8)
    assert 1.2 < spacing.ready_at(1.0) <= 1.25


def test_an_answer_after_a_refusal_ends_the_pause() -> None:
    spacing = Spacing(8, 8, 0.0, 1.0)
    assert not spacing.refused(spacing.sent_before(8, 0.0, 8), 1.0)
    first = spacing.sent(9, 1.0, 8)
    spacing.accepted(first, 1.05)
    assert spacing.ready_at(1.05) == 1.05


STEPS = st.lists(
    st.tuples(st.floats(0.0, 20.0), st.sampled_from(["send", "accept", "refuse"])),
    min_size=1,
    max_size=120,
)


@settings(max_examples=60)
@given(STEPS)
def test_nobody_waits_for_ever(steps: list[tuple[float, str]]) -> None:
    """Whatever happens, the next may go at a time that comes, within a bounded time."""
    spacing, now, under_way, number, sent_at = Spacing(0, 0, 0.0, 0.0), 0.0, list[Attempt](), 0, 0.0
    for seconds, what in steps:
        now += seconds
        at = spacing.ready_at(now)
        assert now <= at <= max(now, sent_at + LONGEST)
        if what == "send":
            now = at
            assert spacing.ready_at(now) - now < 1e-6
            number, sent_at = number + 1, now
            under_way.append(spacing.sent(number, now, len(under_way) + 1))
        elif under_way and what == "accept":
            spacing.accepted(under_way.pop(0), now)
        elif under_way:
            spacing.refused(under_way.pop(0), now)
        assert len(spacing.log.attempts) <= LOG_MOST
        assert spacing.rate is None or spacing.rate > 0


def test_a_bucket_of_one_has_no_credit() -> None:
    client = Client(bucket(5.0, 1.0))
    client.run(120.0)
    assert client.spacing is not None
    assert not isinstance(client.spacing.state, Listening)
    assert client.spacing.state.family == Family(Kind.BUCKET, 1.0)
    late = [at for at in client.sent_at if at > 60]
    gaps = [after - before for before, after in pairwise(late)]
    assert min(gaps) > 0.1
