"""The attempts of one request, and the events about them.

The texts of a failed attempt are redacted only when they are first asked for: most failed attempts
are followed by one that succeeds, and nobody listens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..diagnosis.diagnosis import Attempt, LimiterState
from ..diagnosis.interruption import Interruption, Stage
from ..diagnosis.redaction import Redactor
from ..events import AttemptFinished, GaveUp, HollowAnswer, RetryScheduled, StreamFinished
from ..limits.gate import Standing
from ..verdict.retry import RetryIn, may_be_billed
from ..wire.response import declared_size, observe, received_size
from .diagnosing import Circumstances, ShownTexts, diagnose_failure

if TYPE_CHECKING:
    from ..diagnosis.diagnosis import Diagnosis
    from ..limits.partition import Lease
    from ..verdict.retry import GiveUp
    from ..verdict.usage import Usage
    from ..verdict.vocabulary import Observation, RequestIds, Verdict
    from ..wire.http import Response
    from .context import RequestContext
    from .failure import Failure

_PLAIN = Redactor()


@dataclass(slots=True, eq=False, repr=False)
class _FailedAttempt:
    """A failed attempt whose texts are not redacted yet."""

    number: int
    started: float
    queued: float
    elapsed: float
    observation: Observation
    verdict: Verdict
    wait: float | None

    def shown(self, redactor: Redactor) -> Attempt:
        """Return the attempt with its texts redacted."""
        observation = self.observation
        texts = ShownTexts.of(observation, redactor)
        return Attempt(
            number=self.number,
            started=self.started,
            queued=self.queued,
            elapsed=self.elapsed,
            status=observation.status,
            fault=observation.fault.value if observation.fault else "",
            kind=self.verdict.kind,
            code=texts.code,
            message=texts.message,
            ids=texts.ids,
            wait=self.wait,
            may_be_billed=may_be_billed(observation, self.verdict),
        )


class AttemptLog:
    """The attempts of one request: the one under way, and those that failed.

    ``number`` is that of the attempt under way, ``waiting_since`` when the wait for its slot
    began, ``None`` once it has one. ``standing`` is how gates and budgets know the request.
    """

    __slots__ = (
        "_above", "_canary", "_context", "_in_flight", "_limit", "_met_account", "_queued",
        "_shown", "_unshown", "number", "sent_at", "standing", "waiting_since",
    )  # fmt: skip

    def __init__(self, context: RequestContext) -> None:
        self._context = context
        self.standing: Standing = Standing(cost=context.cost)
        self.number: int = 0
        self.sent_at: float = context.started
        self.waiting_since: float | None = None
        self._queued = 0.0
        self._in_flight = self._limit = 0
        self._above: tuple[str, int, int] | None = None  # the account, and the same of it
        self._met_account = False
        self._canary = False
        self._shown: tuple[Attempt, ...] = ()
        self._unshown: tuple[_FailedAttempt, ...] = ()

    @property
    def failed(self) -> tuple[Attempt, ...]:
        """Return the failed attempts, with their texts redacted."""
        if self._unshown:
            redactor = self._context.redactor()
            self._shown += tuple(attempt.shown(redactor) for attempt in self._unshown)
            self._unshown = ()
        return self._shown

    @property
    def is_under_way(self) -> bool:
        """Return True if an attempt is under way: sent, and not known to have failed."""
        return self.number > len(self._shown) + len(self._unshown)

    def begin(self, lease: Lease) -> None:
        """Note that an attempt goes out now, which has waited for its slot until now."""
        slots, account = lease.partition.slots, lease.partition.above
        now, since = self._context.loop.now(), self.waiting_since
        self.number += 1
        self._in_flight, self._limit = slots.in_flight, slots.limit
        if account is not None:
            self._above = account.key, account.slots.in_flight, account.slots.limit
        self._canary = lease.is_canary
        self.sent_at = now
        self._queued = 0.0 if since is None else now - since
        self.waiting_since = None

    def note_release(self, lease: Lease) -> None:
        """Note whose limit a refused attempt has met."""
        self._met_account = lease.met_account

    @property
    def account(self) -> str | None:
        """Return the account whose limit the last attempt met, ``None`` if it met none."""
        return self._above[0] if self._above and self._met_account else None

    def words_on_account(self) -> str:
        """Return the end of a sentence that says that the account's limit was met, or ``""``."""
        if self._above is None or not self._met_account:
            return ""
        return f"; the account's limit was met, with {self._above[1]} in flight over all models"

    def queued_now(self) -> float:
        """Return the seconds that the request has been waiting for a slot, 0 if it is not."""
        since = self.waiting_since
        return 0.0 if since is None else self._context.loop.now() - since

    def note_success(self, response: Response, usage: Usage | None = None) -> None:
        """Remember that an answer has begun, and tell the observers, if there are any."""
        engine, context = self._context.engine, self._context
        engine.track_record.note_success(context.circumstance(), context.loop.now())
        if context.is_heard:
            observation = observe(response, b"", context.info.operation)
            id_ = _PLAIN.line(_id_of(observation.ids))
            self._emit_finished(observation.status, id_, received_size(response), usage=usage)

    def note_stream(self, events: int, usage: Usage | None) -> None:
        """Tell the observers, if there are any, that a stream has ended."""
        context = self._context
        if context.is_heard:
            context.engine.observers.emit(
                StreamFinished(
                    request=context.info,
                    attempt=self.number,
                    elapsed=context.loop.now() - self.sent_at,
                    events=events,
                    usage=usage,
                )
            )

    def note_failure(self, failure: Failure, step: RetryIn | GiveUp | None) -> None:
        """Keep a failed attempt for the diagnosis, and tell the observers."""
        context = self._context
        wait = step.delay if isinstance(step, RetryIn) else None
        self._unshown += (self._failed_attempt(failure, wait),)
        observers = context.engine.observers
        if context.is_heard:
            attempt, size = self.failed[-1], None
            if failure.response is not None:
                size = len(failure.body)
            self._emit_finished(attempt.status, _id_of(attempt.ids), size, failure, attempt)
        if isinstance(step, RetryIn):
            observers.emit(
                RetryScheduled(
                    request=context.info,
                    attempt=self.number + 1,
                    delay=step.delay,
                    reason=f"{failure.verdict.reason}; {step.reason}{self.words_on_account()}",
                    status=failure.observation.status,
                    kind=failure.verdict.kind,
                    account=self.account,
                )
            )

    def note_body_failure(self, failure: Failure) -> Attempt:
        """Return the attempt under way, whose body failed while the caller was reading it."""
        return self._failed_attempt(failure, None).shown(self._context.redactor())

    def note_give_up(self, failure: Failure, reason: str) -> None:
        """Tell the observers that the request is given up."""
        self._context.engine.observers.emit(
            GaveUp(
                request=self._context.info,
                attempts=self.number,
                kind=failure.verdict.kind,
                status=failure.observation.status,
                reason=reason,
                account=self.account,
            )
        )

    def note_hollow_answer(self, reason: str) -> None:
        """Tell the observers that an empty answer goes to the caller."""
        self._context.engine.observers.emit(
            HollowAnswer(request=self._context.info, attempts=self.number, reason=reason)
        )

    def diagnose(self, failure: Failure, reason: str, attempt: Attempt | None) -> Diagnosis:
        """Return the diagnosis of the request, which this failure has ended.

        ``attempt`` is the one that failed so, ``None`` if none was under way.
        """
        context, attempts = self._context, self.failed
        if attempt is not None and attempt not in attempts[-1:]:
            attempts = (*attempts, attempt)
        circumstances = Circumstances(
            attempts=attempts,
            attempt=attempt,
            elapsed=context.elapsed(),
            queued=sum(each.queued for each in attempts) + self.queued_now(),
            limiter=self._limiter_state(),
            redactor=context.redactor(),
            evidence=context.evidence,
        )
        return diagnose_failure(failure, context.info, context.request, reason, circumstances)

    def interruption(self) -> Interruption:
        """Return what a cancellation reports: plain values, since many may come at once."""
        now, context = self._context.loop.now(), self._context
        stage, since, queued = Stage.ATTEMPT, self.sent_at, self._queued
        if self.waiting_since is not None:
            stage, since, queued = Stage.QUEUE, self.waiting_since, now - self.waiting_since
        elif self.number and not self.is_under_way:
            last = self.failed[-1]
            stage, since, queued = Stage.BACKOFF, context.started + last.started + last.elapsed, 0.0
        return Interruption(
            stage=stage,
            info=context.info,
            waited=now - since,
            queued=queued + sum(attempt.queued for attempt in self.failed),
            elapsed=now - context.started,
            at=time.time(),
            ahead=self.standing.ahead,
            limiter=self._limiter_state(),
            attempts=self.failed,
        )

    def _limiter_state(self) -> LimiterState | None:
        limiter, key = self._context.engine.limiter, self._context.key
        load, above = limiter.load_of(key), limiter.account_of(key)
        held_by = None if self.waiting_since is None else self.standing.held_by_account
        above = held_by or above
        if not load.limit:
            return None  # there is no such partition yet
        return LimiterState(
            limit=load.limit,
            in_flight=load.in_flight,
            waiting=load.waiting,
            account_limit=above and above.limit,
            account_in_flight=above and above.in_flight,
            waits_for_account=held_by is not None,
        )

    def _failed_attempt(self, failure: Failure, wait: float | None) -> _FailedAttempt:
        loop = self._context.loop
        return _FailedAttempt(
            number=self.number,
            started=self.sent_at - self._context.started,
            queued=self._queued,
            elapsed=loop.now() - self.sent_at,
            observation=failure.observation,
            verdict=failure.verdict,
            wait=wait,
        )

    def _emit_finished(
        self,
        status: int | None,
        id_: str,
        size: int | None,
        failure: Failure | None = None,
        attempt: Attempt | None = None,
        usage: Usage | None = None,
    ) -> None:
        context = self._context
        account, account_in_flight, account_limit = self._above or (None, None, None)
        context.engine.observers.emit(
            AttemptFinished(
                request=context.info,
                attempt=self.number,
                status=status,
                kind=failure.verdict.kind if failure else None,
                code=attempt.code if attempt else "",
                fault=attempt.fault if attempt else "",
                reason=failure.verdict.reason if failure else "",
                request_id=id_,
                queued=self._queued,
                elapsed=context.loop.now() - self.sent_at,
                in_flight=self._in_flight,
                limit=self._limit,
                request_bytes=declared_size(context.request.headers),
                response_bytes=size,
                canary=self._canary,
                usage=usage,
                account=account,
                account_in_flight=account_in_flight,
                account_limit=account_limit,
            )
        )


def _id_of(ids: RequestIds) -> str:
    """Return the id to look an answer up by: the gateway's, if there is one."""
    return ids.gateway or ids.edge or ids.provider
