"""The check of a response: it is the answer, or one more failed attempt.

What was asked for decides how far to look. A JSON answer is read whole here, because the SDK would
do the same and because half of it is a failure. An event stream is held until its first real
event. Any other body is judged by its head alone and passes as it comes.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ..verdict.answer import PARSED_UP_TO, is_answer, is_transcript, parsed
from ..verdict.envelope import has_error, parse_envelope
from ..verdict.output import (
    OPENS,
    Opening,
    Part,
    error_of_choice,
    has_error_finish,
    is_plainly_answered,
    reported_failure,
    suspect_fields,
    what_is_missing,
)
from ..verdict.usage import Usage, find_usage
from ..verdict.vocabulary import BodyKind, Fault, Operation
from ..wire.encoding import is_undecodable
from ..wire.family import fault_of
from ..wire.request import AnswerForm
from ..wire.response import (
    BODY_CAP,
    close,
    note_elapsed,
    observe,
    observe_event,
    observe_fault,
    read_bounded,
)
from ..wire.stream import Head, first_bytes, look_ahead, replay

if TYPE_CHECKING:
    from ..wire.http import Response
    from ..wire.sse import Event
    from .context import RequestContext
    from .failure import Failure

#: What is read whole before it is judged.
_READ_WHOLE: Final = (AnswerForm.JSON, AnswerForm.TRANSCRIPT)
#: Where the bytes tell what came, whatever the label says.
_JUDGED_BY_BYTES: Final = (*_READ_WHOLE, AnswerForm.STREAM)
_SPEECH: Final = "POST /audio/speech"
#: No sound begins like this, whatever it is labelled.
_ERROR_BEGINS: Final = (b'{"error":', b'{"error" :')
#: Statuses of a success that has no body by definition.
_WITHOUT_BODY: Final = (204, 205)
_OK: Final = 200
_ACCEPTED: Final = 202
#: What an answer may lack and yet be meant so: handed over if asking again brings no more.
_MAY_BE_MEANT: Final = (Fault.LONE_STOP, Fault.NO_CHOICES)
_UNDECODABLE: Final = "the body is not encoded as its header says"
_IS_JSON = re.compile(r"[/+]json\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is the answer: read whole, or with a body that passes as it comes.

    ``head`` is what was read of the body already; ``has_events`` says that it is to be watched as
    a stream of events. ``usage`` is what an answer that was read whole says that it took.
    """

    is_whole: bool = False
    head: Head = field(default_factory=Head)
    has_events: bool = False
    usage: Usage | None = None


_WHOLE: Final = Answer(is_whole=True)


def check(
    context: RequestContext, response: Response, sent_at: float
) -> Awaitable[Answer | Failure]:
    """Return a response as the answer or as a failure; it is closed if it is a failure."""
    if not _may_be_answer(context, response):
        return _check_refusal(context, response)
    if context.outgoing.form in _READ_WHOLE:
        return _check_whole(context, response, sent_at)
    if context.outgoing.form is AnswerForm.STREAM:
        return _check_stream(context, response)
    return _check_unread(context, response)


def faulted(context: RequestContext, error: Exception, status: int | None) -> Failure:
    """Return the failure that a fault of the exchange is; raise any other exception again."""
    fault = fault_of(error)
    if fault is None:
        raise error
    observation = observe_fault(fault, error, status, context.info.operation)
    return context.failed(observation, error=error)


def _may_be_answer(context: RequestContext, response: Response) -> bool:
    """Return True if the head of a response leaves room for an answer."""
    status = response.status_code
    if not 200 <= status < 300:
        # downloads rightly redirect to where the file is
        return 300 <= status < 400 and context.info.operation is Operation.DOWNLOAD
    if context.outgoing.form in _JUDGED_BY_BYTES or context.info.operation is Operation.DOWNLOAD:
        return True
    content_type = response.headers.get("content-type", "")
    if "application/json" in content_type:
        is_sound = context.info.operation is Operation.MEDIA and not context.outgoing.expected
        return context.outgoing.form is AnswerForm.ANY and not is_sound
    return "text/html" not in content_type


async def _check_refusal(context: RequestContext, response: Response) -> Failure:
    return _refused(context, response, await read_bounded(response))


async def _check_unread(context: RequestContext, response: Response) -> Answer | Failure:
    # The request that follows a download's redirect is a download too, wherever it leads.
    if context.outgoing.call is not None and 300 <= response.status_code < 400:
        context.outgoing.call.is_download = True
    if context.info.route == _SPEECH and response.status_code == _OK:
        return await _check_speech(context, response)
    return Answer()


async def _check_speech(context: RequestContext, response: Response) -> Answer | Failure:
    """Wait for the first byte of sound: nothing at all is none."""
    try:
        head = await first_bytes(response)
    except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
        await close(response)
        return faulted(context, error, response.status_code)
    if not head.chunks:
        await close(response)
        return _hollow(context, response, Fault.NO_OUTPUT, "0 bytes of sound")
    if head.chunks[0].startswith(_ERROR_BEGINS) or not _says_something(head.chunks[0]):
        await close(response)
        return _refused(context, response, head.chunks[0][:BODY_CAP])
    return Answer(head=head)


async def _check_whole(
    context: RequestContext, response: Response, sent_at: float
) -> Answer | Failure:
    try:
        body = await response.aread()
    except Exception as error:  # noqa: BLE001 - raised again unless it is a fault
        await close(response)
        if is_undecodable(error):
            return _undecodable(context, response)
        return faulted(context, error, response.status_code)
    note_elapsed(response, context.loop.now() - sent_at)
    if not is_plainly_answered(context.info.route, body):
        failure = _judge_whole(context, response, body)
        if failure is not None:
            return failure
    if context.info.operation is Operation.JOB:
        context.engine.new_tasks.note(context.request.url, body, context.loop.now())
    usage = find_usage(body) if context.wants_usage else None
    return _WHOLE if usage is None else Answer(is_whole=True, usage=usage)


def _judge_whole(context: RequestContext, response: Response, body: bytes) -> Failure | None:
    """Return why a whole body is no answer, ``None`` if it is one."""
    fields = suspect_fields(body)
    if fields is not None:
        reported = reported_failure(fields) if context.outgoing.expected else None
        if reported is not None:
            return _refused(context, response, reported)
        missing = what_is_missing(context.info.route, fields)
        if missing is not None and not parse_envelope(body).is_error:
            fallback = response if missing in _MAY_BE_MEANT else None
            return _hollow(context, response, missing, "", body=body, fallback=fallback)
    if _is_answer(context, response, body):
        return None
    if context.outgoing.expected and _names_no_error(body):
        words = f"expected {' or '.join(map(repr, context.outgoing.expected))}"
        return _hollow(context, response, Fault.NOT_DUE, words, body=body)
    return _refused(context, response, body[:BODY_CAP])


def _names_no_error(body: bytes) -> bool:
    """Return True if a body is whole JSON that says nothing of an error."""
    envelope, data = parse_envelope(body[:PARSED_UP_TO]), parsed(body[:PARSED_UP_TO])
    if envelope.kind is not BodyKind.JSON or (isinstance(data, dict) and has_error(data)):
        return False
    has_words = body.removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"[", b'"')
    return not (envelope.is_error and has_words)


def _is_answer(context: RequestContext, response: Response, body: bytes) -> bool:
    """Return True if a whole body is the answer that was due; unknown routes allow nearly any."""
    if context.outgoing.expected:
        return is_answer(body, context.outgoing.expected)
    if context.outgoing.form is AnswerForm.TRANSCRIPT:
        is_json = _IS_JSON.search(response.headers.get("content-type", ""))
        return is_transcript(body) and bool(body.strip() or not is_json)
    if response.status_code in _WITHOUT_BODY:
        return True
    if not body.strip():
        return _may_be_empty(context, response)
    label = response.headers.get("content-type", "")
    begins_like_json = not label and body.lstrip()[:1] in (b"{", b"[", b'"')
    if not begins_like_json and not _IS_JSON.search(label):
        return _says_something(body)
    return is_answer(body, ())


def _may_be_empty(context: RequestContext, response: Response) -> bool:
    """Return True if an unknown route may answer without content: accepted, or done."""
    if response.status_code == _ACCEPTED:
        return True
    is_json = _IS_JSON.search(response.headers.get("content-type", ""))
    return context.info.operation in (Operation.OTHER, Operation.JOB) and not is_json


def _says_something(body: bytes) -> bool:
    """Return True if a body that does not call itself JSON is neither a web page nor an error."""
    envelope = parse_envelope(body[:PARSED_UP_TO])
    is_error = envelope.is_error and body.lstrip()[:1] == b"{"
    is_page = envelope.kind is BodyKind.HTML and body.lstrip()[:1] == b"<"
    return not (is_page or is_error)


class _Start:
    """The beginning of a stream, until one of its events decides what it is."""

    def __init__(self, context: RequestContext) -> None:
        self.opening = Opening(context.info.route)
        self.part = Part.OPENING
        self.reported: bytes | None = None
        self._is_held = context.config.opening == "hold"

    def __call__(self, event: Event) -> bool:
        """Return True if this event decides."""
        if event.is_done or event.is_error:
            return True
        self.part = self.opening.take(event.parsed)
        if self.part is Part.OPENING and self._is_held:
            suspect = suspect_fields(event.data.encode())
            self.reported = None if suspect is None else reported_failure(suspect)
            return self.reported is not None
        return True


async def _check_stream(context: RequestContext, response: Response) -> Answer | Failure:
    content_type = response.headers.get("content-type", "text/event-stream")
    is_text = content_type.startswith("text/") or _IS_JSON.search(content_type)
    # Where events are due, a label that says otherwise is wrong; elsewhere it may be sound, say.
    if not is_text and not context.outgoing.expected:
        return Answer()
    start = _Start(context)
    head = await look_ahead(response, context.config.stall_timeout, start)
    is_out_of_reach = head.unreadable or head.oversized
    failure = None if is_out_of_reach else _judge_head(context, response, head, start)
    if failure is None:
        # A bomb, most likely: looked into once, and not again as it passes.
        is_bomb = head.oversized and bool(response.headers.get("content-encoding"))
        return Answer(head=head, has_events=not head.unreadable and not is_bomb)
    if failure.fallback is None:
        await close(response)
    else:
        await replay(response, head)
    return failure


def _judge_head(
    context: RequestContext, response: Response, head: Head, start: _Start
) -> Failure | None:
    """Return why a stream's beginning is no answer, ``None`` if it is one."""
    operation, status = context.info.operation, response.status_code
    if head.error is not None and is_undecodable(head.error):
        return _undecodable(context, response)
    if head.error is not None:
        return faulted(context, head.error, status)
    if head.stalled:
        late = TimeoutError("no event came in time")
        return context.failed(observe_fault(Fault.STALLED, late, status, operation), error=late)
    if head.event is None or head.event.is_done:
        return _judge_end(context, response, head, start)
    if head.is_cut and not head.event.is_error:  # the SDK would not show it
        return _hollow(context, response, Fault.NO_OUTPUT, "the stream ended inside of an event")
    return _judge_event(context, response, head.event, start)


def _judge_event(
    context: RequestContext, response: Response, event: Event, start: _Start
) -> Failure | None:
    """Judge the event that decides."""
    data = start.reported or event.data.encode()
    is_no_chunk = context.info.route in OPENS and not isinstance(event.parsed, dict)
    if is_no_chunk and not event.is_error:  # the SDK can make nothing of it
        if _names_no_error(data):
            return _hollow(context, response, Fault.NOT_DUE, "an event holds no object", body=data)
        return _refused(context, response, data)
    is_named = not event.is_error and start.reported is None
    if is_named and start.part is not Part.FAILURE:
        return None
    error = error_of_choice(event.parsed)
    if is_named or (error is None and has_error_finish(event.parsed)):
        words = "its end says that it failed"
        return _hollow(context, response, Fault.NO_OUTPUT, words, body=data)
    data = error or data
    observation = observe_event(response, data, context.info.operation)
    return context.failed(observation, response=response, body=data)


def _judge_end(context: RequestContext, response: Response, head: Head, start: _Start) -> Failure:
    """Judge a stream that ended before any output."""
    if is_answer(head.stray, context.outgoing.expected) and context.outgoing.expected:
        return _hollow(context, response, Fault.NOT_STREAMED, "", body=head.stray)
    if head.opened == 0 or parse_envelope(head.stray).is_error:
        return _refused(context, response, head.stray)
    if start.opening.is_lone_stop:
        return _hollow(context, response, Fault.LONE_STOP, "", fallback=response)
    words = f"the stream ended before any output, after {head.opened} event" + "s" * (
        head.opened > 1
    )
    return _hollow(context, response, Fault.NO_OUTPUT, words)


def _refused(context: RequestContext, response: Response, body: bytes) -> Failure:
    observation = observe(response, body, context.info.operation)
    new_tasks = context.engine.new_tasks
    observation = replace(
        observation,
        has_id=context.info.has_id,
        new_task=bool(new_tasks.created)
        and new_tasks.is_new(context.request.url, context.loop.now()),
    )
    return context.failed(observation, response=response, body=body)


def _hollow(
    context: RequestContext,
    response: Response,
    fault: Fault,
    message: str,
    *,
    body: bytes = b"",
    fallback: Response | None = None,
) -> Failure:
    """Return the failure that a success without content is.

    ``fallback`` is what to hand over if nothing better comes.
    """
    head = observe(response, b"", context.info.operation)
    observation = replace(head, fault=fault, message=message, body=BodyKind.UNREAD)
    return context.failed(observation, response=response, body=body[:BODY_CAP], fallback=fallback)


def _undecodable(context: RequestContext, response: Response) -> Failure:
    """Judge a body that cannot be decoded by its status; a success without a body is no answer."""
    observation = observe(response, b"", context.info.operation)
    observation = replace(observation, body=BodyKind.BINARY, message=_UNDECODABLE)
    return context.failed(observation, response=response)
