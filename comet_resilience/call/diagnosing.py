"""The diagnosis of a failed attempt: what it means, why it was given up, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ..diagnosis.capture import capture, redactor_of
from ..diagnosis.diagnosis import Attempt, Diagnosis, LimiterState
from ..diagnosis.hints import SentRequest, hints
from ..verdict.advice import elsewhere, is_home, without_claims
from ..verdict.retry import may_be_billed
from ..verdict.vocabulary import Fault, RequestIds
from ..wire.body import loaded_body, part_sizes
from ..wire.request import authorization_of, base_url_of

if TYPE_CHECKING:
    from ..diagnosis.redaction import Redactor
    from ..verdict.evidence import Evidence
    from ..verdict.vocabulary import Observation, RequestInfo, Verdict
    from ..wire.http import Request
    from .failure import Failure

#: What CometAPI's own answers have: an error type, and a header with the request's id.
_OWN_TYPE: Final = "comet_api_error"
_OWN_ID: Final = "x-cometapi-request-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The circumstances of a failed request.

    ``attempts`` are those that failed, and ``attempt`` is the one that failed so, if one was under
    way. ``elapsed`` and ``queued`` are in seconds, since the request began and of them in queues.
    """

    attempts: tuple[Attempt, ...] = ()
    attempt: Attempt | None = None
    elapsed: float = 0.0
    queued: float = 0.0
    limiter: LimiterState | None = None
    redactor: Redactor | None = None
    evidence: Evidence | None = None


_UNKNOWN: Final = Circumstances()


def diagnose_failure(
    failure: Failure,
    info: RequestInfo,
    request: Request | None,
    reason: str,
    circumstances: Circumstances = _UNKNOWN,
) -> Diagnosis:
    """Return the diagnosis of a request whose last attempt was this failure.

    ``request`` is looked at for specific advice and for the report; ``None`` where nothing is
    known of it.
    """
    observation, verdict, attempts = failure.observation, failure.verdict, circumstances.attempts
    body = None if request is None else loaded_body(request)
    redactor = circumstances.redactor or redactor_of(request, body)
    shown = circumstances.attempt or ShownTexts.of(observation, redactor)
    base_url = foreign_base_url(failure, request, redactor)
    came = failure.head if failure.response is None else failure.response
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
        code=shown.code,
        message=shown.message,
        ids=shown.ids,
        attempts=attempts,
        elapsed=circumstances.elapsed,
        may_be_billed=_may_be_billed(failure, attempts),
        queued=circumstances.queued,
        limiter=circumstances.limiter,
        evidence=_shown_evidence(circumstances.evidence, redactor),
        at=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        facts=capture(request, body, redactor, came, failure.body, observation.message),
    )


@dataclass(frozen=True, slots=True)
class ShownTexts:
    """The redacted texts of an observation: a server can write anything into them."""

    code: str
    message: str
    ids: RequestIds

    @classmethod
    def of(cls, observation: Observation, redactor: Redactor) -> ShownTexts:
        """Redact the texts of an observation."""
        ids = observation.ids
        return cls(
            code=redactor.line(observation.code),
            message=redactor.line(observation.message),
            ids=RequestIds(
                gateway=redactor.line(ids.gateway),
                provider=redactor.line(ids.provider),
                edge=redactor.line(ids.edge),
            ),
        )


def foreign_base_url(failure: Failure, request: Request | None, redactor: Redactor) -> str | None:
    """Return the base URL of a host that neither is CometAPI's nor speaks as it does, or ``None``.

    Nothing known of the request means the gateway that this library is for.
    """
    if request is None:
        return None
    came = failure.head if failure.response is None else failure.response
    has_own_id = came is not None and _OWN_ID in came.headers
    speaks = has_own_id or failure.observation.type == _OWN_TYPE
    base_url = base_url_of(request)
    return None if is_home(base_url, speaks=speaks) else redactor.scrub(base_url)


def _general_advice(verdict: Verdict, base_url: str | None, *, retried: bool) -> tuple[str, ...]:
    """Return the table's advice, in words that hold for this host."""
    said = [step if base_url is None else elsewhere(step, base_url) for step in verdict.advice]
    return tuple(step if retried else without_claims(step) for step in said if step)


def _about_the_wait(failure: Failure, reason: str) -> tuple[str, ...]:
    """Return the advice where only the length of the server's hint prevented a retry."""
    hint = failure.observation.retry_after
    if hint is None or "more than max_retry_after" not in reason:
        return ()
    return (f"Come back in {hint:g} s, or raise max_retry_after: the server named this time.",)


def _may_be_billed(failure: Failure, attempts: tuple[Attempt, ...]) -> bool:
    """Return True if any attempt may have been billed; there may have been none under way."""
    last = failure.observation.fault is not Fault.DEADLINE and may_be_billed(
        failure.observation, failure.verdict
    )
    return last or any(attempt.may_be_billed for attempt in attempts)


def _shown_evidence(evidence: Evidence | None, redactor: Redactor) -> Evidence | None:
    return evidence and replace(evidence, other_model=redactor.line(evidence.other_model))


def _specific_advice(
    failure: Failure, request: Request | None, redactor: Redactor
) -> tuple[str, ...]:
    if request is None:
        return ()
    sent = SentRequest(
        authorization=authorization_of(request),
        body=loaded_body(request) or b"",
        parts=part_sizes(request),
    )
    found = hints(failure.verdict.kind, failure.observation, sent)
    return tuple(redactor.without_content(hint) for hint in found)
