"""A failed attempt, and what the caller gets when it was the last one.

Where the gateway answered, the caller gets the gateway's own response, and the SDK makes its own
exception of it. An exception is raised only where no response says it: after a fault, for a
redirect or a web page, and for an error under a success status.
"""

from __future__ import annotations

import copyreg
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import openai

from ..diagnosis.capture import capture, redactor_of
from ..diagnosis.content import as_json
from ..diagnosis.diagnosis import Attempt, Diagnosis, LimiterState, find_diagnosis
from ..diagnosis.hints import SentRequest, hints
from ..diagnosis.redaction import Redactor
from ..errors import (
    InvalidAnswerError,
    ResilienceError,
    WrongEndpointError,
    WrongEndpointNotFoundError,
)
from ..verdict.advice import CORRECT_BASE_URL, elsewhere, is_home, without_claims
from ..verdict.evidence import Evidence
from ..verdict.retry import may_be_billed
from ..verdict.vocabulary import (
    BodyKind,
    FailureKind,
    Fault,
    Observation,
    RequestIds,
    RequestInfo,
    Verdict,
)
from ..wire.body import loaded_body, part_sizes
from ..wire.request import EXTENSION, STREAM_EXTENSION, authorization_of, base_url_of
from ..wire.response import rebuild

#: What CometAPI's own answers have: an error type, and a header with the request's id.
_OWN_TYPE: Final = "comet_api_error"
_OWN_ID: Final = "x-cometapi-request-id"
#: Packages whose exceptions are made fit for travel, and what they take along.
_PORTABLE: Final = ("openai", "comet_resilience")
_TRAVELS: Final = ("message", "status_code", "code", "param", "type", "request_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One attempt that brought no answer: the facts, the verdict, and what came of it."""

    observation: Observation = field(repr=False)  # an error tracker would keep the server's echo
    verdict: Verdict
    response: Any = None
    body: bytes = field(default=b"", repr=False)
    error: Exception | None = field(default=None, repr=False)
    #: A response to hand over if nothing better comes: it may be meant, but is of no use.
    answer: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the journey knows besides: time in the queue, the limiter, the secrets, the past."""

    queued: float
    limiter: LimiterState | None
    redactor: Redactor
    evidence: Evidence | None = None


def diagnose_failure(
    failure: Failure,
    info: RequestInfo,
    request: Any,
    reason: str,
    attempts: tuple[Attempt, ...],
    elapsed: float,
    circumstances: Circumstances | None = None,
) -> Diagnosis:
    """What is to be said of a request whose last attempt was this failure.

    ``request`` is looked at for specific advice and for the report; ``None`` where nothing is
    known of it.
    """
    observation, verdict = failure.observation, failure.verdict
    body = None if request is None else loaded_body(request)
    around = circumstances or Circumstances(
        queued=sum(attempt.queued for attempt in attempts),
        limiter=None,
        redactor=redactor_of(request, body),
    )
    redactor = around.redactor
    base_url = _elsewhere(failure, request, redactor)
    return Diagnosis(
        kind=verdict.kind,
        meaning=verdict.reason if base_url is None else elsewhere(verdict.reason, base_url) or "",
        reason=reason,
        retryable=verdict.retryable,
        advice=(
            *_about_the_wait(failure, reason),
            *_specific_advice(failure, request, redactor),
            *_general_advice(verdict, base_url, retried=len(attempts) > 1),
        ),
        section=verdict.section if base_url is None else "",
        rule=verdict.rule,
        source=verdict.source,
        route=redactor.line(info.route),
        model=redactor.line(info.model),
        status=observation.status,
        code=redactor.line(observation.code),
        message=redactor.line(observation.message),
        ids=shown_ids(observation.ids, redactor),
        attempts=attempts,
        elapsed=elapsed,
        may_be_billed=_may_be_billed(failure, attempts),
        queued=around.queued,
        limiter=around.limiter,
        evidence=_shown_evidence(around.evidence, redactor),
        at=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        facts=capture(request, body, redactor, failure.response, failure.body, observation.message),
    )


def _elsewhere(failure: Failure, request: Any, redactor: Redactor) -> str | None:
    """Return the base URL of a host that neither is CometAPI's nor speaks as it does, or ``None``.

    Nothing known of the request means the gateway that this library is for.
    """
    if request is None:
        return None
    headers = getattr(failure.response, "headers", {})
    speaks = failure.observation.type == _OWN_TYPE or _OWN_ID in headers
    base_url = base_url_of(request)
    return None if is_home(base_url, speaks=speaks) else redactor.scrub(base_url)


def _general_advice(verdict: Verdict, base_url: str | None, *, retried: bool) -> tuple[str, ...]:
    """The table's advice in words that are true here."""
    said = [step if base_url is None else elsewhere(step, base_url) for step in verdict.advice]
    return tuple(step if retried else without_claims(step) for step in said if step)


def _about_the_wait(failure: Failure, reason: str) -> tuple[str, ...]:
    """What to do where only the named time stood against a retry."""
    hint = failure.observation.retry_after
    if hint is None or "more than max_retry_after" not in reason:
        return ()
    return (f"Come back in {hint:g} s, or raise max_retry_after: the server named this time.",)


def _may_be_billed(failure: Failure, attempts: tuple[Attempt, ...]) -> bool:
    """Whether any attempt may be; a deadline may also pass where none was under way."""
    last = failure.observation.fault is not Fault.DEADLINE and may_be_billed(
        failure.observation, failure.verdict
    )
    return last or any(attempt.may_be_billed for attempt in attempts)


def _shown_evidence(evidence: Evidence | None, redactor: Redactor) -> Evidence | None:
    return evidence and replace(evidence, other_model=redactor.line(evidence.other_model))


def shown_ids(ids: RequestIds, redactor: Redactor) -> RequestIds:
    """Ids as they may be shown: a server writes what it likes into its headers."""
    return RequestIds(
        gateway=redactor.line(ids.gateway),
        provider=redactor.line(ids.provider),
        edge=redactor.line(ids.edge),
    )


def handed_on(failure: Failure, diagnosis: Diagnosis, request: Any, redactor: Redactor) -> Any:
    """Return the response for the SDK to make an exception of, or the exception to raise.

    That is ``APITimeoutError`` or ``APIConnectionError`` after a fault, ``WrongEndpointError``
    where a redirect or a web page came back, and ``InvalidAnswerError`` where the status said
    success. Nothing is raised here: the frame would keep the request, and an error tracker would
    show its URL.
    """
    if failure.error is not None:
        return _fault_error(failure, diagnosis, request)
    extension = (EXTENSION, diagnosis)
    response = rebuild(failure.response, failure.body, failure.observation.ids, extension)
    if failure.verdict.kind is FailureKind.WRONG_PATH:
        not_found = response.status_code == 404
        cls = WrongEndpointNotFoundError if not_found else WrongEndpointError
        message = _wrong_endpoint_message(failure, request, redactor)
        return _status_error(cls, message, response, request, diagnosis)
    if response.status_code < 400:
        nothing = "the body is not what was asked for" if failure.body else "the body is empty"
        message = f"{diagnosis.meaning}: {diagnosis.message or nothing}"
        return _status_error(InvalidAnswerError, message, response, request, diagnosis)
    return response


def explain(error: BaseException, diagnosis: Diagnosis) -> None:
    """Put a diagnosis on an exception, and its summary under its traceback."""
    make_portable(type(error))
    error.diagnosis = diagnosis  # type: ignore[attr-defined]
    error.add_note(diagnosis.summary)


def make_portable(cls: type[BaseException]) -> None:
    """Let exceptions of the SDK's classes and of ours be pickled and copied.

    By themselves they are not: their constructors want keywords. What travels is the text, the
    status, the codes and the diagnosis; request and response stay behind, with the key in them.
    """
    if issubclass(cls, openai.OpenAIError) and cls.__module__.partition(".")[0] in _PORTABLE:
        copyreg.dispatch_table.setdefault(cls, _reduced)


def _reduced(error: Any) -> tuple[Any, ...]:
    request = getattr(error, "request", None)
    redactor = redactor_of(request, None if request is None else loaded_body(request))

    def clean(value: object) -> object:
        if isinstance(value, str):
            return redactor.without_content(value)
        return value if isinstance(value, (int, float)) else None

    own = vars(error)
    state: dict[str, object] = {name: clean(own[name]) for name in _TRAVELS if name in own}
    state |= {name: None for name in ("request", "response", "body") if name in own}
    if isinstance(own.get("body"), (dict, list)):
        state["body"] = json.loads(as_json(own["body"], redactor, content=False, answer=True))
    if "__notes__" in own:
        state["__notes__"] = [clean(note) for note in own["__notes__"]]
    diagnosis = find_diagnosis(error, (EXTENSION, STREAM_EXTENSION))
    if diagnosis is not None:
        state["diagnosis"] = diagnosis
    args = tuple(clean(arg) for arg in error.args if isinstance(arg, (str, int, float)))
    if isinstance(error, openai.APIStatusError) and not isinstance(error, ResilienceError):
        # The SDK's words are the whole body as Python or JSON shows it; ours say the same.
        told = diagnosis.message if diagnosis else ""
        state["message"] = f"Error code: {error.status_code}{told and f' - {told}'}"
        args = (state["message"],)
    return _revived, (type(error), args, state)


def _revived(
    cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


def _specific_advice(failure: Failure, request: Any, redactor: Redactor) -> tuple[str, ...]:
    if request is None:
        return ()
    sent = SentRequest(
        authorization=authorization_of(request),
        body=loaded_body(request) or b"",
        parts=part_sizes(request),
    )
    found = hints(failure.verdict.kind, failure.observation, sent)
    return tuple(redactor.without_content(hint) for hint in found)


def _wrong_endpoint_message(failure: Failure, request: Any, redactor: Redactor) -> str:
    observation = failure.observation
    message = redactor.line(observation.message)
    if observation.location:
        what = f"with a redirect to {redactor.line(observation.location)}, which was not followed"
    elif observation.body is BodyKind.HTML:
        what = "with a web page" + (f" ({message!r})" if message else "")
    else:
        what = f"with {message!r}" if message else "with nothing"
    at_home = _elsewhere(failure, request, redactor) is None
    exactly = f"; for CometAPI it is exactly {CORRECT_BASE_URL}" if at_home else ""
    return redactor.scrub(
        f"Wrong base URL or path: {request.method} {request.url.path} was answered"
        f" {observation.status} {what}. The base URL in use is {base_url_of(request)}{exactly}."
    )


def _fault_error(failure: Failure, diagnosis: Diagnosis, request: Any) -> openai.APIConnectionError:
    error: openai.APIConnectionError
    if failure.observation.fault is not None and failure.observation.fault.is_timeout:
        error = openai.APITimeoutError(request=request)
    else:
        error = openai.APIConnectionError(
            message=f"Connection error: {diagnosis.meaning}.", request=request
        )
    explain(error, diagnosis)
    return error


def _status_error(
    cls: type[openai.APIStatusError],
    message: str,
    response: Any,
    request: Any,
    diagnosis: Diagnosis,
) -> openai.APIStatusError:
    response.request = request
    error = cls(message, response=response, body=_error_body(response))
    explain(error, diagnosis)
    return error


def _error_body(response: Any) -> object:
    """What the SDK would give as ``error.body``."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return response.text or None
    return body.get("error") or body if isinstance(body, dict) else body
