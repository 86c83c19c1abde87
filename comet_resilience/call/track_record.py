"""The track record of one client: key, place and model that worked, and when last.

With it a failure is judged by more than itself (``verdict.evidence``). It lives in memory, neither
shared nor stored: a new process and a forked child start without one. A success costs one look-up
in a dictionary; a failure reads all of it. If several threads count at once a success may go
uncounted; no decision rests on a count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple
from weakref import WeakSet

from ..verdict.evidence import Evidence, Worked

#: The most combinations of key, base URL, route and model that are remembered; with names of the
#: length below that is less than 64 KiB.
COMBINATIONS_KEPT: Final = 128
#: Longer names of models are not remembered: no model is called that.
NAME_KEPT: Final = 128
#: Answered by some gateways without looking at the key, so it proves nothing of the key.
_PUBLIC_ROUTES: Final = frozenset({"GET /models", "GET /models/{id}"})


class Circumstance(NamedTuple):
    """The request that a success answered. ``credential`` is a hash: no key is kept here."""

    credential: int
    base_url: str
    route: str
    model: str


@dataclass(slots=True, eq=False)
class _Tally:
    times: int
    last: float


class TrackRecord:
    """The successes of one client, bounded, for its failures to be judged by."""

    __slots__ = ("__weakref__", "_tallies")

    def __init__(self) -> None:
        self._tallies: dict[Circumstance, _Tally] = {}
        _records.add(self)

    def note_success(self, circumstance: Circumstance, now: float) -> None:
        """Count a success of such a request at ``now``, in seconds of any clock."""
        tally = self._tallies.get(circumstance)
        if tally is None:
            self._begin(circumstance, now)
        else:
            tally.times += 1
            tally.last = now

    def evidence(self, circumstance: Circumstance, now: float) -> Evidence:
        """Return the evidence on a failure of such a request."""
        kept = list(self._tallies.items())
        same_key = [
            (other, tally)
            for other, tally in kept
            if other.credential == circumstance.credential and other.route not in _PUBLIC_ROUTES
        ]
        other_model = max(
            (pair for pair in same_key if pair[0].model not in ("", circumstance.model)),
            key=lambda pair: pair[1].last,
            default=None,
        )
        return Evidence(
            key=_sum((tally for _, tally in same_key), now),
            model=_sum((tally for other, tally in kept if _is_model(other, circumstance)), now),
            place=_sum((tally for other, tally in kept if _is_place(other, circumstance)), now),
            other_model=other_model[0].model if other_model else "",
            other=_sum((other_model[1],), now) if other_model else None,
        )

    def disprove(self, rests_on: str, circumstance: Circumstance) -> None:
        """Forget that a ``model`` or a ``place`` worked: the retries that rested on it failed."""
        is_same = _is_model if rests_on == "model" else _is_place
        for kept in list(self._tallies):
            if is_same(kept, circumstance):
                self._tallies.pop(kept, None)

    def forget_all(self) -> None:
        """Begin again with nothing known."""
        self._tallies.clear()

    def _begin(self, circumstance: Circumstance, now: float) -> None:
        if len(circumstance.model) > NAME_KEPT:
            return
        if len(self._tallies) >= COMBINATIONS_KEPT:
            oldest_first = sorted(self._tallies.items(), key=lambda pair: pair[1].last)
            for stale, _ in oldest_first[: COMBINATIONS_KEPT // 4]:
                self._tallies.pop(stale, None)
        self._tallies[circumstance] = _Tally(1, now)


def _is_model(kept: Circumstance, asked: Circumstance) -> bool:
    """Return True if it is the same model, key and route of the same gateway."""
    return kept == asked and asked.model != ""


def _is_place(kept: Circumstance, asked: Circumstance) -> bool:
    return kept.base_url == asked.base_url and kept.route == asked.route


def _sum(tallies: Iterable[_Tally], now: float) -> Worked | None:
    found = list(tallies)
    if not found:
        return None
    return Worked(
        times=sum(tally.times for tally in found),
        ago=max(0.0, now - max(tally.last for tally in found)),
    )


_records: WeakSet[TrackRecord] = WeakSet()


def _after_fork() -> None:
    for record in _records:
        record.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
