"""All scenarios, with what the limiter has to reach in each."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .account_scenes import ACCOUNT_SCENES
from .gateways import (
    Bucket,
    Cap,
    Gateway,
    PerModel,
    Sliding,
    Steps,
    Window,
    noisy_cap,
    request_weight,
    token_weight,
)
from .scenario import HORIZON, Bars, Hint, Kind, Scenario, true_hint
from .workload import MEAN_SERVICE, Workload

_BATCH_ONLY = (Kind.BATCH,)
_OPEN_LOOP = (Kind.SATURATED,)
_CAP = 20
_STEPS: Steps = ((0.0, 20), (200.0, 5), (400.0, 40))
_MINUTE = 60.0
_LONG_STREAMS = 4.85


def _cap(*steps: tuple[float, float]) -> Callable[[int], Gateway]:
    return lambda seed: Cap(steps)


def _bucket(*per_minute: tuple[float, float]) -> Callable[[int], Gateway]:
    steps = tuple((since, rate / _MINUTE) for since, rate in per_minute)
    return lambda seed: Bucket(steps, 10.0, request_weight)


def _tokens(seed: int) -> Gateway:
    return Bucket(((0.0, 240_000 / _MINUTE),), 20_000.0, token_weight)


def _window(seed: int) -> Gateway:
    return Window(60, _MINUTE, Random(f"phase {seed}").uniform(0.0, _MINUTE))


def _sliding(seed: int) -> Gateway:
    return Sliding(60, _MINUTE)


def _ends_only(seed: int) -> Gateway:
    return Sliding(60, _MINUTE, counts_ends=True)


def _two_models(seed: int) -> Gateway:
    return PerModel({"large": Cap(((0.0, 5),)), "small": Cap(((0.0, 20),))})


def _noisy(stride: int) -> Callable[[int], Gateway]:
    return lambda seed: noisy_cap(seed, stride=stride, until=2 * HORIZON)


def _saying(seconds: float) -> Hint:
    return lambda now, opens_at: seconds


def _arriving(share: float) -> Workload:
    return Workload(rate=share * _CAP / MEAN_SERVICE)


_CAP_20 = Bars(goodput=0.97, floor=0.90, refused=2.5, batch=1.04, nobody_fails=True)
_BUCKET = Bars(goodput=0.97, floor=0.90, refused=32, nobody_fails=True)
_FIXED_WINDOW = Bars(batch=1.03, refused=70, nobody_fails=True)
_RANDOM = Bars(goodput=0.93, floor=0.90, refused=7)
_RA60 = Bars(batch=1.08, refused=5, nobody_fails=True)

_SINGLE: tuple[Scenario, ...] = (
    Scenario(name="a_cap20", gateway=_cap((0, 20)), bars=_CAP_20),
    Scenario(name="a_cap20_ra1", gateway=_cap((0, 20)), hint=_saying(1.0), bars=_CAP_20),
    Scenario(
        name="b_step",
        gateway=_cap(*_STEPS),
        recovers=(400.0, 40),
        shown_capacity=_STEPS,
        bars=Bars(goodput=0.93, floor=0.90, refused=3, recovery=20),
    ),
    Scenario(name="c_bucket", gateway=_bucket((0, 300)), bars=_BUCKET),
    Scenario(name="c_bucket_ra", gateway=_bucket((0, 300)), hint=true_hint, bars=_BUCKET),
    Scenario(name="c_step", gateway=_bucket((0, 300), (200, 60), (400, 600))),
    Scenario(name="d_window", gateway=_window, bars=_FIXED_WINDOW),
    Scenario(name="d_window_ra", gateway=_window, hint=true_hint, bars=_FIXED_WINDOW),
    Scenario(
        name="d_sliding", gateway=_sliding, bars=Bars(batch=1.09, refused=70, nobody_fails=True)
    ),
    Scenario(name="d_newapi", gateway=_ends_only),
    Scenario(name="e_fast02", gateway=_window, workload=Workload(service=0.2), bars=_FIXED_WINDOW),
    Scenario(name="e_fast1", gateway=_window, workload=Workload(service=1.0), bars=_FIXED_WINDOW),
    Scenario(name="f_tpm", gateway=_tokens),
    Scenario(name="g_random", gateway=_cap((0, 40)), noise=0.05, bars=_RANDOM),
    Scenario(
        name="g_random_ra", gateway=_cap((0, 40)), noise=0.05, hint=_saying(5.0), bars=_RANDOM
    ),
    Scenario(name="h_noisy", gateway=_noisy(8), bars=Bars(goodput=0.90, refused=7)),
    Scenario(name="h_jumps", gateway=_noisy(24)),
    Scenario(
        name="i_outage",
        gateway=_cap((0, 20)),
        outage=(200.0, 260.0),
        recovers=(260.0, 20),
        bars=Bars(
            goodput=0.95, floor=0.90, refused=4, recovery=12, in_outage=30, nobody_fails=True
        ),
    ),
    Scenario(
        name="j_two_part",
        gateway=_two_models,
        workload=Workload(models=("large", "small")),
        bars=Bars(goodput=0.97, floor=0.90, refused=3),
    ),
    Scenario(
        name="j_two_1part",
        gateway=_two_models,
        workload=Workload(models=("large", "small")),
        one_partition=True,
    ),
    Scenario(name="k_10proc", gateway=_cap((0, 20)), processes=10),
    Scenario(
        name="l_open50",
        gateway=_cap((0, 20)),
        workload=_arriving(0.5),
        kinds=_OPEN_LOOP,
        bars=Bars(goodput=0.995, floor=0.90, refused=0.2, p99=1.05),
    ),
    Scenario(
        name="l_open90",
        gateway=_cap((0, 20)),
        workload=_arriving(0.9),
        kinds=_OPEN_LOOP,
        bars=Bars(goodput=0.98, floor=0.90, refused=2.5, p99=1.15),
    ),
    Scenario(
        name="l_open120",
        gateway=_cap((0, 20)),
        workload=_arriving(1.2),
        kinds=_OPEN_LOOP,
        bars=Bars(goodput=0.97, floor=0.90, refused=2.5, p99=1.15),
    ),
    Scenario(
        name="m_ra60_200",
        gateway=_cap((0, 8)),
        hint=_saying(60.0),
        kinds=_BATCH_ONLY,
        batch_count=200,
        bars=Bars(nobody_fails=True),
    ),
    Scenario(
        name="m_ra60_2000", gateway=_cap((0, 8)), hint=_saying(60.0), kinds=_BATCH_ONLY, bars=_RA60
    ),
    Scenario(
        name="n_streams",
        gateway=_cap((0, 20)),
        workload=Workload(median=_LONG_STREAMS, streamed=1.0),
        bars=Bars(goodput=0.98, floor=0.90, refused=5),
    ),
    Scenario(
        name="n_streams02",
        gateway=_cap((0, 20)),
        workload=Workload(median=_LONG_STREAMS, headers=0.2),
        bars=Bars(goodput=0.98, floor=0.90, refused=5),
    ),
    Scenario(name="o_cap1", gateway=_cap((0, 1)), bars=Bars(goodput=0.97, floor=0.90, refused=14)),
    Scenario(
        name="o_cap300",
        gateway=_cap((0, 300)),
        count=60_000,
        bars=Bars(goodput=0.97, floor=0.90, refused=1.5),
    ),
    Scenario(
        name="p_idle_burst",
        gateway=_cap((0, 20)),
        workload=Workload(arrivals=((0.0, 5), (75.0, 1_000))),
        kinds=_BATCH_ONLY,
        batch_starts=75.0,
        bars=Bars(batch=1.03, refused=3),
    ),
)

SCENARIOS: tuple[Scenario, ...] = (*_SINGLE, *ACCOUNT_SCENES)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
