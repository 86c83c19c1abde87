"""Capacity models: limits of the gateway, and its refusals.

The models are pure: they read no clock, the time comes in as *now*, in seconds since the gateway
started. A request enters, and leaves when the last byte of its answer has been sent or when its
connection is gone. One model object holds the state of one gateway; do not share it between two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request not let in. *retry_after* is the hint for its client, in seconds or None."""

    retry_after: float | None = None


class Capacity(Protocol):
    """A capacity model, as the gateway uses it."""

    def enter(self, now: float) -> Refusal | None:
        """Let a request in at *now* and return None, or refuse it."""
        ...

    def leave(self, now: float) -> None:
        """Note that a request that was let in is over."""
        ...

    def limit_at(self, now: float) -> int | None:
        """Return the limit of requests in flight at *now*; None without one."""
        ...


class ConcurrencyCap:
    """A limit of requests in flight.

    *steps* are pairs (seconds, limit): from that time on the cap has that limit. *retry_after* is
    the hint that goes with each refusal, in seconds; gateways often give a window rather than the
    time in which a slot gets free. Raises `ValueError` for limits below 0 and for steps whose
    times do not rise.
    """

    __slots__ = ("_held", "_limit", "_retry_after", "_steps")

    def __init__(
        self,
        limit: int,
        retry_after: float | None = None,
        *,
        steps: Sequence[tuple[float, int]] = (),
    ) -> None:
        times = [at for at, _ in steps]
        if min([limit, *(step for _, step in steps)]) < 0:
            raise ValueError("limit: a concurrency cap is 0 or more")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError(f"steps: the times must rise, not {times}")
        if retry_after is not None and retry_after < 0:
            raise ValueError(f"retry_after must be 0 seconds or more, not {retry_after}")
        self._limit = limit
        self._retry_after = retry_after
        self._steps = tuple(steps)
        self._held = 0

    def enter(self, now: float) -> Refusal | None:
        """Take a slot at *now*, or refuse."""
        if self._held >= self.limit_at(now):
            return Refusal(retry_after=self._retry_after)
        self._held += 1
        return None

    def leave(self, now: float) -> None:
        """Release a slot. Raises `RuntimeError` when none is held."""
        if self._held == 0:
            raise RuntimeError("leave() without enter(): no slot is held")
        self._held -= 1

    def limit_at(self, now: float) -> int:
        """Return the limit that holds at *now*."""
        passed = [limit for at, limit in self._steps if at <= now]
        return passed[-1] if passed else self._limit

    def __repr__(self) -> str:
        return f"<ConcurrencyCap {self._held} held, limit {self._limit}, steps {self._steps}>"


class TokenBucket:
    """A limit of requests a second in the long run, with bursts.

    The bucket is full at first. With *retry_after* a refusal names the whole seconds until there
    is a token again. Raises `ValueError` unless *rate* (per second) is above 0 and *burst* is 1
    or more.
    """

    __slots__ = ("_burst", "_hint", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, *, retry_after: bool = False) -> None:
        if not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"rate must be above 0 requests a second, not {rate}")
        if not burst >= 1:
            raise ValueError(f"burst must be 1 or more, not {burst}")
        self._rate = rate
        self._burst = burst
        self._hint = retry_after
        self._tokens = float(burst)
        self._updated = 0.0

    def enter(self, now: float) -> Refusal | None:
        """Take a token at *now*, or refuse."""
        elapsed = max(0.0, now - self._updated)
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._updated = max(self._updated, now)
        # Refilling in small steps loses a little each time; one billionth is not a missing token.
        if self._tokens < 1 - 1e-9:
            missing = (1 - self._tokens) / self._rate
            return Refusal(retry_after=_whole_seconds(missing) if self._hint else None)
        self._tokens = max(0.0, self._tokens - 1)
        return None

    def leave(self, now: float) -> None:
        """Do nothing: a token that was taken is spent."""

    def limit_at(self, now: float) -> None:
        """Return None: the bucket does not limit how many are in flight."""

    def __repr__(self) -> str:
        return f"<TokenBucket {self._tokens:g} of {self._burst:g} tokens, {self._rate:g}/s>"


class FixedWindow:
    """A limit of requests in each window of *seconds*, counted from the start of the gateway.

    With *retry_after* a refusal names the whole seconds until the next window. Raises `ValueError`
    unless *limit* is 1 or more and *seconds* is above 0.
    """

    __slots__ = ("_count", "_hint", "_limit", "_seconds", "_window")

    def __init__(self, limit: int, seconds: float, *, retry_after: bool = False) -> None:
        if not limit >= 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"seconds must be above 0, not {seconds}")
        self._limit = limit
        self._seconds = seconds
        self._hint = retry_after
        self._window = 0
        self._count = 0

    def enter(self, now: float) -> Refusal | None:
        """Count a request in the window of *now*, or refuse. A refused request does not count."""
        window = int(now // self._seconds)
        if window > self._window:
            self._window, self._count = window, 0
        if self._count >= self._limit:
            left = (self._window + 1) * self._seconds - now
            return Refusal(retry_after=_whole_seconds(left) if self._hint else None)
        self._count += 1
        return None

    def leave(self, now: float) -> None:
        """Do nothing: a request counts in its window, however long it takes."""

    def limit_at(self, now: float) -> None:
        """Return None: the window does not limit how many are in flight."""

    def __repr__(self) -> str:
        return f"<FixedWindow {self._count} of {self._limit} in window {self._window}>"


def _whole_seconds(wait: float) -> float:
    """Round a wait up: Retry-After knows whole seconds only, and too short a hint is a lie."""
    return float(max(1, math.ceil(wait)))
