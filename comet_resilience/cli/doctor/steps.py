"""The steps in their order, what each one needs, and those that cost nothing.

A step is a row of ``STEPS``. Those that may cost money are taken only if the plan says so;
otherwise they say what they would send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import anyio

from ...escaping import printable
from ...inquiry import diagnose
from . import requests
from .plan import Examination, Plan
from .settings import check_base_url, check_key, check_proxies, find_base_url, proxy_for
from .triage import (
    TITLES,
    StepOutcome,
    StepResult,
    failed,
    judge_model,
    judge_models,
    judge_redirects,
    passed,
    skipped,
)

#: What to say where a member of the plan is missing that a step asks for.
_ASKED: Final = {
    "model": "no model was named: add --model ID",
    "request": "no request was given: add --request FILE",
    "alternate_model": "no other model was named: add --alternate-model ID",
    "alternate_key_env": "no other key was named: add --alternate-key-env NAME",
}
_RUN: Final = "To take this step, add --run (it may cost money)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row: ``needs`` are the steps without which this one can find nothing out.

    ``asks`` names what the plan has to hold, ``preview`` says what would be sent.
    """

    name: str
    take: Callable[[Examination], Awaitable[StepResult]]
    needs: tuple[str, ...] = ()
    paid: bool = False
    asks: str = ""
    preview: Callable[[Plan], str] = lambda _plan: ""


async def examine(
    plan: Plan, begin: Callable[[str], None], tell: Callable[[StepResult], None]
) -> Examination:
    """Take all steps in order; ``begin`` is told of each one before, ``tell`` what it found."""
    examination = Examination(plan)
    try:
        for step in STEPS:
            begin(step.name)
            result = await _result_of(step, examination)
            examination.results[step.name] = result
            tell(result)
    finally:
        await examination.close()
    return examination


async def _result_of(step: Step, examination: Examination) -> StepResult:
    barred = [name for name in step.needs if examination.results[name].bars]
    is_lacking = step.asks and getattr(examination.plan, step.asks) in ("", None)
    if barred:
        return skipped(step.name, f"waits until '{TITLES[barred[0]]}' passes")
    if is_lacking:
        return skipped(step.name, _ASKED[step.asks])
    if step.paid and not examination.plan.run:
        return skipped(step.name, f"would send {step.preview(examination.plan)}", _RUN)
    return await step.take(examination)


# -- configuration and connection -----------------------------------------------------------------


async def _key(examination: Examination) -> StepResult:
    return check_key(examination.plan.environment, examination.plan.dotenv)


async def _base_url(examination: Examination) -> StepResult:
    plan = examination.plan
    source, url = find_base_url(plan.base_url, plan.environment)
    return check_base_url(source, url, plan.environment)


async def _proxies(examination: Examination) -> StepResult:
    plan = examination.plan
    return check_proxies(plan.environment if plan.trust_env else {}, plan.address)


async def _reach(examination: Examination) -> StepResult:
    plan, address = examination.plan, examination.plan.address
    if address is None:
        return skipped("reach", "no usable base URL")
    proxy = proxy_for(plan.environment, address) if plan.trust_env else None
    target = (proxy[1] if proxy else None) or address
    host, port = target.hostname or "", target.port or _port(target.scheme)
    shown = f"{'the proxy ' if proxy else ''}{printable(host)}, port {port}"
    try:
        with anyio.fail_after(plan.timeout):
            await (await anyio.connect_tcp(host, port)).aclose()
    except OSError as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else "no connection"
        action = "Check the host name, DNS, and any proxy or firewall in between."
        return failed("reach", f"{shown}: {why}", action)
    return passed("reach", f"{shown} accepts connections")


async def _tls(examination: Examination) -> StepResult:
    plan, address = examination.plan, examination.plan.address
    if address is None or address.scheme != "https":
        return skipped("tls", "the base URL is not https")
    if plan.trust_env and proxy_for(plan.environment, address):
        return skipped("tls", "a proxy is in between; the models list will tell")
    host, port = address.hostname or "", address.port or _port("https")
    try:
        with anyio.fail_after(plan.timeout):
            stream = await anyio.connect_tcp(host, port, tls=True, tls_standard_compatible=False)
            await stream.aclose()
    except OSError as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else printable(str(error))
        action = "Check this machine's clock, its certificates, and whether a proxy intercepts TLS"
        return failed("tls", f"no trusted connection: {why}", f"{action}.")
    return passed("tls", "the certificate is trusted")


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


# -- requests that cost nothing -------------------------------------------------------------------


async def _redirects(examination: Examination) -> StepResult:
    error = examination.list_error = await examination.list_models()
    examination.error = error
    result = judge_redirects(diagnose(error) if error else None)
    doubted = examination.results["base_url"]
    if result.outcome is StepOutcome.FAIL and doubted.action:
        return replace(result, action=doubted.action)
    return result


async def _models(examination: Examination) -> StepResult:
    error = examination.list_error
    result = judge_models(diagnose(error) if error else None, examination.listed)
    if result.outcome is not StepOutcome.FAIL:
        examination.error = None
    return result


async def _model(examination: Examination) -> StepResult:
    return judge_model(examination.plan.model, examination.listed)


_CONNECTED: Final = ("key", "base_url", "proxies", "reach", "tls")
_SERVED: Final = (*_CONNECTED, "redirects", "models")

STEPS: Final = (
    Step(name="key", take=_key),
    Step(name="base_url", take=_base_url),
    Step(name="proxies", take=_proxies),
    Step(name="reach", take=_reach, needs=("base_url", "proxies")),
    Step(name="tls", take=_tls, needs=("base_url", "proxies", "reach")),
    Step(name="redirects", take=_redirects, needs=_CONNECTED),
    Step(name="models", take=_models, needs=(*_CONNECTED, "redirects")),
    Step(name="model", take=_model, needs=_SERVED),
    Step(
        name="minimal", take=requests.send_minimal, needs=_SERVED, paid=True,
        asks="model", preview=requests.preview_minimal,
    ),
    Step(
        name="stream", take=requests.send_stream, needs=_SERVED, paid=True,
        asks="model", preview=lambda _: "the same with stream=true",
    ),
    Step(
        name="request", take=requests.send_request, needs=_SERVED, paid=True,
        asks="request", preview=requests.preview_request,
    ),
    Step(
        name="fields", take=requests.remove_fields, needs=_SERVED, paid=True,
        asks="request", preview=requests.preview_fields,
    ),
    Step(
        name="other_model", take=requests.change_model, needs=_SERVED, paid=True,
        asks="alternate_model",
        preview=lambda plan: f"what failed, with the model {printable(plan.alternate_model)}",
    ),
    # Free by itself: it costs money only where a paid request was sent, and failed, before.
    Step(
        name="other_key", take=requests.change_key,
        needs=("base_url", "proxies", "reach", "tls", "redirects"), asks="alternate_key_env",
    ),
)  # fmt: skip
