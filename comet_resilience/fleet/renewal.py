"""One renewal of all shares that are due: the requests, the exchange with the script, the results.

Pure except for the ``send`` that it is given: a benchmark renews in virtual time with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..limits.algorithm import LimitAlgorithm
from .merge import FleetLimit, Sample, merge, needs_commit, rebuild
from .message import Addressed, ShareReply, ShareRequest, StoreError
from .sampler import Sampler
from .scope import Keys

#: How often to retry a commit when others are faster; then the sample waits for the next renewal.
COMMIT_TRIES: Final = 5
#: The most scopes in one command, so that other clients of the server need not wait for long.
MOST_SCOPES: Final = 64

Send = Callable[[Sequence[Addressed]], Sequence[ShareReply | StoreError]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRequest:
    """One share's part in an exchange, made ``at`` a time of this process.

    ``sample`` is reported, from ``sampler``. ``make`` returns the algorithm of the scope,
    ``remembered`` is its state as this member last read it.
    """

    request: ShareRequest
    keys: Keys
    maximum: int
    sample: Sample
    sampler: Sampler
    at: float
    make: Callable[[], LimitAlgorithm]
    remembered: str
    jitter: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """The new share, the fleet's limit, and whether the sample was reported."""

    reply: ShareReply
    fleet: FleetLimit
    is_reported: bool


def exchange(send: Send, asked: Sequence[RenewalRequest]) -> list[Renewal | Exception]:
    """Request shares; run the algorithms on samples and commit, unless others were faster.

    All scopes go into one command, and all commits into the next. An error of one scope is the
    result of that scope alone.
    """
    parts = [_Part(one) for one in asked]
    for tries_left in range(COMMIT_TRIES, -1, -1):
        pending = [part for part in parts if part.result is None]
        if not pending:
            break
        try:
            replies = send([part.addressed for part in pending])
        except Exception as error:  # noqa: BLE001 - the result of all of them
            for part in pending:
                part.result = error
            break
        for part, reply in zip(pending, replies, strict=True):
            part.take(reply, is_last=not tries_left)
    return [part.result or StoreError("no reply") for part in parts]


class _Part:
    """One scope in an exchange: its next request, until there is a result."""

    def __init__(self, asked: RenewalRequest) -> None:
        self._asked = asked
        self._fleet: FleetLimit | None = None  # as it is after the commit
        self.addressed = Addressed(asked.keys, asked.request, asked.maximum)
        self.result: Renewal | Exception | None = None

    def take(self, reply: ShareReply | StoreError, *, is_last: bool) -> None:
        """Process a reply: it is the renewal, or another request follows with a commit."""
        try:
            self.result = self._step(reply, is_last=is_last)
        except Exception as error:  # noqa: BLE001 - the user's algorithm may raise anything
            self.result = error

    def _step(self, reply: ShareReply | StoreError, *, is_last: bool) -> Renewal | None:
        if isinstance(reply, StoreError):
            raise reply
        if reply.committed and self._fleet is not None:
            return Renewal(reply, self._fleet, is_reported=True)
        asked = self._asked
        fleet = rebuild(reply, asked.make(), asked.remembered)
        is_reported = not needs_commit(fleet, asked.sample, reply)
        if is_reported or is_last:
            return Renewal(reply, fleet, is_reported=is_reported)
        commit = merge(fleet, asked.sample, reply, asked.request, asked.jitter)
        self._fleet = fleet
        request = replace(asked.request, commit=commit, epoch=reply.epoch)
        self.addressed = replace(self.addressed, request=request)
        return None
