"""When a share is renewed."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience.fleet.pace import (
    GAP,
    HUNGRY_GAP,
    RENEW_EVERY,
    SURPLUS_GAP,
    TTL,
    Need,
    next_renewal,
    renew_every,
    time_to_live,
)

CALM: dict[str, Any] = {
    "in_use": 3, "waiting": 0, "share": 5, "limit": 20, "members": 6, "contended": False,
    "is_held_back": False, "is_new": False, "is_urgent": False, "owes": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, RENEW_EVERY),
        (
            {"waiting": 4, "is_held_back": True},
            RENEW_EVERY,
        ),  # there are slots: nobody need be asked
        ({"waiting": 4, "in_use": 5}, RENEW_EVERY),  # another limit holds them back
        ({"waiting": 4, "in_use": 5, "is_held_back": True, "is_new": True}, GAP),
        ({"waiting": 4, "in_use": 5, "is_held_back": True, "limit": 5}, RENEW_EVERY),  # it has all
        ({"waiting": 4, "in_use": 5, "is_held_back": True}, HUNGRY_GAP),
        ({"waiting": 4, "in_use": 5, "is_held_back": True, "members": 100}, 1.0),
        ({"is_urgent": True}, GAP),
        ({"owes": True}, GAP),
        ({"in_use": 2, "contended": True}, SURPLUS_GAP),
        ({"in_use": 3, "contended": True}, RENEW_EVERY),
        ({"in_use": 2, "waiting": 4, "contended": True}, RENEW_EVERY),  # it will use them itself
        ({"in_use": 0}, RENEW_EVERY),  # nobody else wants it
        ({"in_use": 0, "share": 0, "contended": True}, RENEW_EVERY),  # nothing to give back
        ({"is_urgent": True, "members": 1_000}, 0.5),
        ({"in_use": 2, "contended": True, "members": 100}, 0.2),
        ({"members": 100}, 1.0),
        ({"members": 1_000}, 10.0),
    ],
)
def test_what_decides(changes: dict[str, Any], seconds: float) -> None:
    assert next_renewal(Need(**{**CALM, **changes}), 0.5) == pytest.approx(seconds)


def test_members_fall_out_of_step() -> None:
    times = [next_renewal(Need(**CALM), jitter) for jitter in (0.0, 0.25, 0.5, 0.75, 0.999)]
    assert len(set(times)) == 5
    assert min(times) >= 0.9 * RENEW_EVERY
    assert max(times) <= 1.1 * RENEW_EVERY


@pytest.mark.parametrize("members", [1, 10, 100, 1_000, 10_000])
def test_a_share_outlives_two_renewals_that_fail(members: int) -> None:
    assert time_to_live(members) >= max(TTL, 2.5 * 1.1 * renew_every(members))
