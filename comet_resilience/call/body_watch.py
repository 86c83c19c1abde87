"""A success on its way to the caller, until its body ends.

From here on nothing is sent again: what has come was billed, and half an answer followed by a whole
one would be no answer. What remains is to be honest about how the body ends: a cut, a stall, an
error inside the stream and a false end all reach the caller as the SDK's own exceptions, with a
diagnosis. The slot is held until then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from weakref import ref

import openai

from ..errors import IncompleteStreamError
from ..events import StreamAbandoned, StreamBroken
from ..verdict.usage import Usage, UsageWatch
from ..verdict.vocabulary import Fault, Observation, Signal
from ..wire.encoding import Decoder, OutOfReachError, UndecodableError, decoder_of
from ..wire.family import fault_of
from ..wire.http import native
from ..wire.request import STREAM_EXTENSION, event_watch
from ..wire.response import ResponseHead, observe, observe_event
from ..wire.stream import watch
from .portable import explain, make_portable

if TYPE_CHECKING:
    from ..diagnosis.diagnosis import Diagnosis
    from ..limits.partition import Lease
    from ..wire.http import Response
    from ..wire.sse import EventWatch
    from ..wire.stream import CloseInner
    from .attempts import AttemptLog
    from .context import RequestContext
    from .failure import Failure
    from .response_check import Answer

#: Two line ends: whether or not the last line has one, the event is over.
_BLANK_LINE = b"\n\n"


def watch_body(
    context: RequestContext, log: AttemptLog, lease: Lease, response: Response, answer: Answer
) -> None:
    """Let a body pass to the caller as it comes; the slot stays held until the body ends."""
    lease.accept()
    events = event_watch(context.outgoing) if answer.has_events else None
    watcher = BodyWatch(context, log, lease, response, events)
    timekeeper = None if watcher.stall is None else watcher
    body = watch(response, answer.head, watcher, timekeeper)
    lease.body = None if body is None else ref(body)


def _decoder(encoding: str) -> Decoder | None:
    """Return the decoder of a body's chunks, ``None`` if they are not encoded."""
    return decoder_of(encoding) if encoding not in ("", "identity") else None


class BodyWatch:
    """The watcher of one body. ``events`` is ``None`` where the body is no event stream."""

    def __init__(
        self,
        context: RequestContext,
        log: AttemptLog,
        lease: Lease,
        response: Response,
        events: EventWatch | None,
    ) -> None:
        self._context = context
        self._log = log
        self._lease = lease
        self._head = ResponseHead(response.status_code, response.headers)
        self._watch = events
        self._decode = _decoder(response.headers.get("content-encoding", "")) if events else None
        self.stall: float | None = context.config.stall_timeout if events else None
        self._silence, self._pulled_at = 0.0, context.loop.now()
        self._events = 0
        self._usage = self._usage_watch() if events else None
        self._over: openai.OpenAIError | None = None
        self._reported = False

    def patience(self) -> float:
        """Return the time until the next event is due; a slow reader does not count as silence."""
        self._pulled_at = self._context.loop.now()
        return max(0.0, (self.stall or math.inf) - self._silence)

    def passed(self, chunk: bytes) -> bytes:
        """Look at a chunk; hold back a false end mark."""
        watch = self._watch
        if watch is None:
            return chunk
        if self._usage is not None and self._decode is None:
            self._usage.feed(chunk)
        if self._decode is not None:
            return self._passed_encoded(chunk, watch, self._decode)
        special = watch.feed(chunk)
        if self.stall is not None:
            self._note_event(watch.events)
        return self._passed_special(chunk, watch) if special else chunk

    def _passed_encoded(self, chunk: bytes, watch: EventWatch, decode: Decoder) -> bytes:
        """Look at a chunk, decoded; it passes whole or not at all."""
        try:
            for piece in decode(chunk):
                if self._usage is not None:
                    self._usage.feed(piece)
                if watch.feed(piece):
                    self._passed_special(chunk, watch)
        except OutOfReachError:  # the caller's own decoder may be given more memory than ours
            self._watch = None
        except UndecodableError as error:
            incomplete = self._incomplete(str(error))
            self._watch = None
            if incomplete is not None:
                raise incomplete from error
        if self.stall is not None:
            self._note_event(watch.events)
        return chunk

    def _note_event(self, events: int) -> None:
        """Count the wait for this chunk, unless it brought an event."""
        if events > self._events:
            self._silence = 0.0
        else:
            self._silence += self._context.loop.now() - self._pulled_at
        self._events = events

    def _passed_special(self, chunk: bytes, watch: EventWatch) -> bytes:
        """Look at a chunk that is not just one event of content; return the part that may pass."""
        if self._over is not None:
            raise self._over
        if watch.error and not self._reported:
            diagnosis = self._report_error_event(watch.error)
            if watch.silent_at >= 0:
                return self._cut(chunk, watch.silent_at, self._error_event(diagnosis))
        if watch.torn_at >= 0:
            error = self._incomplete("an event of the stream is malformed")
            return self._cut(chunk, watch.torn_at, error)
        if watch.done_at >= 0 and not watch.is_complete and not watch.error:
            return self._cut(chunk, watch.done_at, self._incomplete(watch.lack))
        return chunk

    def broke(self, error: BaseException) -> BaseException:
        """Return the SDK's own exception for a fault; any other exception as it is."""
        fault = fault_of(error) if isinstance(error, Exception) else None
        if fault is None:
            self._settle()
            self._lease.release(Signal.IGNORED)
            return error
        return self._end_of_finished() or self._failed(fault, str(error))

    def stalled(self) -> BaseException:
        """Return the error for a stream from which no event came in time."""
        words = f"no event for {self.stall:g} s"
        return self._end_of_finished() or self._failed(Fault.STALLED, words)

    def _end_of_finished(self) -> StopAsyncIteration | None:
        """Return the end of a stream that is complete: the server may close it as it likes."""
        if self._watch is None or not self._watch.is_finished:
            return None
        self._finish(is_over=True)
        return StopAsyncIteration()

    def ended(self) -> bytes:
        """Note the end of the body: a success unless the terminal sign is missing.

        The SDK ignores a last event without its blank line.
        """
        if self._over is not None:
            raise self._over
        watch = self._watch
        if watch is not None and watch.lacks_blank_line and self._decode is None:
            return self.passed(_BLANK_LINE)
        if watch is not None and not watch.error:
            self._end(watch)
        self._finish(is_over=True)
        return b""

    def _end(self, watch: EventWatch) -> None:
        """Raise if a stream ends in an error without its last line end, or in nothing."""
        is_whole = watch.ends_whole
        watch.finish()
        error: openai.OpenAIError | None = None
        if watch.error and not self._reported:
            error = self._error_event(self._report_error_event(watch.error))
        elif not is_whole:
            error = self._incomplete(watch.lack)
        if error is not None:
            raise error

    def closed(self) -> None:
        """Note that the caller has closed the body: a success, since it has what it wanted."""
        self._finish(is_over=self._watch is not None and self._watch.is_over)

    def _finish(self, *, is_over: bool) -> None:
        """Give the slot back, and report the end of a stream once."""
        is_first = not self._lease.released
        usage = self._settle()
        self._lease.release(Signal.SUCCESS)
        if is_over and is_first and self._watch is not None:
            self._log.note_stream(self._watch.events, usage)

    def _usage_watch(self) -> UsageWatch | None:
        if not self._context.wants_usage:
            return None
        return UsageWatch(counts_text=self._context.cost is not None)

    def _settle(self) -> Usage | None:
        """Count what the stream took, before its slot is given back."""
        if self._usage is None or self._lease.released:
            return None
        cost = self._context.cost
        usage = self._usage.usage(0 if cost is None else cost.prompt_tokens)
        if usage is not None:
            self._context.settle_cost(self._lease, usage)
        return usage

    def abandoned(self, close_inner: CloseInner) -> None:
        """Give the slot back from a finalizer, and have the loop close the connection."""
        if self._lease.released:
            return
        self._lease.abandon()
        loop, context = self._lease.loop, self._context
        if loop is not None:
            event = StreamAbandoned(request=context.info)
            loop.start(close_inner)
            loop.call_soon(lambda: context.engine.observers.emit(event))

    def _cut(self, chunk: bytes, at: int, error: openai.OpenAIError | None) -> bytes:
        """Return the part before a false end or an error event; the error follows it."""
        if error is None:
            return chunk
        if at == 0 or self._head.headers.get("content-encoding"):
            raise error
        self._over = error
        return chunk[:at]

    def _incomplete(self, message: str) -> IncompleteStreamError | None:
        """Report that the answer is not whole; return the error to raise, if one is wanted."""
        if self._reported:
            return None
        self._reported = True
        self._settle()
        self._lease.release(Signal.IGNORED)
        error = IncompleteStreamError(
            message=self._words(message), request=native(self._context.request)
        )
        self._explain(error, self._failure(Fault.INCOMPLETE, message))
        return error if self._context.config.incomplete_stream == "raise" else None

    def _failed(self, fault: Fault, message: str) -> openai.OpenAIError:
        self._reported = True
        self._settle()
        self._lease.release(Signal.IGNORED)
        request = native(self._context.request)
        error: openai.APIConnectionError
        if fault.is_timeout:
            error = openai.APITimeoutError(request=request)
        else:
            words = self._words("the stream broke off" if self._watch else "the body broke off")
            error = openai.APIConnectionError(message=words, request=request)
        self._explain(error, self._failure(fault, message))
        return error

    def _report_error_event(self, data: bytes) -> Diagnosis:
        """Report an error inside the stream: the SDK raises it, the request has the diagnosis."""
        self._reported = True
        context = self._context
        observation = observe_event(self._head, data, context.info.operation)
        failure = context.failed(observation, head=self._head, body=data)
        make_portable(openai.APIError)
        self._settle()
        self._lease.release(failure.verdict.signal, observation.retry_after)
        diagnosis = self._diagnose(failure)
        context.request.extensions[STREAM_EXTENSION] = diagnosis
        return diagnosis

    def _error_event(self, diagnosis: Diagnosis) -> openai.APIError:
        """Return the exception that the SDK would raise if it knew the event as an error."""
        words = diagnosis.message or diagnosis.meaning
        error = openai.APIError(words, native(self._context.request), body=None)
        explain(error, diagnosis)
        return error

    def _failure(self, fault: Fault, message: str) -> Failure:
        operation = self._context.info.operation
        observation = Observation(
            status=self._head.status_code,
            fault=fault,
            message=message,
            operation=operation,
            ids=observe(self._head, b"", operation).ids,
        )
        return self._context.failed(observation, head=self._head)

    def _explain(self, error: openai.OpenAIError, failure: Failure) -> None:
        explain(error, self._diagnose(failure))

    def _diagnose(self, failure: Failure) -> Diagnosis:
        context, attempt = self._context, self._log.note_body_failure(failure)
        said = attempt.message or context.redactor().line(failure.verdict.reason)
        context.engine.observers.emit(
            StreamBroken(
                request=context.info,
                kind=failure.verdict.kind,
                events=self._watch.events if self._watch else 0,
                reason=said,
            )
        )
        reason = (
            f"{self._words('the answer had begun')}: it is never sent again by itself, because"
            " what came is billed and a retry would be billed again"
        )
        return self._log.diagnose(failure, reason, attempt)

    def _words(self, what: str) -> str:
        if self._watch is None:
            return what
        count = self._watch.events
        return f"{what} after {count} event{'' if count == 1 else 's'}"
