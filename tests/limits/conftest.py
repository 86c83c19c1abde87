"""The limiter alone, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comet_resilience import Event, FixedLimit
from comet_resilience.limits.algorithm import LimitAlgorithm
from comet_resilience.limits.limiter import Limiter
from comet_resilience.observers import Observers

KEY = ("POST /chat/completions", "m")


def limiter_of(
    make: Callable[[], LimitAlgorithm] = lambda: FixedLimit(1),
    *,
    on_event: Callable[[Event], object] | None = None,
    **changes: Any,
) -> Limiter:
    """Make a limiter without randomness, whose queue is unbounded, but for the changes."""
    settings: dict[str, Any] = {
        "make_algorithm": make,
        "max_queue": None,
        "observers": Observers([on_event] if on_event else []),
        "jitter": lambda: 0.5,
    }
    return Limiter(**{**settings, **changes})
