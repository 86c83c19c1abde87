"""The concurrency that separates accepted attempts from refused ones. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .sample import Sample

#: How well a level must separate refused from accepted attempts (0: not at all, 1: perfectly).
CLEAR: Final = 0.3
#: Above this concurrency is counted in steps of a sixteenth.
_EXACT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRefusal:
    """The first refusal of a series: its time, and the concurrency and the limit at that time."""

    time: float
    in_flight: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The concurrency that best separates accepted from refused: up to ``holds`` is sustained.

    ``share_within`` and ``share_above`` are the shares of refusals up to it and above it.
    """

    holds: int
    share_within: float
    share_above: float


def rounded(in_flight: int) -> int:
    """Return a concurrency as it is counted: above 64 in steps."""
    if in_flight <= _EXACT:
        return in_flight
    step: int = 2 ** (in_flight.bit_length() - 5)
    return in_flight // step * step


@dataclass(slots=True)
class Counts:
    """Accepted and refused attempts by how many were in flight, while lines are read."""

    accepted_at: Counter[int] = field(default_factory=Counter)
    refused_at: Counter[int] = field(default_factory=Counter)
    first: FirstRefusal | None = None

    def add(self, sample: Sample, in_flight: int, limit: int) -> None:
        """Count an attempt that was accepted or refused."""
        (self.refused_at if sample.refused else self.accepted_at)[rounded(in_flight)] += 1
        if sample.refused and (self.first is None or sample.time < self.first.time):
            self.first = FirstRefusal(time=sample.time, in_flight=in_flight, limit=limit)

    def level(self) -> Level | None:
        """Return the level with the smallest shares of refused within it and accepted above it.

        ``None`` if no level is clear.
        """
        accepted, refused = self.accepted_at.total(), self.refused_at.total()
        if not accepted or not refused:
            return None
        best, found = 0.0, None
        accepted_within = refused_within = 0
        for holds in sorted(self.accepted_at | self.refused_at):
            accepted_within += self.accepted_at[holds]
            refused_within += self.refused_at[holds]
            apart = accepted_within / accepted - refused_within / refused
            above = accepted + refused - accepted_within - refused_within
            if apart > best and above:
                best = apart
                found = Level(
                    holds=holds,
                    share_within=refused_within / (accepted_within + refused_within),
                    share_above=(refused - refused_within) / above,
                )
        return found if best >= CLEAR else None
