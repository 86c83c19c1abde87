"""The journey of one request: acquire, send, judge, and go round again or give up.

Here is the only loop of the package. It decides nothing itself: the table judges
(``verdict.rules``), the policy says again or never (``verdict.retry``), the limiter says when
there is room. Two promises are kept here: a slot is released before any wait, and every response
that is not handed on is closed.
"""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from .errors import DeadlineExceededError, ResilienceError
from .events import AttemptFinished, GaveUp, RetryScheduled, StreamAbandoned
from .failure import Failure, diagnose_failure, explain, hand_on
from .limits.partition import Lease
from .support.diagnosis import Attempt
from .support.redaction import printable
from .verdict.answer import is_answer
from .verdict.retry import GiveUp, RetryIn, Situation, decide
from .verdict.rules import classify
from .verdict.vocabulary import Fault, Observation, Operation, Signal
from .wire.family import fault_of
from .wire.request import Due, Outgoing, renew_headers
from .wire.response import close, observe, observe_fault, read_bounded
from .wire.stream import watch

if TYPE_CHECKING:
    from .transport import Engine


class Journey:
    """One request on its way; everything mutable about it is in here."""

    __slots__ = (
        "_attempts", "_engine", "_info", "_inner", "_key", "_number", "_order", "_outgoing",
        "_queued", "_request", "_sent_at", "_started",
    )  # fmt: skip

    def __init__(self, engine: Engine, inner: Any, request: Any, outgoing: Outgoing) -> None:
        self._engine = engine
        self._inner = inner
        self._request = request
        self._outgoing = outgoing
        self._info = outgoing.info
        self._key = engine.partition(outgoing.info)
        self._started = anyio.current_time()
        self._order: int | None = None
        self._attempts: tuple[Attempt, ...] = ()
        self._number = 0
        self._queued = 0.0
        self._sent_at = self._started

    async def run(self) -> Any:
        """Attempts until there is an answer or a reason to stop, within the deadline.

        Raises:
            ResilienceError: If the queue is full or too slow, or the deadline passes.

        """
        seconds = self._engine.config.deadline
        try:
            if seconds is None:
                return await self._loop(math.inf)
            with anyio.move_on_after(seconds):
                return await self._loop(self._started + seconds)
            raise DeadlineExceededError(f"deadline={seconds:g} s passed", self._request)
        except ResilienceError as error:
            if error.diagnosis is None:
                self._explain_own(error)
            raise

    async def _loop(self, deadline: float) -> Any:
        while True:
            lease = await self._acquire()
            try:
                outcome = await self._attempt(lease)
            except BaseException:
                lease.release(Signal.IGNORED)
                raise
            if not isinstance(outcome, Failure):
                return outcome
            lease.release(outcome.verdict.signal, outcome.seen.retry_after)
            step = self._decide(outcome, deadline)
            self._record(outcome, step)
            if isinstance(step, GiveUp):
                return self._give_up(outcome, step.reason)
            await anyio.sleep(step.delay)
            await renew_headers(self._request, self._outgoing.call, self._number)

    async def _acquire(self) -> Lease:
        asked = anyio.current_time()
        lease = await self._engine.limiter.acquire(self._key, self._order)
        self._order = lease.order
        self._number += 1
        self._sent_at = anyio.current_time()
        self._queued = self._sent_at - asked
        return lease

    async def _attempt(self, lease: Lease) -> Any:
        """Send once: the response if it is an answer, else the ``Failure``."""
        try:
            response = await self._inner.handle_async_request(self._request)
        except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
            return self._faulted(error, None)
        try:
            return await self._judge(response, lease)
        except BaseException:
            await close(response)
            raise

    async def _judge(self, response: Any, lease: Lease) -> Any:
        if not self._may_be_answer(response):
            return self._refused(response, await read_bounded(response))
        if self._outgoing.due is not Due.JSON:
            return self._hand_over(response, lease)
        try:
            body = await response.aread()
        except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
            await close(response)
            return self._faulted(error, response.status_code)
        response.elapsed = timedelta(seconds=anyio.current_time() - self._sent_at)
        if not is_answer(body, self._outgoing.expected):
            return self._refused(response, body)
        lease.release(Signal.SUCCESS)
        self._note_success(response)
        return response

    def _may_be_answer(self, response: Any) -> bool:
        """Whether the head of a response leaves room for an answer."""
        status = response.status_code
        if self._info.operation is Operation.DOWNLOAD:
            return bool(200 <= status < 400)  # downloads rightly redirect to where the file is
        if not 200 <= status < 300:
            return False
        is_page = "text/html" in response.headers.get("content-type", "")
        return self._outgoing.due is Due.JSON or not is_page

    def _hand_over(self, response: Any, lease: Lease) -> Any:
        """Give a body to the caller as it comes; the slot stays held until the body ends."""
        observers, info = self._engine.observers, self._info

        def abandon(close_inner: Any) -> None:
            lease.abandon()
            if lease.loop is not None:
                lease.loop.start(close_inner)
            observers.emit(StreamAbandoned(request=info))

        lease.accepted()
        watch(response, lease.release, abandon)
        self._note_success(response)
        return response

    def _faulted(self, error: Exception, status: int | None) -> Failure:
        fault = fault_of(error)
        if fault is None:
            raise error
        seen = observe_fault(fault, error, status, self._info.operation)
        return Failure(seen=seen, verdict=classify(seen, self._engine.rules), error=error)

    def _refused(self, response: Any, body: bytes) -> Failure:
        seen = observe(response, body, self._info.operation)
        verdict = classify(seen, self._engine.rules)
        return Failure(seen=seen, verdict=verdict, response=response, body=body)

    def _decide(self, failure: Failure, deadline: float) -> RetryIn | GiveUp:
        call = self._outgoing.call
        return decide(
            self._engine.policy,
            Situation(
                seen=failure.seen,
                verdict=failure.verdict,
                attempt=self._number,
                max_retries=call.max_retries if call else self._engine.config.max_retries,
                time_left=min(deadline, anyio.current_effective_deadline()) - anyio.current_time(),
                not_replayable=self._outgoing.not_replayable,
                draw=random.random(),  # noqa: S311 - jitter is no secret
            ),
        )

    def _record(self, failure: Failure, step: RetryIn | GiveUp) -> None:
        """Keep a failed attempt for the diagnosis, and tell the observers."""
        seen, verdict = failure.seen, failure.verdict
        attempt = Attempt(
            number=self._number,
            started=self._sent_at - self._started,
            queued=self._queued,
            elapsed=anyio.current_time() - self._sent_at,
            status=seen.status,
            fault=seen.fault.value if seen.fault else "",
            kind=verdict.kind,
            code=seen.code,
            message=printable(seen.message),
            ids=seen.ids,
            wait=step.delay if isinstance(step, RetryIn) else None,
        )
        self._attempts += (attempt,)
        observers = self._engine.observers
        observers.emit(self._finished(seen, verdict.reason, verdict.kind))
        if isinstance(step, RetryIn):
            scheduled = RetryScheduled(
                request=self._info,
                attempt=self._number + 1,
                delay=step.delay,
                reason=f"{verdict.reason}; {step.reason}",
                status=seen.status,
                kind=verdict.kind,
            )
            observers.emit(scheduled)

    def _give_up(self, failure: Failure, reason: str) -> Any:
        elapsed = anyio.current_time() - self._started
        diagnosis = diagnose_failure(failure, self._info, reason, self._attempts, elapsed)
        self._note_give_up(failure, reason)
        return hand_on(failure, diagnosis, self._request)

    def _explain_own(self, error: ResilienceError) -> None:
        """Diagnose what this library itself refused: no slot, or no time."""
        late = isinstance(error, DeadlineExceededError)
        seen = Observation(
            fault=Fault.DEADLINE if late else Fault.QUEUE,
            message=str(error),
            operation=self._info.operation,
        )
        failure = Failure(seen=seen, verdict=classify(seen))
        elapsed = anyio.current_time() - self._started
        self._note_give_up(failure, str(error))
        explain(error, diagnose_failure(failure, self._info, str(error), self._attempts, elapsed))

    def _note_success(self, response: Any) -> None:
        if self._engine.observers.wanted():
            ids = observe(response, b"", self._info.operation)
            self._engine.observers.emit(self._finished(ids, "", None))

    def _note_give_up(self, failure: Failure, reason: str) -> None:
        gave_up = GaveUp(
            request=self._info,
            attempts=self._number,
            kind=failure.verdict.kind,
            status=failure.seen.status,
            reason=reason,
        )
        self._engine.observers.emit(gave_up)

    def _finished(self, seen: Observation, reason: str, kind: Any) -> AttemptFinished:
        ids = seen.ids
        return AttemptFinished(
            request=self._info,
            attempt=self._number,
            status=seen.status,
            kind=kind,
            code=seen.code,
            fault=seen.fault.value if seen.fault else "",
            reason=reason,
            request_id=printable(ids.gateway or ids.edge or ids.provider),
            queued=self._queued,
            elapsed=anyio.current_time() - self._sent_at,
        )
