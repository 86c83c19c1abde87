"""The journey of one request: acquire, send, receive, and go round again or give up.

Here is the only loop of the package. It decides nothing itself: the table judges
(``verdict.rules``), the policy says again or never (``verdict.retry``), the limiter says when
there is room. Two promises are kept here: a slot is released before any wait, and every response
that is not handed on is closed.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, Any, Final

import anyio

from ..diagnosis.capture import redactor_of
from ..diagnosis.diagnosis import Attempt, Diagnosis, LimiterState
from ..diagnosis.interruption import Interruption, Stage, note_interruption
from ..diagnosis.redaction import Redactor, header_pairs, header_secrets
from ..errors import (
    CallbackError,
    DeadlineExceededError,
    GateClosedError,
    QueueTimeoutError,
    ResilienceError,
)
from ..events import AttemptFinished, GaveUp, HollowAnswer, RetryScheduled
from ..limits.eventloop import EventLoop, clock, running_loop
from ..limits.gate import Standing
from ..limits.guarded import words_of
from ..observers import Observers
from ..overrides import current_block
from ..verdict.evidence import Evidence
from ..verdict.retry import GiveUp, RetryIn, Situation, decide, may_be_billed
from ..verdict.rule import Rule
from ..verdict.rules import classify
from ..verdict.vocabulary import (
    Action,
    FailureKind,
    Fault,
    Observation,
    RequestInfo,
    Signal,
    Verdict,
)
from ..wire.body import loaded_body
from ..wire.request import Outgoing, base_url_of, count_retries, credential_of, renew_headers
from ..wire.response import close, observe
from .failure import Circumstances, Failure, diagnose_failure, explain, handed_on, shown_ids
from .response_check import faulted, receive
from .track_record import Circumstance

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..config import Config
    from ..limits.partition import Lease
    from ..transport import Engine
    from .new_tasks import NewTasks

#: For what the caller's own functions have done.
_CALLBACK: Final = Rule(
    name="callback", kind=FailureKind.LOCAL, action=Action.FAIL, source="inferred",
    reason="a function given to wrap() failed before anything was sent",
    advice=("Mend the function: the exception's cause is what it raised.",),
)  # fmt: skip
#: A length with more digits than this is nonsense.
_MOST_DIGITS: Final = 19

#: What a refusal of our own stands for; the narrow classes first.
_OWN_FAULTS: Final = {
    GateClosedError: Fault.GATE,
    DeadlineExceededError: Fault.DEADLINE,
    ResilienceError: Fault.QUEUE,
}

#: Seconds between two looks if a long hint still holds.
_LOOK_AGAIN: Final = 1.0


class Journey:
    """One request on its way; everything mutable about it is in here."""

    __slots__ = (
        "_canary", "_engine", "_evidence", "_flaw", "_free", "_hollow", "_in_flight", "_inner",
        "_key", "_known", "_limit", "_max_retries", "_number", "_ok_then", "_order",
        "_past_secrets", "_queued", "_standing", "_started", "attempts", "config", "here", "info",
        "new_tasks", "observers", "outgoing", "request", "rules", "sent_at", "waiting_since",
    )  # fmt: skip

    def __init__(self, engine: Engine, inner: Any, request: Any, outgoing: Outgoing) -> None:
        self.config: Config = engine.config
        self.rules: tuple[Rule, ...] = engine.rules
        self.observers: Observers = engine.observers
        self.new_tasks: NewTasks = engine.new_tasks
        self.request: Any = request
        self.outgoing: Outgoing = outgoing
        self.info: RequestInfo = outgoing.info
        self.attempts: tuple[Attempt, ...] = ()
        self._engine, self._inner = engine, inner
        self._key, self._flaw = _partition_of(engine, outgoing.info)
        call, block = outgoing.call, current_block()
        self._max_retries = self.config.max_retries if call is None else call.max_retries
        if block is not None:
            self.config = block.over(engine.config)
            self._max_retries = block.options.get("max_retries", self._max_retries)
            if block.witness is not None and self._flaw is None:
                block.witness(engine.limiter, self._key)
        self._order: int | None = None
        self._standing = Standing()
        self._free = 0  # refusals that spent no retry
        self._ok_then: int | None = None
        self._hollow: Failure | None = None  # an answer that holds nothing, if nothing better comes
        self._number = self._in_flight = self._limit = 0
        self._canary = False
        self._queued = self._started = 0.0
        self.sent_at: float = 0.0
        self.waiting_since: float | None = None
        self._known: Redactor | None = None
        self._past_secrets: frozenset[str] = frozenset()
        self._evidence: Evidence | None = None

    async def run(self) -> Any:
        """Attempts until there is an answer or a reason to stop, within the deadline.

        Raises:
            ResilienceError: If the queue is full or too slow, the deadline passes, or a function
                that decides about the limit fails.

        """
        self.here: EventLoop = running_loop()
        seconds = self.config.deadline
        self._started = self.sent_at = self.here.now()
        try:
            if self._flaw is not None:
                raise self._flaw  # noqa: TRY301 - explained below
            if seconds is None:
                return await self._loop(math.inf)
            with anyio.move_on_after(seconds):
                return await self._loop(self._started + seconds)
            late = DeadlineExceededError(f"deadline={seconds:g} s passed", self.request)
            raise late  # noqa: TRY301 - explained below
        except ResilienceError as error:
            if self._hollow is not None:
                return self._hand_over(self._hollow)
            if error.diagnosis is None:
                self._explain_own(error)
            raise
        except BaseException as error:
            if not isinstance(error, Exception):
                note_interruption(error, self._interruption())
            raise

    async def _loop(self, deadline: float) -> Any:
        asked, last = self._started, None
        while True:
            self.waiting_since = asked
            try:
                lease = await self._acquire(deadline)
            except QueueTimeoutError as error:
                if last is None:
                    raise
                return self._give_up(last, str(error))
            self._begin_attempt(lease, asked)
            try:
                outcome = await self._attempt(lease)
            except BaseException:
                lease.release(Signal.IGNORED)
                raise
            if not isinstance(outcome, Failure):
                return outcome
            last = outcome
            self._release(lease, outcome)
            if outcome.answer is not None:
                self._hollow = outcome
            step = self._decide(outcome, deadline)
            self._record(outcome, step)
            if isinstance(step, GiveUp):
                return self._give_up(outcome, step.reason)
            await self._rest(lease, step)
            await self._renew()
            asked = self.here.now()

    async def _acquire(self, deadline: float) -> Lease:
        try:
            return await self._engine.limiter.acquire(
                self._key,
                self._order,
                self.config.queue_timeout,
                self.here,
                request=self._standing,
                host=self.request.url.host,
                latest=min(deadline, clock() + _time_left()),
            )
        except GateClosedError as error:
            error.request = self.request
            raise

    def _release(self, lease: Lease, failure: Failure) -> None:
        observation, verdict = failure.observation, failure.verdict
        if verdict.signal is Signal.OVERLOAD and self._max_retries == self.config.max_retries > 0:
            # The limit probed with it while others were answered: it was only unlucky. Where the
            # caller of this request has named another number of retries, that is kept to.
            self._free += self._ok_then is not None and lease.partition.ok > self._ok_then
        self._ok_then = lease.partition.ok
        outcome = observation.status if observation.fault is None else observation.fault.value
        lease.release(
            verdict.signal,
            observation.retry_after,
            what=f"{outcome}: {verdict.reason}",
            answered=observation.status is not None,
        )

    async def _rest(self, lease: Lease, step: RetryIn) -> None:
        """Wait between two attempts, still counted among those who want something.

        A hint is slept in pieces: it may turn out to be wrong, and then it binds no longer.
        """
        limiter, partition = self._engine.limiter, lease.partition
        limiter.rest(partition, 1)
        try:
            await self.here.sleep(step.backoff)
            until = self.here.now() + step.delay - step.backoff
            while (left := until - self.here.now()) > 0 and not partition.hints_disproved:
                await self.here.sleep(min(left, _LOOK_AGAIN))
        finally:
            limiter.rest(partition, -1)

    async def _renew(self) -> None:
        call = self.outgoing.call
        if call is not None and call.renew is not None:
            # The key may be another afterwards, and an answer may still echo this one.
            self._past_secrets |= frozenset(header_secrets(header_pairs(self.request.headers)))
            self._known = None
            renew_headers(self.request, call, await call.renew())
        count_retries(self.request, self._number)

    def _begin_attempt(self, lease: Lease, asked: float) -> None:
        self._order = lease.order
        self._number += 1
        self._in_flight = lease.partition.in_flight
        self._limit = lease.partition.limit
        self._canary = lease.is_canary
        self.sent_at = self.here.now()
        self._queued = self.sent_at - asked
        self.waiting_since = None

    async def _attempt(self, lease: Lease) -> Any:
        """Send once: the response if it is an answer, else the ``Failure``."""
        try:
            response = await self._inner.handle_async_request(self.request)
        except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
            return faulted(self, error, None)
        try:
            return await receive(self, response, lease)
        except BaseException:
            await close(response)
            raise

    def _decide(self, failure: Failure, deadline: float) -> RetryIn | GiveUp:
        engine = self._engine
        return decide(
            engine.policy if self.config is engine.config else self.config.retry_policy,
            Situation(
                observation=failure.observation,
                verdict=failure.verdict,
                attempt=self._number - self._free,
                max_retries=self._max_retries,
                time_left=min(deadline - clock(), _time_left()),
                not_replayable=self.outgoing.not_replayable,
                jitter=random.random(),  # noqa: S311 - jitter is no secret
            ),
        )

    def elapsed(self) -> float:
        """Seconds since the request began."""
        return clock() - self._started

    def redactor(self) -> Redactor:
        """What keeps this request's secrets and content out of texts; made at the first failure."""
        if self._known is None:
            body = loaded_body(self.request)
            self._known = redactor_of(self.request, body, self._past_secrets)
        return self._known

    def circumstances(self, attempts: tuple[Attempt, ...]) -> Circumstances:
        """What a diagnosis is to say besides: the queue, the limiter now."""
        queued = sum(attempt.queued for attempt in attempts)
        if self.waiting_since is not None:
            queued += clock() - self.waiting_since
        return Circumstances(
            queued=queued,
            limiter=self._load(),
            redactor=self.redactor(),
            evidence=self._evidence,
        )

    def _interruption(self) -> Interruption:
        """Return what a cancellation has to say: plain values, for many may come at once."""
        now = clock()
        stage, since, queued = Stage.ATTEMPT, self.sent_at, self._queued
        if self.waiting_since is not None:
            stage, since, queued = Stage.QUEUE, self.waiting_since, now - self.waiting_since
        elif self._number == len(self.attempts) > 0:
            last = self.attempts[-1]
            stage, since = Stage.BACKOFF, self._started + last.started + last.elapsed
            queued = 0.0
        return Interruption(
            stage=stage,
            info=self.info,
            waited=now - since,
            queued=queued + sum(attempt.queued for attempt in self.attempts),
            elapsed=now - self._started,
            at=time.time(),
            ahead=self._standing.ahead,
            limiter=self._load(),
            attempts=self.attempts,
        )

    def _load(self) -> LimiterState | None:
        load = self._engine.limiter.state_of(self._key)
        return load and LimiterState(
            limit=load.limit, in_flight=load.in_flight, waiting=load.waiting
        )

    def attempt_of(self, failure: Failure, wait: float | None) -> Attempt:
        """The current attempt, which failed so, for the diagnosis."""
        observation = failure.observation
        return Attempt(
            number=self._number,
            started=self.sent_at - self._started,
            queued=self._queued,
            elapsed=clock() - self.sent_at,
            status=observation.status,
            fault=observation.fault.value if observation.fault else "",
            kind=failure.verdict.kind,
            code=self.redactor().line(observation.code),
            message=self.redactor().line(observation.message),
            ids=shown_ids(observation.ids, self.redactor()),
            wait=wait,
            may_be_billed=may_be_billed(observation, failure.verdict),
        )

    def judge(self, observation: Observation) -> Verdict:
        """Judge an outcome by itself and by what has worked before."""
        self._evidence = self._engine.track_record.evidence(self._circumstance(), clock())
        return classify(observation, self.rules, self._evidence)

    def _circumstance(self) -> Circumstance:
        call, info = self.outgoing.call, self.info
        return Circumstance(
            credential_of(self.request, call),
            base_url_of(self.request) if call is None else call.base_url,
            info.route,
            info.model,
        )

    def note_success(self, response: Any) -> None:
        """Remember that an answer has begun, and tell the observers, if there are any."""
        self._engine.track_record.note_success(self._circumstance(), self.here.now())
        if self.observers.wanted():
            observation = observe(response, b"", self.info.operation)
            size = response.num_bytes_downloaded or declared_size(response.headers)
            self.observers.emit(self._finished(observation, None, size))

    def _record(self, failure: Failure, step: RetryIn | GiveUp) -> None:
        """Keep a failed attempt for the diagnosis, and tell the observers."""
        self._keep(failure, step.delay if isinstance(step, RetryIn) else None)
        if isinstance(step, RetryIn):
            scheduled = RetryScheduled(
                request=self.info,
                attempt=self._number + 1,
                delay=step.delay,
                reason=f"{failure.verdict.reason}; {step.reason}",
                status=failure.observation.status,
                kind=failure.verdict.kind,
            )
            self.observers.emit(scheduled)

    def _keep(self, failure: Failure, wait: float | None) -> None:
        self.attempts += (self.attempt_of(failure, wait),)
        size = None if failure.response is None else len(failure.body)
        self.observers.emit(self._finished(failure.observation, failure, size))

    def _give_up(self, failure: Failure, reason: str) -> Any:
        if self._hollow is not None:
            return self._hand_over(self._hollow)
        self._note_give_up(failure, reason)
        self._disprove(failure.verdict)
        self._engine.nesting.gave_up(self.request, self._number, failure.verdict)
        diagnosis = self._diagnose(failure, reason)
        outcome = handed_on(failure, diagnosis, self.request, self.redactor())
        if isinstance(outcome, Exception):
            raise outcome from failure.error
        return outcome

    def _hand_over(self, hollow: Failure) -> Any:
        """Give the caller what the bare SDK gives, where asking again brought no more."""
        attempts, reason = self._number, hollow.verdict.reason
        self.observers.emit(HollowAnswer(request=self.info, attempts=attempts, reason=reason))
        return hollow.answer

    def _disprove(self, verdict: Verdict) -> None:
        """Forget what the retries rested on: one change of the world is met once, not for ever."""
        if self._number > 1 and verdict.rests_on == "model":
            self._engine.track_record.disprove_model(self._circumstance())
        elif self._number > 1 and verdict.rests_on == "place":
            self._engine.track_record.disprove_place(self._circumstance())

    def _explain_own(self, error: ResilienceError) -> None:
        """Diagnose what this library itself refused: no slot, or no time."""
        fault = next(fault for cls, fault in _OWN_FAULTS.items() if isinstance(error, cls))
        observation = Observation(fault=fault, message=str(error), operation=self.info.operation)
        rules = (_CALLBACK,) if isinstance(error, CallbackError) else ()
        failure = Failure(observation=observation, verdict=classify(observation, rules))
        if self._number > len(self.attempts):  # the deadline has cut one off
            self._keep(failure, None)
        self._note_give_up(failure, str(error))
        explain(error, self._diagnose(failure, str(error)))

    def _diagnose(self, failure: Failure, reason: str) -> Diagnosis:
        now = self.circumstances(self.attempts)
        return diagnose_failure(
            failure, self.info, self.request, reason, self.attempts, self.elapsed(), now
        )

    def _note_give_up(self, failure: Failure, reason: str) -> None:
        gave_up = GaveUp(
            request=self.info,
            attempts=self._number,
            kind=failure.verdict.kind,
            status=failure.observation.status,
            reason=reason,
        )
        self.observers.emit(gave_up)

    def _finished(
        self, observation: Observation, failure: Failure | None, size: int | None
    ) -> AttemptFinished:
        id_ = observation.ids.gateway or observation.ids.edge or observation.ids.provider
        redactor = self.redactor() if failure else Redactor()
        return AttemptFinished(
            request=self.info,
            attempt=self._number,
            status=observation.status,
            kind=failure.verdict.kind if failure else None,
            code=redactor.line(observation.code),
            fault=observation.fault.value if observation.fault else "",
            reason=failure.verdict.reason if failure else "",
            request_id=redactor.line(id_),
            queued=self._queued,
            elapsed=clock() - self.sent_at,
            in_flight=self._in_flight,
            limit=self._limit,
            request_bytes=declared_size(self.request.headers),
            response_bytes=size,
            canary=self._canary,
        )


def _partition_of(engine: Engine, info: RequestInfo) -> tuple[Hashable, CallbackError | None]:
    """What a request shares a limit with, or why that is not known."""
    try:
        key = engine.partition(info)
        hash(key)
    except Exception as error:  # noqa: BLE001 - raised with a diagnosis where the request runs
        flaw = CallbackError(
            f"partition: expected a function that gives a hashable value ({words_of(error)})"
        )
        flaw.__cause__ = error
        return None, flaw
    return key, None


def declared_size(headers: Any) -> int | None:
    """What the head of a message says of its body's size in bytes, ``None`` if nothing."""
    length: str = headers.get("content-length", "")
    return int(length) if len(length) < _MOST_DIGITS and length.isdecimal() else None


def _time_left() -> float:
    """Seconds until the caller's own cancel scope ends the wait."""
    return anyio.current_effective_deadline() - anyio.current_time()
