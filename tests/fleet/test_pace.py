"""When a share is renewed."""

from __future__ import annotations

import pytest

from comet_resilience.fleet.pace import (
    GAP,
    RENEW_EVERY,
    SURPLUS_GAP,
    TTL,
    WAITING_GAP,
    next_renewal,
    renew_every,
    time_to_live,
)

CALM = {"is_urgent": False, "is_waiting": False, "is_new": False, "has_surplus": False}


@pytest.mark.parametrize(
    ("members", "what", "seconds"),
    [
        (6, (), RENEW_EVERY),
        (6, ("is_new",), RENEW_EVERY),
        (6, ("is_waiting", "is_new"), GAP),
        (6, ("is_waiting",), WAITING_GAP),
        (6, ("is_urgent", "is_waiting"), GAP),
        (6, ("has_surplus",), SURPLUS_GAP),
        (100, (), 1.0),
        (100, ("is_waiting",), 1.0),
        (100, ("has_surplus",), 0.2),
        (1_000, ("is_urgent",), 0.5),
        (1_000, (), 10.0),
    ],
)
def test_what_decides(members: int, what: tuple[str, ...], seconds: float) -> None:
    need = {**CALM, **dict.fromkeys(what, True)}
    assert next_renewal(members, 0.5, **need) == pytest.approx(seconds)


def test_members_fall_out_of_step() -> None:
    times = [next_renewal(6, jitter, **CALM) for jitter in (0.0, 0.25, 0.5, 0.75, 0.999)]
    assert len(set(times)) == 5
    assert min(times) >= 0.9 * RENEW_EVERY
    assert max(times) <= 1.1 * RENEW_EVERY


@pytest.mark.parametrize("members", [1, 10, 100, 1_000, 10_000])
def test_a_share_outlives_two_renewals_that_fail(members: int) -> None:
    assert time_to_live(members) >= max(TTL, 2.5 * 1.1 * renew_every(members))
