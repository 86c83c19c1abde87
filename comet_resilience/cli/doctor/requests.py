"""The steps that may cost money: what they need, would send, and find."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ...diagnosis.hints import removal_order
from ...escaping import printable
from ...inquiry import diagnose
from .plan import CHAT, Examination, Plan
from .settings import find_key
from .triage import (
    StepOutcome,
    StepResult,
    explained,
    failed,
    in_words,
    judge,
    judge_variation,
    may_be_the_fields,
    passed,
    skipped,
)


async def _try(
    examination: Examination, step: str, path: str, body: Mapping[str, object]
) -> StepResult:
    error = await examination.ask(path, body)
    if error is None:
        return passed(step, "works")
    before, examination.error = examination.error, error
    examination.broken = (path, body)
    if before is None:
        return judge(step, diagnose(error))
    return judge_variation(step, diagnose(error), diagnose(before))


async def send_minimal(examination: Examination) -> StepResult:
    """Send the guide's minimal request, which is known to be valid."""
    return await _try(examination, "minimal", CHAT, examination.plan.minimal)


async def send_stream(examination: Examination) -> StepResult:
    """Send the same as a stream."""
    body = {**examination.plan.minimal, "stream": True}
    return await _try(examination, "stream", CHAT, body)


async def send_request(examination: Examination) -> StepResult:
    """Send the user's own request, as it is."""
    plan = examination.plan
    return await _try(examination, "request", plan.path, plan.request or {})


async def remove_fields(examination: Examination) -> StepResult:
    """Remove the request's advanced fields one by one, until it works."""
    plan = examination.plan
    first = examination.results["request"]
    if first.outcome is not StepOutcome.FAIL or first.kind is None:
        return skipped("fields", "the request did not fail as it is")
    if examination.results["minimal"].kind is first.kind:
        return skipped("fields", "the minimal request, which has none, failed too")
    if not may_be_the_fields(first.kind):
        return skipped("fields", f"fields are not the cause of '{first.kind}'")
    left, removed = dict(plan.request or {}), list[str]()
    for name in removal_order(left):
        del left[name]
        removed.append(name)
        error = await examination.ask(plan.path, left)
        if error is None:
            return await _culprit(examination, removed)
        found = diagnose(error)
        if found.kind is not first.kind and not may_be_the_fields(found.kind):
            reason = f"stopped at a different failure: {in_words(found)}"
            return failed("fields", reason, "Wait a little and run this again.")
    if not removed:
        return skipped("fields", "the request has no advanced fields to remove")
    reason = f"it fails in the same way without {_named(removed)}"
    return failed("fields", reason, "Check model, messages and path: the rest is not the cause.")


async def _culprit(examination: Examination, removed: list[str]) -> StepResult:
    """Say whether the field removed last is the cause alone, or only together with others."""
    plan, last = examination.plan, removed[-1]
    action = f"Leave {_named([last])} out for this model, or correct its value."
    reason = f"it works without {_named([last])}"
    if len(removed) > 1:
        others = {name: value for name, value in (plan.request or {}).items() if name != last}
        if await examination.ask(plan.path, others) is not None:
            action = "Leave these fields out, then add them back one by one."
            return explained("fields", f"it works without all of {_named(removed)}", action)
        reason += "; all other fields may stay"
    return explained("fields", reason, action)


async def change_model(examination: Examination) -> StepResult:
    """Send what failed to another model."""
    if examination.broken is None:
        return skipped("other_model", "no request failed")
    path, body = examination.broken
    model = examination.plan.alternate_model
    error = await examination.ask(path, {**body, "model": model})
    if error is None:
        reason = f"the same request works with {printable(model)}"
        return explained(
            "other_model", reason, "The first model, or your access to it, is at fault."
        )
    return _as_before("other_model", error, examination)


async def change_key(examination: Examination) -> StepResult:
    """Send what failed with another key; the models list if nothing else was sent."""
    plan, variable = examination.plan, examination.plan.alternate_key_env
    if examination.broken is not None:
        path, body = examination.broken
        error = await examination.ask(path, body, variable)
    elif (
        examination.results["key"].bars or examination.results["models"].outcome is StepOutcome.FAIL
    ):
        error = await examination.list_models(variable)
    else:
        return skipped("other_key", "no request failed")
    if error is None:
        source = find_key(plan.environment)[0]
        blame = f"The key in {source} is at fault, not the endpoint: replace it."
        blame = blame if source else "Put that key into COMETAPI_KEY."
        return explained("other_key", f"the same request works with the key in {variable}", blame)
    return _as_before("other_key", error, examination)


def _as_before(step: str, error: Exception, examination: Examination) -> StepResult:
    """Return the result of a variation that failed, compared with the original failure."""
    if examination.error is None:
        return judge(step, diagnose(error))
    return judge_variation(step, diagnose(error), diagnose(examination.error))


# -- previews -------------------------------------------------------------------------------------


def _named(names: list[str]) -> str:
    return ", ".join(printable(name) for name in names)


def preview_minimal(plan: Plan) -> str:
    """Say what the minimal request would send."""
    return f"POST {CHAT} {printable(json.dumps(plan.minimal))}"


def preview_request(plan: Plan) -> str:
    """Say what the request would send: its path and the names of its fields."""
    return f"POST {printable(plan.path)} with the fields {_named(list(plan.request or {}))}"


def preview_fields(plan: Plan) -> str:
    """Say how often the request would be sent again, and without which fields."""
    order = removal_order(plan.request or {})
    if not order:
        return "nothing: the request has no advanced fields"
    return f"your request up to {len(order) + 1} times, without {_named(list(order))} in turn"
