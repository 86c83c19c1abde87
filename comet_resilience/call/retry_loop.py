"""The retry loop of one request: acquire, send, check, release, wait, and again.

It decides nothing itself: the table judges (``verdict.rules``), the policy says again or never
(``verdict.retry``), the limiter says when there is room. Two promises are kept here: a slot is
released before any wait, and every response that is not handed on is closed.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

import anyio

from ..diagnosis.interruption import note_interruption
from ..errors import (
    DeadlineExceededError,
    GateClosedError,
    QueueTimeoutError,
    ResilienceError,
)
from ..verdict.rates import parse_rate_in_words
from ..verdict.retry import GiveUp, RetryIn, Situation, decide
from ..verdict.vocabulary import Signal
from ..wire.body import why_not_replayable
from ..wire.http import native
from ..wire.request import count_retries
from ..wire.response import close, read_rates
from .attempts import AttemptLog
from .body_watch import watch_body
from .context import RequestContext
from .failure import Failure, own_refusal
from .handing_on import handed_on
from .portable import explain
from .response_check import check, faulted

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..limits.eventloop import EventLoop
    from ..limits.partition import Lease, Partition
    from ..wire.http import Request, Response, Transport
    from ..wire.request import Outgoing
    from .engine import Engine

#: Seconds between two looks if a long hint still holds.
_LOOK_AGAIN: Final = 1.0


class RetryLoop:
    """The attempts at one request, one after the other."""

    __slots__ = (
        "_deadline", "_fallback", "_inner", "_ok_at_refusal", "_order", "_uncounted", "context",
        "log",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        inner: Transport,
        request: Request,
        outgoing: Outgoing,
        loop: EventLoop,
    ) -> None:
        self.context: RequestContext = RequestContext(engine, request, outgoing, loop)
        self.log: AttemptLog = AttemptLog(self.context)
        self._inner = inner
        self._deadline = math.inf
        self._order: int | None = None  # its place in the queue, from the first slot on
        self._uncounted = 0  # refusals that spent no retry
        self._ok_at_refusal: int | None = None
        self._fallback: tuple[Response, str] | None = None  # if nothing better comes, and why not

    def run(self) -> Awaitable[Response]:
        """Send the request until there is an answer or a reason to stop, within its deadline.

        No ``async def``: what waits below by the thousand need not wait in one frame more.

        Raises:
            ResilienceError: If the queue is full or too slow, the deadline passes, or a function
                that decides about the limit fails.

        """
        seconds = self.context.config.deadline
        return self._run() if seconds is None else self._run_within(seconds)

    async def _run_within(self, seconds: float) -> Response:
        self._deadline = self.context.started + seconds
        with anyio.move_on_after(seconds):
            return await self._run()
        late = DeadlineExceededError(f"deadline={seconds:g} s passed", self.context.request)
        return self._end(late, None)

    async def _run(self) -> Response:
        context, log, last = self.context, self.log, None
        log.waiting_since = context.started
        try:
            if context.flaw is not None:
                raise context.flaw  # noqa: TRY301 - explained below
            while True:
                lease = self._acquire_nowait() or await self._acquire()
                log.begin(lease)
                outcome = await self._send(lease)
                if not isinstance(outcome, Failure):
                    return outcome
                last = outcome
                self._remember(lease, outcome)
                self._release(lease, outcome)
                step = self._decide(outcome)
                log.note_failure(outcome, step)
                if isinstance(step, GiveUp):
                    return self._give_up(outcome, step.reason)
                await self._wait(lease.partition, step)
                await context.renew_credentials()
                count_retries(context.request, log.number)
                log.waiting_since = context.loop.now()
        except ResilienceError as error:
            return self._end(error, last)
        except BaseException as error:
            if not isinstance(error, Exception):
                note_interruption(error, log.interruption())
            raise

    def _acquire_nowait(self) -> Lease | None:
        """Return a slot if one is free, without working out how long one could wait for it."""
        context = self.context
        return context.engine.limiter.acquire_nowait(
            context.key, context.loop, self._order, request=self.log.standing, host=context.host
        )

    def _acquire(self) -> Awaitable[Lease]:
        context = self.context
        return context.engine.limiter.acquire(
            context.key,
            self._order,
            context.config.queue_timeout,
            context.loop,
            request=self.log.standing,
            host=context.host,
            latest=min(self._deadline, context.loop.now() + _time_left()),
            priority=context.config.priority,
        )

    async def _send(self, lease: Lease) -> Response | Failure:
        """Send once: return the response if it is an answer, else the failure.

        The slot stays held by a failure, by a body that is still to come, and by nothing else.
        """
        context = self.context
        try:
            try:
                response: Response = await self._inner.handle_async_request(context.request)
            except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
                return faulted(context, error, None)
            try:
                lease.rates = read_rates(response)
                answer = await check(context, response, self.log.sent_at)
                if isinstance(answer, Failure):
                    return answer
                if answer.usage is not None:
                    context.settle_cost(lease, answer.usage)
                if answer.is_whole:
                    lease.release(Signal.SUCCESS, loop=context.loop)
                else:
                    watch_body(context, self.log, lease, response, answer)
                self.log.note_success(response, answer.usage)
            except BaseException:
                await close(response)
                raise
        except BaseException:
            lease.release(Signal.IGNORED)
            raise
        return response

    def _remember(self, lease: Lease, failure: Failure) -> None:
        """Keep what the next attempt, or giving up, depends on."""
        context, ok = self.context, lease.partition.slots.ok
        self._order = lease.order
        overload = failure.verdict.signal.is_overload
        if overload and context.max_retries == context.config.max_retries > 0:
            # The limit probed with it while others were answered: it was only unlucky. Where the
            # caller of this request has named another number of retries, that is kept to.
            self._uncounted += self._ok_at_refusal is not None and ok > self._ok_at_refusal
        self._ok_at_refusal = ok
        if failure.fallback is not None:
            self._fallback = failure.fallback, failure.verdict.reason

    def _release(self, lease: Lease, failure: Failure) -> None:
        """Release the slot of a failed attempt, with everything the limiter can learn from it."""
        observation, verdict = failure.observation, failure.verdict
        if verdict.signal.is_overload:
            lease.words = parse_rate_in_words(observation.message)
        outcome = observation.status if observation.fault is None else observation.fault.value
        lease.release(
            verdict.signal,
            observation.retry_after,
            self.context.loop,
            what=f"{outcome}: {verdict.reason}",
            answered=observation.status is not None,
        )
        self.log.note_release(lease)

    def _decide(self, failure: Failure) -> RetryIn | GiveUp:
        context, engine = self.context, self.context.engine
        return decide(
            engine.policy if context.config is engine.config else context.config.retry_policy,
            Situation(
                observation=failure.observation,
                verdict=failure.verdict,
                attempt=self.log.number - self._uncounted,
                max_retries=context.max_retries,
                time_left=min(self._deadline - context.loop.now(), _time_left()),
                not_replayable=why_not_replayable(context.request),
                jitter=random.random(),  # noqa: S311 - jitter is no secret
            ),
        )

    async def _wait(self, partition: Partition, step: RetryIn) -> None:
        """Wait between two attempts; the request still counts as present.

        A hint is slept in pieces, since it may turn out to be wrong meanwhile.
        """
        limiter, loop = self.context.engine.limiter, self.context.loop
        limiter.rest(partition, 1)
        try:
            await loop.sleep(step.backoff)
            until = loop.now() + step.delay - step.backoff
            while (left := until - loop.now()) > 0 and not partition.hints_disproved:
                await loop.sleep(min(left, _LOOK_AGAIN))
        finally:
            limiter.rest(partition, -1)

    def _give_up(self, failure: Failure, reason: str) -> Response:
        """Give the caller what the last attempt brought, with its diagnosis."""
        if self._fallback is not None:
            return self._hand_over(*self._fallback)
        context, log = self.context, self.log
        if failure.verdict.signal.is_overload:
            named = parse_rate_in_words(failure.observation.message)
            reason = reason if named is None else f"{reason}; the refusal names a limit of {named}"
            reason += log.words_on_account()
        log.note_give_up(failure, reason)
        if log.number > 1 and failure.verdict.rests_on:
            # One change of the world is met once, not for ever.
            record, circumstance = context.engine.track_record, context.circumstance()
            record.disprove(failure.verdict.rests_on, circumstance)
        context.engine.nesting.note_give_up(context.request, log.number, failure.verdict)
        diagnosis = log.diagnose(failure, reason, log.failed[-1])
        outcome = handed_on(failure, diagnosis, context.request, context.redactor())
        if isinstance(outcome, Exception):
            raise outcome from failure.error
        return outcome

    def _end(self, error: ResilienceError, last: Failure | None) -> Response:
        """Give the caller the best there is when no further attempt can be made."""
        is_own = error.diagnosis is None  # and not another client's, out of a token provider
        if is_own and isinstance(error, QueueTimeoutError) and last is not None:
            return self._give_up(last, str(error))
        if self._fallback is not None:
            return self._hand_over(*self._fallback)
        if is_own:
            self._explain(error)
        raise error

    def _hand_over(self, fallback: Response, reason: str) -> Response:
        """Give the caller the empty answer that the bare SDK gives: retries brought no more."""
        self.log.note_hollow_answer(reason)
        return fallback

    def _explain(self, error: ResilienceError) -> None:
        """Diagnose a refusal by this library itself: no slot, or no time."""
        context, log = self.context, self.log
        if isinstance(error, GateClosedError):
            error.request = native(context.request)
        failure = own_refusal(error, context.info.operation)
        attempt = None
        if log.is_under_way:  # the deadline has cut one off
            log.note_failure(failure, None)
            attempt = log.failed[-1]
        log.note_give_up(failure, str(error))
        explain(error, log.diagnose(failure, str(error), attempt))


def _time_left() -> float:
    """Return the seconds until the caller's own cancel scope ends the wait."""
    deadline = anyio.current_effective_deadline()
    return math.inf if deadline == math.inf else deadline - anyio.current_time()
