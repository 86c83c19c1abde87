"""Calls that cannot wait are answered as often as by the bare SDK."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .late import CLIENTS, SCENES, Scene, measure


@pytest.mark.parametrize("scene", [SCENES[0], SCENES[-1]], ids=["a cap", "an outage"])
def test_as_many_are_answered_as_by_the_bare_sdk_for_fewer_requests(scene: Scene) -> None:
    """In the last scene the gate has to open while callers give up all the time."""
    short = replace(scene, seconds=55.0)
    (bare, bare_gateway), (wrapped, gateway) = (measure(short, client, 0) for client in CLIENTS)
    assert wrapped.made == bare.made
    assert wrapped.answered["all"] > 0.9 * bare.answered["all"]
    assert gateway.sent < 0.75 * bare_gateway.sent
