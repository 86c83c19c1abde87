"""The response or exception that the caller gets when the last attempt has failed.

Where the gateway answered, the caller gets the gateway's own response, and the SDK makes its own
exception of it. An exception is raised only where no response says it: after a fault, for a
redirect or a web page, and for an error under a success status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai

from ..errors import InvalidAnswerError, WrongEndpointError, WrongEndpointNotFoundError
from ..verdict.advice import CORRECT_BASE_URL
from ..verdict.vocabulary import BodyKind, FailureKind
from ..wire.http import native
from ..wire.request import EXTENSION, base_url_of
from ..wire.response import error_body, rebuild, with_request
from .diagnosing import foreign_base_url
from .portable import explain

if TYPE_CHECKING:
    from ..diagnosis.diagnosis import Diagnosis
    from ..diagnosis.redaction import Redactor
    from ..wire.http import Request, Response
    from .failure import Failure


def handed_on(
    failure: Failure, diagnosis: Diagnosis, request: Request, redactor: Redactor
) -> Response | openai.OpenAIError:
    """Return the response for the SDK to make an exception of, or the exception to raise.

    That is ``APITimeoutError`` or ``APIConnectionError`` after a fault, ``WrongEndpointError``
    where a redirect or a web page came back, and ``InvalidAnswerError`` where the status said
    success. Nothing is raised here: the frame would keep the request, and an error tracker would
    show its URL.
    """
    if failure.response is None:
        return _fault_error(failure, diagnosis, request)
    extension = (EXTENSION, diagnosis)
    ids = failure.observation.ids
    response: Response = rebuild(failure.response, failure.body, ids, extension)
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


def _wrong_endpoint_message(failure: Failure, request: Request, redactor: Redactor) -> str:
    observation = failure.observation
    message = redactor.line(observation.message)
    if observation.location:
        what = f"with a redirect to {redactor.line(observation.location)}, which was not followed"
    elif observation.body is BodyKind.HTML:
        what = "with a web page" + (f" ({message!r})" if message else "")
    else:
        what = f"with {message!r}" if message else "with nothing"
    at_home = foreign_base_url(failure, request, redactor) is None
    exactly = f"; for CometAPI it is exactly {CORRECT_BASE_URL}" if at_home else ""
    return redactor.scrub(
        f"Wrong base URL or path: {request.method} {request.url.path} was answered"
        f" {observation.status} {what}. The base URL in use is {base_url_of(request)}{exactly}."
    )


def _fault_error(
    failure: Failure, diagnosis: Diagnosis, request: Request
) -> openai.APIConnectionError:
    error: openai.APIConnectionError
    if failure.observation.fault is not None and failure.observation.fault.is_timeout:
        error = openai.APITimeoutError(request=native(request))
    else:
        error = openai.APIConnectionError(
            message=f"Connection error: {diagnosis.meaning}.", request=native(request)
        )
    explain(error, diagnosis)
    return error


def _status_error(
    cls: type[openai.APIStatusError],
    message: str,
    response: Response,
    request: Request,
    diagnosis: Diagnosis,
) -> openai.APIStatusError:
    error = cls(message, response=with_request(response, request), body=error_body(response))
    explain(error, diagnosis)
    return error
