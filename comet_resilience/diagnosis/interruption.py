"""The stage at which a caller cancelled a request, to be asked for afterwards.

A timeout of the caller's own (``asyncio.timeout``, ``asyncio.wait_for``, ``anyio.fail_after``,
trio's scopes) is a cancellation, and its exception says nothing of the request. So the
cancellation takes a note along, found through ``__cause__`` or ``__context__`` of what the timeout
raises. Ten thousand may be cancelled in one moment: the note is a few plain values, holds neither
request nor client, and becomes a diagnosis only if somebody asks.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from ..verdict.rule import Rule
from ..verdict.vocabulary import Action, FailureKind, RequestIds, RequestInfo
from .diagnosis import Attempt, Diagnosis, LimiterState, related
from .redaction import Redactor

#: The attribute of an exception that holds the note.
_NOTE: Final = "__comet_resilience_interruption__"


class Stage(StrEnum):
    """The stage that a request had reached when it was cancelled."""

    QUEUE = "queue"
    BACKOFF = "backoff"
    ATTEMPT = "attempt"


_RULES: Final = {
    Stage.QUEUE: Rule(
        name="cancelled-in-queue", kind=FailureKind.LOCAL, action=Action.RETRY, source="transport",
        reason="the caller cancelled the request while it waited in the queue for a slot",
        advice=("Send less at once, or give the call more time: it was spent in the queue.",
                "Raise max_concurrency if the gateway takes more requests at once.",
                "queue_timeout= ends the wait with an error of its own, deadline= the whole call."),
    ),
    Stage.BACKOFF: Rule(
        name="cancelled-in-backoff", kind=FailureKind.LOCAL, action=Action.RETRY,
        source="transport",
        reason="the caller cancelled the request while it waited between two attempts",
        advice=("Look at the attempts: they failed before the caller's time was over.",
                "Give the call more time; deadline= ends it with the last attempt's own error."),
    ),
    Stage.ATTEMPT: Rule(
        name="cancelled-in-attempt", kind=FailureKind.LOCAL, action=Action.RETRY,
        source="transport", ambiguous=True,
        reason="the caller cancelled the request before its answer had begun",
        advice=("Give the call more time, or ask for less work in one request.",
                "For long generations prefer stream=True: the answer begins sooner.")),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """The state of a request when it was cancelled; times in seconds.

    ``waited`` is the time in ``stage``, ``queued`` all the time in the queue, ``elapsed`` that
    since the request began, ``at`` the wall clock. ``ahead`` is the number of requests that waited
    before it when it joined the queue, ``None`` for a retry, which keeps its old place.
    """

    stage: Stage
    info: RequestInfo
    waited: float
    queued: float
    elapsed: float
    at: float
    ahead: int | None
    limiter: LimiterState | None
    attempts: tuple[Attempt, ...]

    def diagnosis(self) -> Diagnosis:
        """Return the same in the form of every other failure."""
        verdict, redactor = _RULES[self.stage].verdict(), Redactor()
        in_flight = self.stage is Stage.ATTEMPT
        return Diagnosis(
            kind=verdict.kind,
            meaning=verdict.reason,
            reason=self._reason(),
            retryable=verdict.retryable,
            advice=verdict.advice,
            section="",
            rule=verdict.rule,
            source=verdict.source,
            route=redactor.line(self.info.route),
            model=redactor.line(self.info.model),
            status=None,
            code="",
            message="",
            ids=RequestIds(),
            attempts=self.attempts,
            elapsed=self.elapsed,
            may_be_billed=in_flight or any(each.may_be_billed for each in self.attempts),
            queued=self.queued,
            limiter=self.limiter,
            at=datetime.fromtimestamp(self.at, UTC).astimezone().isoformat(timespec="seconds"),
        )

    def _reason(self) -> str:
        number = len(self.attempts) + 1
        if self.stage is Stage.BACKOFF:
            return f"cancelled by the caller {self.waited:.2f} s after attempt {number - 1} failed"
        if self.stage is Stage.ATTEMPT:
            return f"cancelled by the caller {self.waited:.2f} s after attempt {number} was sent"
        place = "a retry, at its old place in the queue"
        if self.ahead is not None:
            ahead = "1 request was" if self.ahead == 1 else f"{self.ahead} requests were"
            place = f"{ahead} ahead of it when it joined the queue"
        limit = "" if self.limiter is None else f"; {self.limiter}"
        return f"cancelled by the caller after {self.waited:.2f} s in the queue: {place}{limit}"


def note_interruption(error: BaseException, interruption: Interruption) -> None:
    """Let a cancellation say where the request was that it ended."""
    with contextlib.suppress(Exception):  # a frozen exception: then it says nothing
        setattr(error, _NOTE, interruption)


def find_interruption(error: object) -> Interruption | None:
    """Return the note that an exception carries, itself or through what it was raised from."""
    notes = (getattr(each, _NOTE, None) for each in related(error))
    return next((note for note in notes if isinstance(note, Interruption)), None)
