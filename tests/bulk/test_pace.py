"""The pace of a run, by the limiter's figures alone, without a loop."""

from __future__ import annotations

from collections.abc import Hashable

from comet_resilience.bulk.pace import PREPARES_AFTER, WINDOW, BulkCall, Pace
from comet_resilience.limits.snapshot import Load

KEY = ("POST /chat/completions", "m")
IDLE = Load(0, 0, 0, 0)


class Limits(dict[Hashable, Load]):
    """Return what the limiter would say."""

    def pace(self, max_queue: int | None = None, *, has_deadline: bool = False) -> Pace:
        """A pace that goes by it."""
        return Pace(lambda key: self.get(key, IDLE), max_queue, has_deadline=has_deadline)


def begin(pace: Pace, now: float = 0.0) -> BulkCall:
    """A call begins."""
    call = BulkCall(0, b"", now)
    pace.began(call)
    return call


def begin_at(pace: Pace, *keys: Hashable) -> BulkCall:
    """A call that has asked for slots already."""
    call = begin(pace)
    for key in keys:
        pace.asked(call, key)
    return call


def test_before_anything_is_known_one_call_begins() -> None:
    """The next one only when the first has told where it asks, or is busy otherwise."""
    limits = Limits()
    pace = limits.pace()
    assert pace.room(0.0) == 1
    call = begin(pace)
    assert pace.room(0.0) == 0
    limits[KEY] = Load(8, 1, 0, 0)
    assert pace.asked(call, KEY)
    assert pace.room(0.0) == 7 + 1 + 1  # free, and ahead: one and one for eight of the limit


def test_what_is_free_and_a_few_ahead_but_not_what_waits() -> None:
    """Calls on their way to the limiter and those that wait there take from what may begin."""
    limits = Limits({KEY: Load(16, 10, 0, 0)})
    pace = limits.pace()
    calls = [begin_at(pace, KEY) for _ in range(10)]
    assert pace.room(0.0) == 6 + 3
    begin(pace)
    assert pace.room(0.0) == 6 + 3 - 1
    limits[KEY] = Load(16, 16, 9, 0)
    assert pace.room(0.0) == 0
    limits[KEY] = Load(16, 16, 0, 0)
    assert pace.room(0.0) == 3 - 1
    for call in calls:
        pace.ended(call)
    limits[KEY] = Load(16, 0, 0, 0)
    assert pace.room(0.0) == 16 + 3 - 1


def test_the_queue_of_others_does_not_starve_the_run() -> None:
    """However many others wait, a few of our own may."""
    limits = Limits({KEY: Load(8, 8, 5_000, 0)})
    pace = limits.pace()
    begin_at(pace, KEY)
    assert pace.room(0.0) == 1
    begin_at(pace, KEY)
    assert pace.room(0.0) == 0


def test_one_call_is_always_under_way() -> None:
    """While the gate is closed one call waits for it, and no more."""
    limits = Limits({KEY: Load(0, 0, 0, 0)})
    pace = limits.pace(max_queue=0)
    assert pace.room(0.0) == 1
    begin_at(pace, KEY)
    assert pace.room(0.0) == 0


def test_calls_that_prepare_are_not_counted_for_long() -> None:
    """Or those that load a picture first would keep the limit from ever being reached."""
    limits = Limits({KEY: Load(8, 0, 0, 0)})
    pace = limits.pace()
    pace.ended(begin_at(pace, KEY))
    for _ in range(10):
        begin(pace, now=0.0)
    assert pace.room(PREPARES_AFTER / 2) == 0
    assert pace.room(PREPARES_AFTER) == 10
    assert pace.running == 10


def test_a_reader_that_is_slow_holds_the_run_back() -> None:
    """No more results are kept than a few times the limit."""
    limits = Limits({KEY: Load(8, 0, 0, 0)})
    pace = limits.pace()
    for _ in range(WINDOW * 9 - 1):
        pace.ended(begin_at(pace, KEY))
    assert pace.room(0.0) == 1
    pace.ended(begin_at(pace, KEY))
    assert pace.room(0.0) == 0
    pace.held -= 1
    assert pace.room(0.0) == 1


def test_nobody_waits_ahead_where_waiting_costs_the_deadline_or_is_refused() -> None:
    """Neither with a deadline nor beyond ``max_queue``."""
    limits = Limits({KEY: Load(64, 60, 0, 0)})
    expected = {4: limits.pace(has_deadline=True), 4 + 2: limits.pace(2), 4 + 9: limits.pace()}
    for room, pace in expected.items():
        begin_at(pace, KEY)
        assert pace.room(0.0) == room


def test_partitions_count_while_a_call_uses_them() -> None:
    """The last one is remembered, for it is the best guess; refusals are never forgotten."""
    limits = Limits({"a": Load(8, 0, 0, 5), "b": Load(100, 0, 0, 0)})
    pace = limits.pace()
    one, other = begin_at(pace, "a"), begin_at(pace, "b", "b")
    assert pace.limit() == 108
    limits["a"] = Load(8, 0, 0, 7)
    limits["b"] = Load(100, 0, 0, 10)
    assert pace.refused() == 2 + 10
    pace.ended(other)
    assert pace.limit() == 8
    pace.ended(one)
    assert pace.limit() == 8
    begin_at(pace, "c")
    assert pace.limit() == 0
    assert pace.refused() == 2 + 10
