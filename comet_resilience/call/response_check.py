"""The reception of a response: it is the answer, or one more failed attempt.

What is due decides how far to look. A JSON answer is read whole here, because the SDK would do the
same and because half of it is a failure. An event stream is held until its first real event. Any
other body is looked at by its head alone and passes as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from ..limits.eventloop import clock
from ..verdict.answer import PARSED_UP_TO, is_answer, is_transcript
from ..verdict.envelope import parse_envelope
from ..verdict.output import (
    Opening,
    Part,
    error_of_choice,
    has_error_finish,
    reported_failure,
    what_is_missing,
)
from ..verdict.vocabulary import BodyKind, Fault, Observation, Operation, Signal
from ..wire.encoding import is_undecodable
from ..wire.family import fault_of
from ..wire.request import Due, event_watch
from ..wire.response import BODY_CAP, close, observe, observe_event, observe_fault, read_bounded
from ..wire.sse import Event
from ..wire.stream import Head, first_bytes, look_ahead, replay, watch
from .body_watch import Delivery
from .failure import Failure

if TYPE_CHECKING:
    from ..limits.partition import Lease
    from .retry_loop import Journey

#: What is read whole before it is judged.
_READ_WHOLE: Final = (Due.JSON, Due.TRANSCRIPT)
#: Where the bytes tell what came, whatever the label says.
_SEEN_BY_BYTES: Final = (*_READ_WHOLE, Due.STREAM)
_SPEECH: Final = "POST /audio/speech"
#: Statuses of a success that has no body by definition.
_WITHOUT_BODY: Final = (204, 205)
_OK: Final = 200
_ACCEPTED: Final = 202
#: What an answer may lack and yet be meant so: handed over if asking again brings no more.
_MAY_BE_MEANT: Final = (Fault.LONE_STOP, Fault.NO_CHOICES)
_UNDECODABLE: Final = "the body is not encoded as its header says"
_IS_JSON = re.compile(r"[/+]json\b", re.IGNORECASE)


def receive(journey: Journey, response: Any, lease: Lease) -> Awaitable[Any]:
    """The response if it is an answer, with its slot released or watched; else the ``Failure``."""
    if not _may_be_answer(journey, response):
        return _receive_refusal(journey, response)
    if journey.outgoing.due in _READ_WHOLE:
        return _receive_whole(journey, response, lease)
    if journey.outgoing.due is Due.STREAM:
        return _receive_stream(journey, response, lease)
    return _receive_unread(journey, response, lease)


def faulted(journey: Journey, error: Exception, status: int | None) -> Failure:
    """The failure that a fault of the exchange is; any other exception is raised again."""
    fault = fault_of(error)
    if fault is None:
        raise error
    return _failed(journey, observe_fault(fault, error, status, journey.info.operation), error)


def _may_be_answer(journey: Journey, response: Any) -> bool:
    """Whether the head of a response leaves room for an answer."""
    status = response.status_code
    if not 200 <= status < 300:
        # downloads rightly redirect to where the file is
        return 300 <= status < 400 and journey.info.operation is Operation.DOWNLOAD
    if journey.outgoing.due in _SEEN_BY_BYTES or journey.info.operation is Operation.DOWNLOAD:
        return True
    content_type = response.headers.get("content-type", "")
    if "application/json" in content_type:
        is_sound = journey.info.operation is Operation.MEDIA and not journey.outgoing.expected
        return journey.outgoing.due is Due.ANY and not is_sound
    return "text/html" not in content_type


async def _receive_refusal(journey: Journey, response: Any) -> Failure:
    return _refused(journey, response, await read_bounded(response))


async def _receive_unread(journey: Journey, response: Any, lease: Lease) -> Any:
    # The request that follows a download's redirect is a download too, wherever it leads.
    if journey.outgoing.call is not None and 300 <= response.status_code < 400:
        journey.outgoing.call.is_download = True
    if journey.info.route == _SPEECH and response.status_code == _OK:
        return await _receive_speech(journey, response, lease)
    return _hand_over(journey, response, lease, None)


async def _receive_speech(journey: Journey, response: Any, lease: Lease) -> Any:
    """Wait for the first byte of sound: nothing at all is none."""
    try:
        head = await first_bytes(response)
    except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
        await close(response)
        return faulted(journey, error, response.status_code)
    if not head.chunks:
        await close(response)
        return _hollow(journey, response, Fault.NO_OUTPUT, "0 bytes of sound")
    return _hand_over(journey, response, lease, head, is_stream=False)


async def _receive_whole(journey: Journey, response: Any, lease: Lease) -> Any:
    try:
        body = await response.aread()
    except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
        await close(response)
        if is_undecodable(error):
            return _undecodable(journey, response)
        return faulted(journey, error, response.status_code)
    response.elapsed = timedelta(seconds=journey.here.now() - journey.sent_at)
    missing = what_is_missing(journey.info.route, body)
    reported = reported_failure(body) if journey.outgoing.expected else None
    if reported is not None:
        return _refused(journey, response, reported)
    if missing is not None and not parse_envelope(body).is_error:
        answer = response if missing in _MAY_BE_MEANT else None
        return _hollow(journey, response, missing, "", body=body, answer=answer)
    if not _is_answer(journey, response, body):
        return _refused(journey, response, body[:BODY_CAP])
    if journey.info.operation is Operation.JOB:
        journey.new_tasks.note(journey.request.url, body, clock())
    lease.release(Signal.SUCCESS, loop=journey.here)
    journey.note_success(response)
    return response


def _is_answer(journey: Journey, response: Any, body: bytes) -> bool:
    """Whether a whole body is what was due; of an unknown route little is known to be due."""
    if journey.outgoing.expected:
        return is_answer(body, journey.outgoing.expected)
    if journey.outgoing.due is Due.TRANSCRIPT:
        return is_transcript(body)
    if response.status_code in _WITHOUT_BODY:
        return True
    if not body.strip():
        return _may_be_empty(journey, response)
    label = response.headers.get("content-type", "")
    begins_like_json = not label and body.lstrip()[:1] in (b"{", b"[", b'"')
    if not begins_like_json and not _IS_JSON.search(label):
        return _says_something(body)
    return is_answer(body, ())


def _may_be_empty(journey: Journey, response: Any) -> bool:
    """Whether nothing may be all that an unknown route has to say: it was accepted, or done."""
    if response.status_code == _ACCEPTED:
        return True
    is_json = _IS_JSON.search(response.headers.get("content-type", ""))
    return journey.info.operation in (Operation.OTHER, Operation.JOB) and not is_json


def _says_something(body: bytes) -> bool:
    """Whether a body that calls itself no JSON is no web page and no error."""
    envelope = parse_envelope(body[:PARSED_UP_TO])
    is_error = envelope.is_error and body.lstrip()[:1] == b"{"
    return envelope.kind is not BodyKind.HTML and not is_error


class _Start:
    """What is made of a stream's events until one of them decides what it is."""

    def __init__(self, journey: Journey) -> None:
        self.opening = Opening(journey.info.route)
        self.part = Part.OPENING
        self.reported: bytes | None = None
        self._is_held = journey.config.opening == "hold"

    def __call__(self, event: Event) -> bool:
        """Tell whether this event decides."""
        if event.is_done or event.is_error:
            return True
        self.part = self.opening.take(event.parsed)
        if self.part is Part.OPENING and self._is_held:
            self.reported = reported_failure(event.data.encode())
            return self.reported is not None
        return True


async def _receive_stream(journey: Journey, response: Any, lease: Lease) -> Any:
    content_type = response.headers.get("content-type", "text/event-stream")
    is_text = content_type.startswith("text/") or _IS_JSON.search(content_type)
    # Where events are due, a label that says otherwise is wrong; elsewhere it may be sound, say.
    if not is_text and not journey.outgoing.expected:
        return _hand_over(journey, response, lease, None)
    start = _Start(journey)
    head = await look_ahead(response, journey.config.stall_timeout, start)
    if head.unreadable or head.oversized:
        return _hand_over(journey, response, lease, head)
    failure = _judge_head(journey, response, head, start)
    if failure is None:
        return _hand_over(journey, response, lease, head)
    if failure.answer is None:
        await close(response)
    else:
        await replay(response, head)
    return failure


def _judge_head(journey: Journey, response: Any, head: Head, start: _Start) -> Failure | None:
    """Why a stream's beginning is no answer, ``None`` if it is one."""
    operation, status = journey.info.operation, response.status_code
    if head.error is not None and is_undecodable(head.error):
        return _undecodable(journey, response)
    if head.error is not None:
        return faulted(journey, head.error, status)
    if head.stalled:
        late = TimeoutError("no event came in time")
        return _failed(journey, observe_fault(Fault.STALLED, late, status, operation), late)
    if head.event is None or head.event.is_done:
        return _judge_end(journey, response, head, start)
    if head.is_cut and not head.event.is_error:  # the SDK would not show it
        return _hollow(journey, response, Fault.NO_OUTPUT, "the stream ended inside of an event")
    return _judge_event(journey, response, head.event, start)


def _judge_event(journey: Journey, response: Any, event: Event, start: _Start) -> Failure | None:
    """Judge the event that decides."""
    data = start.reported or event.data.encode()
    is_named = not event.is_error and start.reported is None
    if is_named and start.part is not Part.FAILURE:
        return None
    error = error_of_choice(event.parsed)
    if is_named or (error is None and has_error_finish(event.parsed)):
        return _hollow(journey, response, Fault.NO_OUTPUT, "its end says that it failed", body=data)
    data = error or data
    observation = observe_event(response, data, journey.info.operation)
    return Failure(
        observation=observation, verdict=journey.judge(observation), response=response, body=data
    )


def _judge_end(journey: Journey, response: Any, head: Head, start: _Start) -> Failure:
    """Judge a stream that ended before any output."""
    if is_answer(head.stray, journey.outgoing.expected) and journey.outgoing.expected:
        return _hollow(journey, response, Fault.NOT_STREAMED, "", body=head.stray)
    if head.opened == 0 or parse_envelope(head.stray).is_error:
        return _refused(journey, response, head.stray)
    if start.opening.is_lone_stop:
        return _hollow(journey, response, Fault.LONE_STOP, "", answer=response)
    words = f"the stream ended before any output, after {head.opened} event" + "s" * (
        head.opened > 1
    )
    return _hollow(journey, response, Fault.NO_OUTPUT, words)


def _hand_over(
    journey: Journey, response: Any, lease: Lease, head: Head | None, *, is_stream: bool = True
) -> Any:
    """Give a body to the caller as it comes; the slot stays held until the body ends."""
    lease.accepted()
    is_watched = is_stream and head is not None and not head.unreadable
    if head is not None and head.oversized and response.headers.get("content-encoding"):
        is_watched = False  # a bomb, most likely: looked into once, and not again as it passes
    events = event_watch(journey.outgoing) if is_watched else None
    delivery = Delivery(journey, lease, response, events)
    body = watch(response, head or Head(), delivery, None if delivery.stall is None else delivery)
    lease.body = None if body is None else ref(body)
    journey.note_success(response)
    return response


def _refused(journey: Journey, response: Any, body: bytes) -> Failure:
    observation = observe(response, body, journey.info.operation)
    observation = replace(observation, has_id=journey.info.has_id)
    if journey.new_tasks.is_new(journey.request.url, clock()):
        observation = replace(observation, new_task=True)
    verdict = journey.judge(observation)
    return Failure(observation=observation, verdict=verdict, response=response, body=body)


def _hollow(
    journey: Journey,
    response: Any,
    fault: Fault,
    message: str,
    *,
    body: bytes = b"",
    answer: Any = None,
) -> Failure:
    """A success that holds nothing; ``answer`` is what to hand over if nothing better comes."""
    head = observe(response, b"", journey.info.operation)
    observation = replace(head, fault=fault, message=message, body=BodyKind.UNREAD)
    kept = body[:BODY_CAP]
    return Failure(
        observation=observation,
        verdict=journey.judge(observation),
        response=response,
        body=kept,
        answer=answer,
    )


def _undecodable(journey: Journey, response: Any) -> Failure:
    """A body that nobody can read: the status alone tells, and a success holds no answer."""
    observation = observe(response, b"", journey.info.operation)
    observation = replace(observation, body=BodyKind.BINARY, message=_UNDECODABLE)
    verdict = journey.judge(observation)
    return Failure(observation=observation, verdict=verdict, response=response)


def _failed(journey: Journey, observation: Observation, error: Exception) -> Failure:
    return Failure(observation=observation, verdict=journey.judge(observation), error=error)
