"""A failed attempt, and what the caller gets when it was the last one.

Where the gateway answered, the caller gets the gateway's own response, and the SDK makes its own
exception of it. An exception is raised only where no response says it: after a fault, for a
redirect or a web page, and for an error under a success status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import openai

from .errors import InvalidAnswerError, WrongEndpointError, WrongEndpointNotFoundError
from .support.diagnosis import Attempt, Diagnosis
from .support.hints import SentRequest, hints
from .support.redaction import printable
from .verdict.advice import CORRECT_BASE_URL
from .verdict.retry import may_be_billed
from .verdict.vocabulary import BodyKind, FailureKind, Observation, RequestInfo, Verdict
from .wire.body import loaded_body, part_sizes
from .wire.request import EXTENSION, authorization_of, base_url_of
from .wire.response import rebuild


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One attempt that brought no answer: the facts, the verdict, and what came of it."""

    seen: Observation
    verdict: Verdict
    response: Any = None
    body: bytes = b""
    error: Exception | None = None


def diagnose_failure(
    failure: Failure,
    info: RequestInfo,
    request: Any,
    reason: str,
    attempts: tuple[Attempt, ...],
    elapsed: float,
) -> Diagnosis:
    """What is to be said of a request whose last attempt was this failure.

    ``request`` is looked at for specific advice; ``None`` where nothing is known of it.
    """
    seen, verdict = failure.seen, failure.verdict
    return Diagnosis(
        kind=verdict.kind,
        meaning=verdict.reason,
        reason=reason,
        retryable=verdict.retryable,
        advice=(*_specific_advice(failure, request), *verdict.advice),
        section=verdict.section,
        rule=verdict.rule,
        source=verdict.source,
        route=info.route,
        model=printable(info.model),
        status=seen.status,
        code=seen.code,
        message=printable(seen.message),
        ids=seen.ids,
        attempts=attempts,
        elapsed=elapsed,
        may_be_billed=may_be_billed(seen, verdict),
    )


def hand_on(failure: Failure, diagnosis: Diagnosis, request: Any) -> Any:
    """The response for the SDK to make an exception of.

    Raises:
        openai.APITimeoutError: After a timeout.
        openai.APIConnectionError: After another fault.
        WrongEndpointError: If a redirect or a web page came back.
        InvalidAnswerError: If the status said success.

    """
    if failure.error is not None:
        _raise_fault(failure, failure.error, diagnosis, request)
    extension = (EXTENSION, diagnosis)
    response = rebuild(failure.response, failure.body, failure.seen.ids, extension)
    if failure.verdict.kind is FailureKind.WRONG_PATH:
        not_found = response.status_code == 404
        cls = WrongEndpointNotFoundError if not_found else WrongEndpointError
        _raise_status(cls, _wrong_endpoint_message(failure, request), response, request, diagnosis)
    if response.status_code < 400:
        message = f"{diagnosis.meaning}: {diagnosis.message or 'the body is empty'}"
        _raise_status(InvalidAnswerError, message, response, request, diagnosis)
    return response


def explain(error: BaseException, diagnosis: Diagnosis) -> None:
    """Put a diagnosis on an exception, and its summary under its traceback."""
    error.diagnosis = diagnosis  # type: ignore[attr-defined]
    error.add_note(diagnosis.summary)


def _specific_advice(failure: Failure, request: Any) -> tuple[str, ...]:
    if request is None:
        return ()
    sent = SentRequest(
        authorization=authorization_of(request),
        body=loaded_body(request) or b"",
        parts=part_sizes(request),
    )
    return hints(failure.verdict.kind, failure.seen, sent)


def _wrong_endpoint_message(failure: Failure, request: Any) -> str:
    seen = failure.seen
    if seen.location:
        what = f"with a redirect to {printable(seen.location)}, which was not followed"
    elif seen.body is BodyKind.HTML:
        what = "with a web page" + (f" ({printable(seen.message)!r})" if seen.message else "")
    else:
        what = f"with {printable(seen.message)!r}" if seen.message else "with nothing"
    return (
        f"Wrong base URL or path: {request.method} {request.url.path} was answered {seen.status}"
        f" {what}. The base URL in use is {base_url_of(request)}; for CometAPI it is exactly"
        f" {CORRECT_BASE_URL}."
    )


def _raise_fault(
    failure: Failure, cause: Exception, diagnosis: Diagnosis, request: Any
) -> NoReturn:
    error: openai.APIConnectionError
    if failure.seen.fault is not None and failure.seen.fault.is_timeout:
        error = openai.APITimeoutError(request=request)
    else:
        error = openai.APIConnectionError(
            message=f"Connection error: {diagnosis.meaning}.", request=request
        )
    explain(error, diagnosis)
    raise error from cause


def _raise_status(
    cls: type[openai.APIStatusError],
    message: str,
    response: Any,
    request: Any,
    diagnosis: Diagnosis,
) -> NoReturn:
    response.request = request
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = response.text or None
    if isinstance(body, dict):
        body = body.get("error") or body  # as the SDK does
    error = cls(message, response=response, body=body)
    explain(error, diagnosis)
    raise error
