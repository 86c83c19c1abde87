"""One renewal of all shares that are due: reports, the exchange with the script, what comes of it.

Pure but for ``send``, which is given: a benchmark renews in virtual time with the same exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..limits.algorithm import LimitAlgorithm
from .merge import Sample, Understanding, is_needed, merge, understand
from .message import Addressed, ShareReply, ShareRequest, StoreError
from .sampler import Sampler
from .scope import Keys

#: How often a commit is tried when others are faster; then the sample waits for the next renewal.
COMMIT_TRIES: Final = 5
#: The most scopes of one command: no other client of the server waits long for it.
MOST_SCOPES: Final = 64

Send = Callable[[Sequence[Addressed]], Sequence[ShareReply | StoreError]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One share's part in an exchange, asked ``at`` a time of this process' clock.

    ``sample`` is to be reported, ``sampler`` its source. ``make`` makes the algorithm of the scope,
    ``remembered`` is its state as this member last saw it.
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
    """The new share, the fleet's algorithm, and whether the sample was reported."""

    reply: ShareReply
    fleet: Understanding
    is_reported: bool


def exchange(send: Send, asked: Sequence[Asked]) -> list[Renewal | Exception]:
    """Ask for shares; with samples, run the algorithms and commit, unless others did first.

    All scopes go into one command, and all commits into the next. A fault of one scope is its own
    result, and nobody else's.
    """
    parts = [_Part(one) for one in asked]
    for tries_left in range(COMMIT_TRIES, -1, -1):
        pending = [part for part in parts if part.result is None]
        if not pending:
            break
        try:
            replies = send([part.addressed for part in pending])
        except Exception as error:  # noqa: BLE001 - whatever it is, all of these have no reply
            for part in pending:
                part.result = error
            break
        for part, reply in zip(pending, replies, strict=True):
            part.take(reply, is_last=not tries_left)
    return [part.result or StoreError("no reply") for part in parts]


class _Part:
    """One scope's part in an exchange: what is asked next, until there is a result."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._request = asked.request
        self._fleet: Understanding | None = None  # as it is once the commit is taken
        self.result: Renewal | Exception | None = None

    @property
    def addressed(self) -> Addressed:
        return Addressed(self._asked.keys, self._request, self._asked.maximum)

    def take(self, reply: ShareReply | StoreError, *, is_last: bool) -> None:
        """Take a reply: it is the renewal, or another request follows with a commit."""
        try:
            self.result = self._step(reply, is_last=is_last)
        except Exception as error:  # noqa: BLE001 - an algorithm of the user's may raise anything
            self.result = error

    def _step(self, reply: ShareReply | StoreError, *, is_last: bool) -> Renewal | None:
        if isinstance(reply, StoreError):
            raise reply
        if reply.committed and self._fleet is not None:
            return Renewal(reply, self._fleet, is_reported=True)
        asked = self._asked
        fleet = understand(reply, asked.make(), asked.remembered)
        is_reported = not is_needed(fleet, asked.sample, reply)
        if is_reported or is_last:
            return Renewal(reply, fleet, is_reported=is_reported)
        commit = merge(fleet, asked.sample, reply, asked.request, asked.jitter)
        self._fleet = fleet
        self._request = replace(asked.request, commit=commit, epoch=reply.epoch)
        return None
