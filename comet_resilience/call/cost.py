"""The cost of a request to a budget, estimated before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..limits.budget import Cost
from ..verdict.token_estimate import estimate_request
from ..verdict.vocabulary import Operation
from ..wire.body import loaded_body

if TYPE_CHECKING:
    from ..verdict.vocabulary import RequestInfo
    from ..wire.http import Request
    from .engine import Engine

#: What is asked for here is work, whatever model does it; the rest is asking about it.
_WORK: Final = (Operation.TEXT, Operation.MEDIA, Operation.TRANSCRIPT, Operation.JOB)
#: Routes whose answers are text that takes tokens.
_WRITES: Final = frozenset({"POST /chat/completions", "POST /completions", "POST /responses"})


def cost_of(engine: Engine, request: Request, info: RequestInfo) -> Cost | None:
    """Return what an attempt will cost the budgets, ``None`` if it costs none."""
    if not (info.model or info.operation in _WORK):
        return None
    if not engine.limiter.counts_tokens:
        return Cost(info.model)
    body = loaded_body(request) or b""
    if body[:64].lstrip()[:1] != b"{":
        return Cost(info.model)  # a form with a file: no text that anybody could count
    expected = engine.output_habit.expect(info.model)
    estimate = estimate_request(body, expected, has_output=info.route in _WRITES)
    return Cost(info.model, estimate.prompt, estimate.output, is_bound=estimate.is_bound)
