"""The short form of the simulation, with its bars; and that it tells the truth about itself."""

from __future__ import annotations

import pytest
import trio.testing

from .sim.many import compare
from .sim.oracle import Oracle
from .sim.policies import PRODUCT, Policy, product_retry
from .sim.rivals import Aimd, Gradient2
from .sim.run import Run
from .sim.scenario import Kind
from .sim.scenarios import BY_NAME, SCENARIOS
from .sim.table import bars_table, misses
from .sim.tasks import TaskRun
from .simulate import SHORT, SHORT_SEEDS

pytestmark = pytest.mark.timeout(300)  # minutes of simulated time are seconds of real work


@pytest.mark.parametrize("name", SHORT)
def test_the_limiter_reaches_its_bars(name: str) -> None:
    """The short form of ``python -m tests.bench.simulate`` misses no bar."""
    summary = compare([name], [PRODUCT.name], SHORT_SEEDS, 1, batches=True)[name, PRODUCT.name]
    assert not list(misses(BY_NAME[name].bars, summary))
    assert name in bars_table([(BY_NAME[name], summary)])


def test_same_seed_same_trace() -> None:
    """A run depends on its seed alone."""

    def trace(seed: int) -> tuple[list[float], list[float], list[tuple[float, int]]]:
        run = Run(BY_NAME["i_outage"], PRODUCT, seed, Kind.BATCH, watch=True)
        run.play()
        return run.sent_at, run.refused_at, run.limits

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


def test_the_oracle_goes_on_after_an_outage() -> None:
    """Nobody serves more than it does."""
    scenario = BY_NAME["i_outage"]
    best = Oracle(scenario, 1, Kind.SATURATED).play()
    assert Run(scenario, PRODUCT, 1, Kind.SATURATED).play().successes <= best.successes


@pytest.mark.parametrize("make", [Aimd, Gradient2])
def test_what_people_use_today_does_worse(make: type[Aimd | Gradient2]) -> None:
    """The rivals run in the same limiter, and lose 5 % of a noisy cap or more."""
    rival = Policy(make.__name__, make, product_retry)
    theirs = Run(BY_NAME["g_random"], rival, 1, Kind.SATURATED).play()
    ours = Run(BY_NAME["g_random"], PRODUCT, 1, Kind.SATURATED).play()
    assert theirs.successes < 0.95 * ours.successes


@pytest.mark.parametrize("seed", [70, 83])
def test_a_cap_that_jumps_is_not_taken_for_a_rate(seed: int) -> None:
    """It refuses in bursts, as a window does; these two were taken for one, and reached 0.7."""
    scenario = BY_NAME["h_jumps"]
    best = Oracle(scenario, seed, Kind.SATURATED).play()
    ours = Run(scenario, PRODUCT, seed, Kind.SATURATED).play()
    assert ours.successes > 0.85 * best.successes


def test_every_scenario_has_its_own_name() -> None:
    """Names are keys."""
    assert len(BY_NAME) == len(SCENARIOS)


@pytest.mark.parametrize("name", ["b_step", "i_outage"])
def test_tasks_and_callbacks_agree(name: str) -> None:
    """The same batch through ``await limiter.acquire()`` under trio's clock goes the same way.

    Not to the last bit: what happens at the same instant, trio runs in random order.
    """
    quick = Run(BY_NAME[name], PRODUCT, 1, Kind.BATCH)
    told = quick.play()
    slow = TaskRun(BY_NAME[name], PRODUCT, 1, Kind.BATCH)
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(slow.play, clock=clock)  # anyio 4.10 forgets the clock
    assert len(slow.done_at) == told.successes == len(quick.jobs)
    nearly_all = int(0.9 * told.successes)
    ended = sorted(job.done_at or 0.0 for job in quick.jobs)[nearly_all]
    assert sorted(slow.done_at)[nearly_all] == pytest.approx(ended, rel=0.05)
    assert len(slow.refused_at) == pytest.approx(told.refused, rel=0.4)
