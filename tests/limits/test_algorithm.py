"""How the limit moves: each rule of the module's head, and what holds whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience.limits import algorithm as module
from comet_resilience.limits.algorithm import (
    CLOSED_MAX,
    HASTE_MOST,
    HOLD_MAX,
    HOLD_MIN,
    HOLD_STRETCH,
    QUICK_VERDICT,
    RETRY_AFTER_MAX,
    RETRY_AFTER_SPREAD,
    START_SHARE,
    VERDICT_TIME,
    LimitAlgorithm,
    StepBack,
    Ticket,
)


class Desk:
    """Counts what is in flight and calls the algorithm as the limiter does; time by hand."""

    def __init__(self, algorithm: LimitAlgorithm) -> None:
        self.algorithm = algorithm
        self.now = 0.0
        self.out: list[Ticket] = []
        self.draw = 0.5

    def send(self) -> Ticket:
        """One attempt goes out, room or not."""
        ticket = self.algorithm.sent(self.now, len(self.out) + 1)
        self.out.append(ticket)
        return ticket

    def fill(self) -> list[Ticket]:
        """As many go out as the limit allows."""
        sent = []
        while len(self.out) < self.algorithm.limit:
            sent.append(self.send())
        return sent

    def begin(self, *tickets: Ticket) -> None:
        """Their answers begin; they go on."""
        for ticket in tickets:
            self.algorithm.accepted(ticket, self.now)

    def finish(self, *tickets: Ticket) -> None:
        """They succeed."""
        for ticket in tickets:
            self.out.remove(ticket)
            self.algorithm.accepted(ticket, self.now)
            self.algorithm.ended(ticket, self.now, len(self.out))

    def refuse(self, *tickets: Ticket, retry_after: float | None = None) -> None:
        """They are refused for load."""
        for ticket in tickets:
            self.out.remove(ticket)
            left = len(self.out)
            self.algorithm.refused(ticket, self.now, left, retry_after, self.draw)
            self.algorithm.ended(ticket, self.now, left)

    def fail(self, *tickets: Ticket) -> None:
        """They fail in a way that says nothing about load."""
        for ticket in tickets:
            self.out.remove(ticket)
            self.algorithm.ended(ticket, self.now, len(self.out))

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.algorithm.tick(self.now)

    def wait_for_timer(self) -> None:
        """Time passes until the algorithm wants to be woken; there must be such a time."""
        wake_at = self.algorithm.wake_at
        assert wake_at is not None
        self.wait(wake_at - self.now)


def at_level(level: int, *, minimum: int = 1, maximum: int = 512) -> tuple[StepBack, Desk]:
    """An algorithm in its hold, with ``level`` accepted and in flight and one probe refused."""
    algorithm = StepBack(level + 1, minimum, maximum)
    desk = Desk(algorithm)
    *accepted, probe = desk.fill()
    desk.begin(*accepted)
    desk.refuse(probe)
    assert (algorithm.level, algorithm.limit, len(desk.out)) == (level, level, level)
    return algorithm, desk


def replace_all(desk: Desk) -> list[Ticket]:
    """Everything in flight succeeds and new attempts take its place."""
    desk.finish(*desk.out)
    return desk.fill()


# -- A fixed limit -----------------------------------------------------------------------------


# -- Rules 1 and 2: start and growth -----------------------------------------------------------


@pytest.mark.parametrize(
    ("initial", "minimum", "maximum", "limit"), [(8, 1, 512, 8), (8, 10, 512, 10), (8, 1, 5, 5)]
)
def test_the_start_lies_within_the_bounds(
    initial: int, minimum: int, maximum: int, limit: int
) -> None:
    """The first limit is the configured one, moved into the bounds."""
    assert StepBack(initial, minimum, maximum).limit == limit


def test_accepted_probes_raise_level_and_allowance() -> None:
    """After one allowed probe the allowance goes 1, 2, 4 and then stays 4."""
    algorithm, desk = at_level(5)
    desk.wait(100.0)
    limits = [algorithm.limit]
    for _ in range(4):
        desk.begin(*desk.fill())
        limits.append(algorithm.limit)
    assert limits == [6, 8, 12, 16, 20]


def test_the_allowance_is_a_quarter_of_a_high_level() -> None:
    """At a high level up to a quarter of it is tried at once."""
    algorithm, desk = at_level(90)
    desk.wait(100.0)
    while algorithm.level < 150:
        desk.begin(*desk.fill())
    assert algorithm.allowance == algorithm.level // 4


def test_no_acceptance_lowers_the_limit() -> None:
    """The first success of a fresh partition leaves the configured start in force."""
    algorithm = StepBack(8, 1, 512)
    desk = Desk(algorithm)
    limits = []
    for ticket in desk.fill():
        desk.begin(ticket)
        limits.append(algorithm.limit)
    assert limits[0] == 8
    assert limits == sorted(limits)
    assert limits[-1] == 12


def test_no_growth_while_the_limit_is_not_reached() -> None:
    """A caller who sends one request at a time teaches a level of 1, however often."""
    algorithm = StepBack(8, 1, 512)
    desk = Desk(algorithm)
    for _ in range(100):
        desk.finish(desk.send())
        desk.wait(1.0)
    assert (algorithm.level, algorithm.limit) == (1, 8)


def test_silence_counts_as_acceptance_of_a_probe() -> None:
    """A probe that was not refused within the verdict time is accepted, by timer."""
    algorithm, desk = at_level(5)
    desk.wait(100.0)
    desk.fill()
    desk.wait_for_timer()
    assert desk.now == 100.0 + VERDICT_TIME
    assert algorithm.level == 6


def test_a_failure_that_says_nothing_about_load_is_no_acceptance() -> None:
    """Probes that end in other failures leave the level alone."""
    algorithm, desk = at_level(5)
    desk.wait(100.0)
    desk.fail(*desk.fill())
    desk.wait(5.0)
    assert (algorithm.level, algorithm.limit) == (5, 6)


def test_an_attempt_from_before_the_step_back_does_not_undo_it() -> None:
    """An answer that begins long after the level fell teaches nothing about today's capacity."""
    algorithm, desk = at_level(20)
    old = replace_all(desk)[-1]
    desk.fail(*desk.out[:15])
    desk.refuse(*[desk.send() for _ in range(3)][:2])
    assert algorithm.level < 6
    desk.wait(100.0)
    desk.begin(old)
    assert algorithm.level < 6


# -- Rule 3: refused probes --------------------------------------------------------------------


def test_a_burst_over_the_capacity_steps_back_once() -> None:
    """Of twenty sent at once five are taken: the level is five, the hold doubled once."""
    algorithm = StepBack(20, 1, 512)
    desk = Desk(algorithm)
    burst = desk.fill()
    desk.refuse(*burst[5:])
    assert (algorithm.level, algorithm.limit) == (5, 5)
    assert algorithm.hold == 2 * HOLD_MIN
    assert algorithm.closed_until is None


def test_a_refused_probe_costs_one_attempt() -> None:
    """After each hold exactly one more than the level is tried."""
    algorithm, desk = at_level(5)
    for _ in range(5):
        replace_all(desk)
        desk.wait(HOLD_STRETCH * HOLD_MAX)
        (probe,) = desk.fill()
        desk.refuse(probe)
        assert (algorithm.level, algorithm.limit) == (5, 5)


def test_a_late_refusal_counts_once() -> None:
    """A refusal that arrives after the step back lowers the level, and touches no hold."""
    algorithm, desk = at_level(10)
    hold, wake_at = algorithm.hold, algorithm.wake_at
    desk.wait(0.5)
    desk.refuse(desk.out[3])
    assert algorithm.level == 9
    assert (algorithm.hold, algorithm.wake_at) == (hold, wake_at)


def test_a_probe_refused_after_its_verdict_is_one_refusal() -> None:
    """A late 429 of an attempt that was taken for accepted changes nothing by itself."""
    algorithm, desk = at_level(5)
    replace_all(desk)
    desk.wait(100.0)
    (probe,) = desk.fill()
    desk.wait(VERDICT_TIME)
    assert algorithm.level == 6
    desk.refuse(probe)
    assert (algorithm.level, algorithm.limit) == (6, 8)


# -- Rule 4: noise and confirmation ------------------------------------------------------------


def test_one_refusal_at_a_known_level_changes_nothing() -> None:
    """A single 429 in the middle of acceptances is noise, even with a Retry-After."""
    algorithm, desk = at_level(10)
    sent = replace_all(desk)
    desk.refuse(sent[4], retry_after=30.0)
    assert (algorithm.level, algorithm.limit, algorithm.closed_until) == (10, 10, None)


@pytest.mark.parametrize("order", [(4, 5), (5, 4)], ids=["as sent", "overtaking"])
def test_two_in_a_row_lower_the_level(order: tuple[int, int]) -> None:
    """Two refusals sent one after the other count, in whatever order they arrive."""
    algorithm, desk = at_level(10)
    sent = replace_all(desk)
    desk.refuse(*(sent[place] for place in order))
    assert algorithm.level == 7


def test_two_refusals_apart_are_still_noise() -> None:
    """Refusals with another attempt between them do not confirm each other."""
    algorithm, desk = at_level(10)
    sent = replace_all(desk)
    desk.refuse(sent[2], sent[4], sent[6], sent[8])
    assert algorithm.level == 10


def test_random_refusals_do_not_sink_the_level() -> None:
    """With 5 % of the attempts refused for nothing a level of 40 stays near 40."""
    algorithm, desk = at_level(40)
    random = Random(7)
    levels = []
    for _ in range(4_000):
        desk.wait(0.08)
        desk.draw = random.random()
        for ticket in desk.fill():
            if len(desk.out) > 40 or random.random() < 0.05:
                desk.refuse(ticket)
        if desk.out:
            desk.finish(desk.out[0])
        levels.append(algorithm.level)
    assert sum(levels) / len(levels) > 37


# -- Rule 5: holds -----------------------------------------------------------------------------


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take answers for slow ones, although the desk gives them at once."""
    monkeypatch.setattr(module, "ANSWER_TIME_SHARE", 0.0)


@pytest.mark.usefixtures("unhurried")
def test_a_hold_ends_when_its_time_and_quota_are_up() -> None:
    """Time alone does not end a hold while less was accepted than its quota."""
    algorithm, desk = at_level(5)
    desk.wait(1.2 * algorithm.hold)
    assert algorithm.allowance == 0
    for allowance in (0, 0, 1):  # the first five were counted before the hold
        replace_all(desk)
        assert algorithm.allowance == allowance
        assert algorithm.holds_still is (allowance == 0)


def test_a_hold_ends_at_last_without_any_acceptance() -> None:
    """With nothing in flight and nothing accepted the hold ends by its timer."""
    algorithm, desk = at_level(5)
    desk.fail(*desk.out)
    desk.wait_for_timer()
    assert desk.now == pytest.approx(HOLD_STRETCH * algorithm.hold)
    assert algorithm.allowance == 1


@pytest.mark.usefixtures("unhurried")
def test_refused_probes_double_the_hold_and_accepted_ones_halve_it() -> None:
    """The hold moves between its bounds."""
    algorithm, desk = at_level(5)
    holds = []
    for _ in range(5):
        desk.wait(HOLD_STRETCH * HOLD_MAX)
        desk.refuse(*desk.fill())
        holds.append(algorithm.hold)
    desk.wait(HOLD_STRETCH * HOLD_MAX)
    for _ in range(4):
        desk.begin(*desk.fill()[:1])
        holds.append(algorithm.hold)
    assert holds == [6.0, 10.0, 10.0, 10.0, 10.0, 5.0, 2.5, 1.5, 1.5]


def test_a_capacity_of_one_is_kept_and_probed_rarely() -> None:
    """Behind a cap of 1 one request runs at a time, and few of a hundred are refused."""
    algorithm = StepBack(1, 1, 512)
    desk = Desk(algorithm)
    refused = 0
    for tick in range(600):
        if tick % 6 == 0:
            desk.finish(*desk.out)
        for ticket in desk.fill():
            if len(desk.out) > 1:
                desk.refuse(ticket)
                refused += 1
        desk.wait(0.5)
    assert algorithm.level == 1
    assert 0 < refused <= 14


# -- Rules 6 and 7: the gate -------------------------------------------------------------------


def closed_at(level: int, retry_after: float | None = None) -> tuple[StepBack, Desk]:
    """An algorithm that was just closed by three refusals in a row."""
    algorithm, desk = at_level(level)
    replace_all(desk)
    for _ in range(3):
        desk.finish(desk.out[0])
        desk.refuse(desk.send(), retry_after=retry_after)
    assert algorithm.closed_until is not None
    return algorithm, desk


def test_three_in_a_row_close_the_gate() -> None:
    """While closed nothing that ends is replaced, down to nothing."""
    algorithm, desk = closed_at(10)
    while desk.out:
        desk.finish(desk.out[0])
        assert not desk.fill()
    assert algorithm.limit == 0
    assert algorithm.wake_at == algorithm.closed_until


def test_one_canary_reopens_and_the_ramp_follows() -> None:
    """When its time has come one attempt goes out; accepted, it starts the ramp."""
    algorithm, desk = closed_at(10)
    desk.fail(*desk.out)
    desk.wait_for_timer()
    (canary,) = desk.fill()
    assert algorithm.closed_until is not None
    desk.begin(canary)
    assert algorithm.closed_until is None
    assert algorithm.limit == 3
    desk.begin(*desk.fill())
    assert algorithm.limit == 7


def test_a_refused_canary_closes_for_longer() -> None:
    """Canaries go out further and further apart, but at most six seconds."""
    _, desk = closed_at(3)
    desk.fail(*desk.out)
    gaps = []
    for _ in range(6):
        before = desk.now
        desk.wait_for_timer()
        gaps.append(desk.now - before)
        (canary,) = desk.fill()
        desk.refuse(canary)
    assert gaps == pytest.approx(sorted(gaps))
    assert gaps[-1] <= 1.2 * CLOSED_MAX


def test_a_canary_refused_late_closes_at_once() -> None:
    """A canary that silence let pass continues the row when its refusal does arrive."""
    algorithm, desk = closed_at(3)
    desk.fail(*desk.out)
    desk.wait_for_timer()
    (canary,) = desk.fill()
    desk.wait(VERDICT_TIME)
    assert algorithm.closed_until is None
    desk.refuse(canary)
    assert algorithm.closed_until is not None


def test_a_later_acceptance_reopens_before_the_canary() -> None:
    """An attempt sent after the last refused one is as good a canary."""
    algorithm, desk = at_level(10)
    replace_all(desk)
    for _ in range(2):
        desk.finish(desk.out[0])
        desk.refuse(desk.send())
    desk.finish(*desk.out[:2])
    third, later = desk.send(), desk.send()
    desk.refuse(third)
    assert algorithm.closed_until is not None
    desk.begin(later)
    assert algorithm.closed_until is None


def test_retry_after_binds_the_closed_gate_only() -> None:
    """A hint keeps the closed gate shut as long as it says, stretched by at most 5 %."""
    algorithm, desk = closed_at(10, retry_after=30.0)
    assert algorithm.closed_until is not None
    waits = algorithm.closed_until - desk.now
    assert 30.0 <= waits <= 30.0 * (1 + RETRY_AFTER_SPREAD)


def test_retry_after_is_bounded() -> None:
    """No hint keeps a partition closed for more than a minute."""
    algorithm, desk = closed_at(10, retry_after=3_600.0)
    assert algorithm.closed_until is not None
    assert algorithm.closed_until - desk.now <= RETRY_AFTER_MAX * (1 + RETRY_AFTER_SPREAD)


def test_a_shorter_hint_does_not_open_earlier() -> None:
    """Refusals that come in while the gate is closed can only keep it closed."""
    algorithm, desk = closed_at(10, retry_after=30.0)
    until = algorithm.closed_until
    desk.wait(1.0)
    desk.refuse(desk.out[0], retry_after=1.0)
    assert algorithm.closed_until == until


def test_a_capacity_that_vanishes_and_returns() -> None:
    """With everything refused a few canaries go out; with capacity back the limit climbs."""
    algorithm = StepBack(8, 1, 512)
    desk = Desk(algorithm)
    attempts = 0
    while desk.now < 60.0:
        sent = desk.fill()
        attempts += len(sent)
        desk.wait(0.1)
        desk.refuse(*sent)
        desk.wait(0.1)
    assert attempts <= 30
    while desk.now < 75.0:
        desk.begin(*desk.fill())
        desk.wait(0.5)
    assert algorithm.limit > 8


# -- Bounds ------------------------------------------------------------------------------------


def test_an_open_limit_stays_at_or_above_the_minimum() -> None:
    """Refusals do not lower an open partition below its minimum."""
    algorithm, desk = at_level(6, minimum=5)
    for _ in range(10):
        sent = replace_all(desk)
        desk.refuse(sent[0], sent[1])
        assert algorithm.limit >= 5 or algorithm.closed_until is not None
        desk.wait(1.0)


def test_the_limit_stays_at_or_below_the_maximum() -> None:
    """Growth ends at the maximum."""
    algorithm, desk = at_level(10, maximum=15)
    desk.wait(100.0)
    for _ in range(5):
        desk.begin(*desk.fill())
    assert (algorithm.level, algorithm.limit) == (15, 15)


# -- Whatever happens --------------------------------------------------------------------------

Step = tuple[str, int, float, float, float | None]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fill", "begin", "finish", "refuse", "refuse", "fail", "timer"]),
        st.integers(0, 30),
        st.sampled_from([0.0, 0.05, 0.3, 1.0, 4.0]),
        st.floats(0.0, 1.0, exclude_max=True),
        st.sampled_from([None, None, 0.5, 30.0]),
    ),
    max_size=60,
)
BOUNDS = st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(6, 40))


def play(algorithm: StepBack, steps: Sequence[Step]) -> list[object]:
    """Carry the steps out as the limiter would; checks what always holds, returns the trace."""
    desk = Desk(algorithm)
    trace: list[object] = []
    for what, which, seconds, draw, retry_after in steps:
        desk.wait(seconds)
        desk.draw = draw
        chosen = desk.out[which % len(desk.out) :][: 1 + which % 3] if desk.out else []
        if what == "fill":
            desk.fill()
        elif what == "refuse":
            desk.refuse(*chosen, retry_after=retry_after)
        elif what == "timer" and algorithm.wake_at is not None:
            desk.wait_for_timer()
        elif what != "timer":
            getattr(desk, what)(*chosen)
        desk.wait(0.0)
        check(algorithm, desk)
        trace.append((desk.now, algorithm.limit, algorithm.wake_at, algorithm.reason))
    return trace


def check(algorithm: StepBack, desk: Desk) -> None:
    """The limit is within its bounds, and nothing can be stuck."""
    assert 0 <= algorithm.limit <= algorithm.maximum
    if algorithm.closed_until is None:
        assert algorithm.limit >= algorithm.minimum
    assert algorithm.level >= 0
    wake_at = algorithm.wake_at
    assert wake_at is None or wake_at > desk.now
    if not desk.out and algorithm.limit == 0:
        assert wake_at is not None
    assert HOLD_MIN * HASTE_MOST <= algorithm.hold <= HOLD_MAX


@settings(max_examples=150)
@given(BOUNDS, STEPS)
def test_nothing_can_be_stuck(bounds: tuple[int, int, int], steps: list[Step]) -> None:
    """Within its bounds at any time; with nothing in flight there is room or a timer to come."""
    play(StepBack(*bounds), steps)


@settings(max_examples=30)
@given(BOUNDS, STEPS)
def test_same_inputs_same_trace(bounds: tuple[int, int, int], steps: list[Step]) -> None:
    """The algorithm has no clock and no randomness of its own."""
    assert play(StepBack(*bounds), steps) == play(StepBack(*bounds), steps)


@settings(max_examples=50)
@given(BOUNDS, STEPS)
def test_it_always_comes_back(bounds: tuple[int, int, int], steps: list[Step]) -> None:
    """After anything at all, a gateway that takes everything is found out within three minutes."""
    algorithm = StepBack(*bounds)
    play(algorithm, steps)
    desk = Desk(algorithm)
    desk.now = sum(step[2] for step in steps) + 1_000.0
    for _ in range(360):
        desk.wait(0.5)
        desk.fill()
        desk.begin(*desk.out)
    assert algorithm.limit == algorithm.maximum


def test_fast_answers_shorten_the_least_waits() -> None:
    """Where answers take 50 ms a closed gate opens in tenths of a second, else in seconds."""
    closures = []
    for answer_time in (0.05, 3.0):
        algorithm = StepBack(8, 1, 100)
        now = 0.0
        for _ in range(50):
            ticket = algorithm.sent(now, 1)
            now += answer_time
            algorithm.accepted(ticket, now)
            algorithm.ended(ticket, now, 0)
        for _ in range(3):
            algorithm.refused(algorithm.sent(now, 1), now, 0, None, 0.5)
        assert algorithm.closed_until is not None
        closures.append(algorithm.closed_until - now)
    assert closures[0] < 0.7 < 1.0 <= closures[1]


# -- Rule 9: a quick start ---------------------------------------------------------------------


def quick(initial: int = 8) -> tuple[StepBack, Desk]:
    """An algorithm that starts quickly, with as many in flight as it allows."""
    algorithm = StepBack(initial, 1, 512, starts_quickly=True)
    desk = Desk(algorithm)
    desk.fill()
    return algorithm, desk


def test_a_quick_start_widens_by_most_of_the_level() -> None:
    """At first by as much as it began with, then by a share of the level."""
    algorithm, desk = quick()
    limits = []
    for _ in range(4):
        desk.begin(*desk.out)
        desk.fill()
        limits.append(algorithm.limit)
    assert limits[0] == 16
    assert limits[1:] == [before + int(before * START_SHARE) for before in limits[:-1]]


def test_silence_for_as_long_as_the_quickest_answer_counts_at_the_start() -> None:
    """And never for less than the least; nothing is known before the first answer."""
    algorithm, desk = quick()
    assert algorithm.wake_at == VERDICT_TIME
    desk.wait(0.4)
    desk.begin(desk.out[0])
    assert algorithm.wake_at == 0.4
    desk.wait(0.0)
    assert algorithm.level == 8
    desk.fill()
    desk.wait(QUICK_VERDICT / 2)
    desk.begin(desk.out[-1])
    assert algorithm.wake_at == pytest.approx(0.4 + QUICK_VERDICT)


def test_the_first_step_back_ends_a_quick_start() -> None:
    """From then on a second is waited for, and growth is that of everybody."""
    algorithm, desk = quick()
    desk.wait(0.4)
    desk.begin(*desk.out[:-1])
    desk.refuse(desk.out[-1])
    assert algorithm.level == 7
    desk.wait_for_timer()
    limits = []
    for _ in range(4):
        sent = desk.fill()
        assert algorithm.wake_at == desk.now + VERDICT_TIME
        desk.begin(*sent)
        limits.append(algorithm.limit)
    assert limits == [10, 14, 18, 22]


def test_a_start_below_an_account_is_quick_where_that_takes_twice_as_many() -> None:
    """Where one model is all that runs its account knows no more, and growth is careful."""
    algorithm, desk = StepBack(8, 1, 512), Desk(StepBack(8, 1, 512))
    desk.algorithm = algorithm
    desk.begin(*desk.fill())
    assert algorithm.limit == 12
    algorithm.note_account(15)
    assert not algorithm.starts_quickly
    algorithm.note_account(16)
    desk.begin(*desk.fill())
    assert algorithm.limit == 12 + int(12 * START_SHARE) - 1  # as many more as were gained: 8


def test_a_probe_may_be_due_sooner_than_the_hold_ends() -> None:
    """What was refused may have been sent too close, and met no ceiling."""
    limit = StepBack(8, 1, 512)
    tickets = [limit.sent(0.0, place) for place in range(1, 9)]
    limit.refused(tickets[1], 0.1, 7, None, 0.5)
    assert limit.wake_at is not None
    assert limit.wake_at > 1.0
    limit.probe_at(0.6)
    limit.tick(0.59)
    assert limit.limit == 7
    limit.tick(0.6)
    assert limit.limit == 8


def test_a_closed_gate_is_not_probed_sooner() -> None:
    """A canary has its own time."""
    limit = StepBack(8, 1, 512)
    tickets = [limit.sent(0.0, 1) for _ in range(3)]
    for ticket in tickets:
        limit.refused(ticket, 0.1, 0, None, 0.5)
    if limit.closed_until is None:
        later = [limit.sent(5.0 + place, 1) for place in range(3)]
        for ticket in later:
            limit.refused(ticket, 9.0, 0, None, 0.5)
    assert limit.closed_until is not None
    at = limit.wake_at
    limit.probe_at(9.01)
    assert limit.wake_at == at


def test_a_caller_that_gives_up_soon_lets_it_start_quickly_before_the_first_answer() -> None:
    """A quarter of a second without a refusal is enough; a step back ends that, too."""
    algorithm, desk = StepBack(8, 1, 512), Desk(StepBack(8, 1, 512))
    desk.algorithm = algorithm
    desk.fill()
    assert algorithm.wake_at == VERDICT_TIME
    algorithm.hurry()
    limits = []
    for _ in range(3):
        assert algorithm.wake_at == desk.now + QUICK_VERDICT
        desk.wait_for_timer()
        limits.append(algorithm.limit)
        desk.fill()
    assert limits == [16, 28, 50]
    desk.refuse(desk.out[-1])
    algorithm.hurry()
    desk.wait_for_timer()
    desk.fill()
    assert algorithm.wake_at == desk.now + VERDICT_TIME
