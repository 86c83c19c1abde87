"""Scenes of one account over many models: its own cap, theirs, both, none, and changes of scope."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .gateways import Account, Cap, Gateway
from .scenario import HORIZON, Bars, Kind, Scenario
from .workload import Job, Workload

_SATURATED = (Kind.SATURATED,)
_BATCH = (Kind.BATCH,)


def _models(number: int) -> tuple[str, ...]:
    return tuple(f"m{place}" for place in range(number))


def _cap(*steps: tuple[float, float]) -> Callable[[int], Gateway]:
    return lambda seed: Account(Cap(steps))


def _model_caps(seed: int) -> Gateway:
    random = Random(f"caps {seed}")
    return Account(None, {name: Cap(((0.0, random.randint(3, 12)),)) for name in _models(20)})


def _together(seed: int) -> Gateway:
    """Caps of two models, as at the quickstart's gateway: they fall and rise at the same time."""
    return Account(
        None,
        {
            "m0": Cap(((0.0, 7), (60.0, 3), (120.0, 12))),
            "m1": Cap(((0.0, 5), (60.0, 2), (120.0, 8))),
        },
    )


def _changing(seed: int) -> Gateway:
    """The account's cap, then one for each model, then the account's again."""
    models: dict[str, Gateway] = {
        name: Cap(((0.0, 1_000), (200.0, 8), (400.0, 1_000))) for name in _models(8)
    }
    return Account(Cap(((0.0, 30), (200.0, 1_000), (400.0, 12))), models)


def _saturated(number: int) -> Callable[[int], Gateway]:
    return lambda seed: Account(None, {f"s{k}": Cap(((0.0, 2 + k),)) for k in range(number)})


_OTHERS = tuple(f"o{place}" for place in range(5))


def _beside(number: int, *, in_bursts: bool) -> Callable[[int], list[Job]]:
    """Saturated models with 1,500 requests each; others by chance, or in growing bursts."""
    bursts = tuple((60.0 * step - 30, 60 * step) for step in range(1, 10))
    others = Workload(models=_OTHERS, rate=None if in_bursts else 10.0, arrivals=bursts * in_bursts)

    def draw(seed: int) -> list[Job]:
        jobs = others.draw(seed, 0, HORIZON)
        for place in range(number):
            flood = Workload(models=(f"s{place}",), arrivals=((0.0 if in_bursts else 20.0, 1_500),))
            jobs += flood.draw(seed * 100 + place, 0, HORIZON)
        return sorted(jobs, key=lambda job: job.arrival)

    return draw


def _slow_beside_fast(seed: int) -> list[Job]:
    """Answers of half a second from five models, and of a minute from another."""
    fast = Workload(models=_models(5), median=0.5).draw(seed, 6_000, HORIZON)
    slow = Workload(models=("slow",), service=60.0, streamed=0.0).draw(seed + 1_000, 100, HORIZON)
    return fast + slow


def _account(cap: int, models: int) -> Scenario:
    return Scenario(
        name=f"q_{cap}_{models}m",
        gateway=_cap((0, cap)),
        workload=Workload(models=_models(models)),
        kinds=_SATURATED,
        bars=Bars(goodput=0.97, floor=0.90, refused=3, nobody_fails=True),
    )


def _burst(calls: int, cap: int, service: float, models: int) -> Scenario:
    return Scenario(
        name=f"r_{calls}_{models}m",
        gateway=_cap((0, cap)),
        workload=Workload(models=_models(models), service=service, streamed=0.0),
        kinds=_BATCH,
        batch_count=calls,
        bars=Bars(batch=1.30, refused=2.5, nobody_fails=True),
    )


def _saturation(number: int, *, in_bursts: bool) -> Scenario:
    return Scenario(
        name=f"s_{'bursts' if in_bursts else 'steady'}_{number}",
        gateway=_saturated(number),
        drawn=_beside(number, in_bursts=in_bursts),
        others="o",
        kinds=_SATURATED,
        bars=Bars(wait=0.25 if in_bursts else 0.10),
    )


ACCOUNT_SCENES: tuple[Scenario, ...] = (
    *(_account(20, models) for models in (10, 30, 100)),
    _burst(600, 20, 0.3, 30),
    *(_burst(900, 35, 0.4, models) for models in (20, 60)),
    *(_saturation(number, in_bursts=False) for number in (2, 5, 10)),
    *(_saturation(number, in_bursts=True) for number in (2, 5, 10)),
    Scenario(
        name="q_slow",
        gateway=_cap((0, 20)),
        drawn=_slow_beside_fast,
        others="m",
        kinds=_SATURATED,
        bars=Bars(goodput=0.97, refused=3, wait=200, nobody_fails=True),
    ),
    Scenario(
        name="t_models",
        gateway=_model_caps,
        workload=Workload(models=_models(20)),
        kinds=_SATURATED,
        bars=Bars(goodput=0.98, refused=5.8),
    ),
    Scenario(
        name="t_nolimit",
        gateway=lambda seed: Account(None),
        workload=Workload(models=_models(20)),
        kinds=_BATCH,
        batch_count=800,
        bars=Bars(batch=1.06, refused=0, nobody_fails=True),
    ),
    Scenario(
        name="t_together",
        gateway=_together,
        workload=Workload(models=_models(2), median=0.4),
        kinds=_BATCH,
        batch_count=4_000,
        bars=Bars(batch=1.10, refused=3, nobody_fails=True),
    ),
    Scenario(
        name="t_changes",
        gateway=_changing,
        workload=Workload(models=_models(8)),
        kinds=_SATURATED,
        recovers=(200.0, 64),
        bars=Bars(goodput=0.95, refused=5, recovery=20, nobody_fails=True),
    ),
)
