"""``diagnose``: what went wrong, asked of whatever exception somebody has in hand."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from comet_resilience import diagnose

from .conftest import (
    BASE_URL,
    Scripted,
    ask,
    bare_client,
    envelope,
    httpx,
    scripted,
)

pytestmark = pytest.mark.anyio


async def test_advice_looks_at_the_request() -> None:
    """The first step names what is wrong with this very request."""
    client, _ = scripted((401, envelope("", "invalid token"), {}))
    with pytest.raises(openai.AuthenticationError) as caught:
        await ask(client.with_options(api_key="'quoted'"))
    assert "quotes inside the key" in diagnose(caught.value).advice[0]
    client, _ = scripted((500, envelope("invalid_request", "field messages is required"), {}))
    with pytest.raises(openai.InternalServerError) as broken:
        await client.post("/chat/completions", body={"model": "m"}, cast_to=object)
    assert "'messages', which the request lacks" in diagnose(broken.value).advice[0]


async def test_diagnose_finds_what_others_wrapped() -> None:
    """A diagnosis is found through causes, contexts and groups, and on the response."""
    client, _ = scripted((400, envelope("", "bad"), {}))
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client)
    original = caught.value
    try:
        raise RuntimeError("a framework's own error") from original
    except RuntimeError as error:
        assert diagnose(error).rule == "status-400"
        assert diagnose(ExceptionGroup("several", [KeyError("x"), error])).rule == "status-400"
    assert diagnose(original.response).rule == "status-400"  # type: ignore[arg-type]


class ForeignError(Exception):
    """An exception of somebody else's, whose attributes mean something else."""

    exceptions = None
    extensions = None
    diagnosis = "flu"
    request = "a request for leave"


async def test_diagnose_takes_nothing_for_what_it_only_looks_like() -> None:
    """Names that an exception shares with ours and with the HTTP libraries' are no trap."""
    found = diagnose(ForeignError("no"))
    assert found is not None
    assert "ForeignError" in str(found)


async def test_diagnose_without_us() -> None:
    """An error of a client that is not wrapped is diagnosed from what it carries itself."""
    client = bare_client(Scripted([(503, envelope("model_not_found", "no"), {})]), max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client)
    found = diagnose(caught.value)
    assert (found.rule, found.attempts) == ("model-not-found", ())
    assert "not wrapped" in found.reason
    try:
        raise RuntimeError("a framework's own error") from caught.value
    except RuntimeError as error:
        assert diagnose(error).rule == "model-not-found"


@pytest.mark.parametrize(
    ("error", "rule", "kind"),
    [
        (openai.APITimeoutError(httpx.Request("POST", BASE_URL)), "timeout-fault", "timeout"),
        (openai.APIConnectionError(request=httpx.Request("POST", BASE_URL)), None, "connection"),
        (httpx.ConnectError("no"), None, "connection"),
        (KeyError("choices"), "foreign-exception", "local"),
        (openai.OpenAIError("no key"), "foreign-exception", "local"),
    ],
    ids=repr,
)
async def test_diagnose_of_an_exception_alone(
    error: Exception, rule: str | None, kind: str
) -> None:
    """What is no failure of an exchange is not said to be an answer of the gateway's."""
    found = diagnose(error)
    assert found.kind == kind
    assert rule in (found.rule, None)


@pytest.mark.parametrize("given", [None, "429 Too Many Requests", 429])
def test_what_is_no_exception_is_refused(given: Any) -> None:
    """A text has a command of its own."""
    with pytest.raises(TypeError, match="expected an exception .*comet-resilience explain"):
        diagnose(given)
