"""A success on its way to the caller, until its body ends.

From here on nothing is ever sent again: what came was billed, and half an answer followed by a
whole one would be no answer. What can still be done is to be honest about how the body ends: a
cut, a stall, an error inside the stream, or an end that is none all reach the caller as the SDK's
own exceptions, with a diagnosis. The slot is held until then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import openai

from ..errors import IncompleteStreamError
from ..events import StreamAbandoned, StreamBroken
from ..limits.eventloop import clock
from ..verdict.vocabulary import Fault, Observation, Signal
from ..wire.encoding import Decoder, OutOfReachError, UndecodableError, decoder_of
from ..wire.family import fault_of
from ..wire.request import STREAM_EXTENSION
from ..wire.response import ResponseHead, observe, observe_event
from ..wire.sse import EventWatch
from .failure import Failure, diagnose_failure, explain, make_portable

if TYPE_CHECKING:
    from ..diagnosis.diagnosis import Diagnosis
    from ..limits.partition import Lease
    from ..wire.stream import CloseInner
    from .retry_loop import Journey


def _decoder(encoding: str) -> Decoder | None:
    """What a chunk goes through before it is looked at; ``None`` where it comes as it is."""
    return decoder_of(encoding) if encoding not in ("", "identity") else None


class Delivery:
    """The watcher of one body. ``watch`` is ``None`` where the body is no event stream."""

    def __init__(
        self, journey: Journey, lease: Lease, response: Any, watch: EventWatch | None
    ) -> None:
        self._journey = journey
        self._lease = lease
        self._head = ResponseHead(response.status_code, response.headers)
        self._watch = watch
        self._decode = _decoder(response.headers.get("content-encoding", "")) if watch else None
        self.stall: float | None = journey.config.stall_timeout if watch else None
        self._silence, self._pulled_at = 0.0, clock()
        self._events = 0
        self._over: openai.OpenAIError | None = None
        self._reported = False

    def patience(self) -> float:
        """What is left until the next event is due; a reader who takes time is no silence."""
        self._pulled_at = clock()
        return max(0.0, (self.stall or math.inf) - self._silence)

    def passed(self, chunk: bytes) -> bytes:
        """Look at a chunk; hold back an end mark that is none."""
        watch = self._watch
        if watch is None:
            return chunk
        if self._decode is not None:
            return self._passed_encoded(chunk, watch, self._decode)
        special = watch.feed(chunk)
        if self.stall is not None:
            self._note_event(watch.events)
        return self._passed_special(chunk, watch) if special else chunk

    def _passed_encoded(self, chunk: bytes, watch: EventWatch, decode: Decoder) -> bytes:
        """Look at what a chunk decodes to; it passes whole or not at all."""
        try:
            for piece in decode(chunk):
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
        self._silence = 0.0 if events > self._events else self._silence + clock() - self._pulled_at
        self._events = events

    def _passed_special(self, chunk: bytes, watch: EventWatch) -> bytes:
        """A chunk that is not plainly one event of content."""
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
        """Map a fault to the SDK's own class; anything else is not ours."""
        fault = fault_of(error) if isinstance(error, Exception) else None
        if fault is None:
            self._lease.release(Signal.IGNORED)
            return error
        return self._failed(fault, str(error))

    def stalled(self) -> BaseException:
        """No event came in time."""
        return self._failed(Fault.STALLED, f"no event for {self.stall:g} s")

    def ended(self) -> None:
        """Read to the end: a success unless the terminal sign is missing."""
        if self._over is not None:
            raise self._over
        watch = self._watch
        if watch is not None and not watch.error:
            self._end(watch)
        self._lease.release(Signal.SUCCESS)

    def _end(self, watch: EventWatch) -> None:
        """Raise if the end of a stream is none: an error without its last line end, or nothing."""
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
        """Closed by the caller, who has what was wanted."""
        self._lease.release(Signal.SUCCESS)

    def abandoned(self, close_inner: CloseInner) -> None:
        """Give the slot back from a finalizer, and have the loop close the connection."""
        if self._lease.released:
            return
        self._lease.abandon()
        loop, journey = self._lease.loop, self._journey
        if loop is not None:
            loop.start(close_inner)
            loop.call_soon(lambda: journey.observers.emit(StreamAbandoned(request=journey.info)))

    def _cut(self, chunk: bytes, at: int, error: openai.OpenAIError | None) -> bytes:
        """The part before a false end or an event that is no content; the error follows it."""
        if error is None:
            return chunk
        if at == 0 or self._head.headers.get("content-encoding"):
            raise error
        self._over = error
        return chunk[:at]

    def _incomplete(self, message: str) -> IncompleteStreamError | None:
        """Report that what came is not the whole answer; the error to raise, if one is wanted."""
        if self._reported:
            return None
        self._reported = True
        self._lease.release(Signal.IGNORED)
        error = IncompleteStreamError(message=self._words(message), request=self._journey.request)
        self._explain(error, self._failure(Fault.INCOMPLETE, message))
        return error if self._journey.config.incomplete_stream == "raise" else None

    def _failed(self, fault: Fault, message: str) -> openai.OpenAIError:
        self._reported = True
        self._lease.release(Signal.IGNORED)
        request = self._journey.request
        error: openai.APIConnectionError
        if fault.is_timeout:
            error = openai.APITimeoutError(request=request)
        else:
            words = self._words("the stream broke off" if self._watch else "the body broke off")
            error = openai.APIConnectionError(message=words, request=request)
        self._explain(error, self._failure(fault, message))
        return error

    def _report_error_event(self, data: bytes) -> Diagnosis:
        """An error inside the stream: the SDK raises it, the diagnosis travels on the request."""
        self._reported = True
        observation = observe_event(self._head, data, self._journey.info.operation)
        verdict = self._journey.judge(observation)
        failure = Failure(observation=observation, verdict=verdict, response=self._head, body=data)
        make_portable(openai.APIError)
        self._lease.release(failure.verdict.signal, observation.retry_after)
        diagnosis = self._diagnose(failure)
        self._journey.request.extensions[STREAM_EXTENSION] = diagnosis
        return diagnosis

    def _error_event(self, diagnosis: Diagnosis) -> openai.APIError:
        """What the SDK would raise, if it knew the event for an error."""
        words = diagnosis.message or diagnosis.meaning
        error = openai.APIError(words, self._journey.request, body=None)
        explain(error, diagnosis)
        return error

    def _failure(self, fault: Fault, message: str) -> Failure:
        head = observe(self._head, b"", self._journey.info.operation)
        observation = Observation(
            status=self._head.status_code,
            fault=fault,
            message=message,
            operation=head.operation,
            ids=head.ids,
        )
        verdict = self._journey.judge(observation)
        return Failure(observation=observation, verdict=verdict, response=self._head)

    def _explain(self, error: openai.OpenAIError, failure: Failure) -> None:
        explain(error, self._diagnose(failure))

    def _diagnose(self, failure: Failure) -> Diagnosis:
        journey = self._journey
        reason = (
            f"{self._words('the answer had begun')}: it is never sent again by itself, because"
            " what came is billed and a retry would be billed again"
        )
        events = self._watch.events if self._watch else 0
        journey.observers.emit(
            StreamBroken(
                request=journey.info,
                kind=failure.verdict.kind,
                events=events,
                reason=journey.redactor().line(
                    failure.observation.message or failure.verdict.reason
                ),
            )
        )
        attempts = (*journey.attempts, journey.attempt_of(failure, None))
        return diagnose_failure(
            failure,
            journey.info,
            journey.request,
            reason,
            attempts,
            journey.elapsed(),
            journey.circumstances(attempts),
        )

    def _words(self, what: str) -> str:
        if self._watch is None:
            return what
        count = self._watch.events
        return f"{what} after {count} event{'' if count == 1 else 's'}"
