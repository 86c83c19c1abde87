"""Questions about an exception: the diagnosis, and the report for support."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import openai

from .call.diagnosing import diagnose_failure
from .call.failure import judged
from .diagnosis.diagnosis import Diagnosis, find_diagnosis, related
from .diagnosis.interruption import find_interruption
from .diagnosis.report import SupportReport, report_of
from .verdict.rule import Rule
from .verdict.vocabulary import Action, FailureKind, Fault, Observation, RequestInfo
from .wire.family import family_of, fault_of
from .wire.request import EXTENSION, STREAM_EXTENSION, call_of, read_request
from .wire.response import body_so_far, observe

_NO_DIAGNOSIS: Final = "the exception carries no diagnosis: its client is not wrapped"
#: For exceptions of another origin than a request: the program's own, a framework's.
_FOREIGN: Final = Rule(
    name="foreign-exception", kind=FailureKind.LOCAL, action=Action.FAIL, source="inferred",
    reason="not a failure of the gateway or of the way to it: this program or the SDK raised it",
    advice=("Read the exception itself: nothing more is known about a request.",),
)  # fmt: skip


def diagnose(error: BaseException) -> Diagnosis:
    """Return what went wrong, why it was given up, and what to do about it.

    ``error`` is any exception out of a wrapped client, also one that another was raised from or
    that stands in an exception group. For one that carries no diagnosis (from a client that is
    not wrapped, say) the diagnosis rests on the exception alone and has no attempts. For a
    cancellation, and for the ``TimeoutError`` that a timeout of the caller's own makes of it, it
    says where the request was: in the queue, in an attempt, or between two.

    Nothing in the diagnosis holds a key or a word of content. The exception's own text, ``body``,
    ``request`` and ``response`` are the SDK's and the provider's, and stay as they are.

    Raises:
        TypeError: If ``error`` is no exception.

    """
    found = find_diagnosis(error, (EXTENSION, STREAM_EXTENSION))
    if found is None and (interruption := find_interruption(error)) is not None:
        found = interruption.diagnosis()
    if found is None and not isinstance(error, BaseException):
        raise TypeError(
            f"error={error!r}: expected an exception (for text: comet-resilience explain)"
        )
    return found or _diagnose_bare(error)


def support_report(
    error: BaseException,
    *,
    include_content: bool = False,
    other_model: str | bool | None = None,
    other_key: str | bool | None = None,
) -> SupportReport:
    """Return the guide's list "Before you contact support", filled in for an exception.

    All of it was captured at the failure, so client and response need not live any more. Secrets
    are never in it. Texts of prompts and messages stand as their lengths, unless
    ``include_content`` says otherwise; an exception that was pickled has lost them.
    ``other_model`` and ``other_key`` say whether the same request works with another model or
    key: ``True``, ``False`` or words. Where ``other_model`` is not given, the report names the
    model that last worked with the same key in this process, if there is one.
    """
    return report_of(
        diagnose(error),
        include_content=include_content,
        other_model=other_model,
        other_key=other_key,
    )


def _diagnose_bare(error: BaseException) -> Diagnosis:
    found = next((each for each in related(error) if _tells_of_an_exchange(each)), error)
    info, request = RequestInfo(route=""), _request_of(found)
    response: Any = None
    body = b""
    if request is not None:
        info = read_request(request, call_of(request)).info
    if isinstance(found, openai.APIStatusError):
        response, body = found.response, body_so_far(found.response)
        observation = replace(observe(response, body, info.operation), has_id=info.has_id)
    else:
        words = f"{type(found).__name__}: {found}"
        observation = Observation(message=words, operation=info.operation, fault=_fault_in(found))
    rules = () if _tells_of_an_exchange(found) else (_FOREIGN,)
    failure = judged(observation, rules, response=response, body=body)
    return diagnose_failure(failure, info, request, _NO_DIAGNOSIS)


def _tells_of_an_exchange(error: object) -> bool:
    """Return True if an exception is the SDK's or an HTTP library's about a request."""
    about_one = openai.APIStatusError | openai.APIConnectionError
    return isinstance(error, about_one) or (
        isinstance(error, Exception) and fault_of(error) is not None
    )


def _fault_in(error: object) -> Fault | None:
    """Return what broke, as far as the SDK's exception or the one beneath it tells."""
    if isinstance(error, openai.APITimeoutError):
        return Fault.READ_TIMEOUT
    beneath = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    fault = fault_of(beneath) if isinstance(beneath, Exception) else None
    return Fault.READ if fault is None and isinstance(error, openai.APIConnectionError) else fault


def _request_of(error: object) -> Any:
    """Return the request of an SDK's exception; ``None`` if it has none, or a foreign one."""
    try:
        request = getattr(error, "request", None)
        family_of(request)
    except Exception:  # noqa: BLE001 - none was set, or whatever an exception of the user's does
        return None
    return request
