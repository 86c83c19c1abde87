"""The garbage collector is run within a budget, whatever wishes for it."""

from __future__ import annotations

from comet_resilience.limits.collecting import REST, Budget
from comet_resilience.limits.lookout import ALL, YOUNG


def test_a_thousand_partitions_have_the_objects_looked_at_as_often_as_one() -> None:
    """Within a minute of standstill: every five seconds the young, once all of them."""
    budget, found = Budget(), []
    for second in range(100, 160):
        for _partition in range(1_000):
            allowed = budget.allows(ALL, float(second))
            if allowed is not None:
                found.append(allowed)
                budget.spent(allowed, float(second), 0.01)
    assert found == [ALL] + [YOUNG] * 11


def test_collections_take_a_small_share_of_the_time_however_large_the_process_is() -> None:
    """Each is followed by fifty times its own length without any."""
    budget, now, spent = Budget(), 1_000.0, 0.0
    for _ in range(5_000):
        allowed = budget.allows(ALL, now)
        if allowed is not None:
            seconds = 14.0 if allowed == ALL else 2.0
            budget.spent(allowed, now, seconds)
            spent += seconds
        now += 1.0
    assert 0 < spent <= 5_000 / REST * 1.2
    assert budget.allows(YOUNG, 10.0) == YOUNG  # a clock that was set back, as tests have
