"""The steps that cost nothing: the way to the gateway, and its list of models."""

from __future__ import annotations

import pytest

from comet_resilience.testing import Gateway, json_reply
from tests.cli.doctor.conftest import examined, step_of
from tests.conftest import COMPLETION


def test_a_model_that_is_not_listed_but_answers(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is only worth a warning; one that does not answer is a failure."""
    status, document = examined(capsys, "--run", "--model", "gpt-5-nan")
    assert (status, step_of(document, "model")["outcome"]) == (1, "fail")
    gateway.always(json_reply(200, COMPLETION), path="/chat/*")
    _, document = examined(capsys, "--run", "--model", "gpt-5-nan")
    found = step_of(document, "model")
    assert (found["outcome"], found["action"]) == ("warn", "Did you mean gpt-5-nano or gpt-5-mini?")


def test_a_server_without_tls(capsys: pytest.CaptureFixture[str], gateway: Gateway) -> None:
    """An https base URL on a server that speaks no TLS fails before any key is sent."""
    url = gateway.base_url.replace("http:", "https:")
    status, document = examined(capsys, "--base-url", url, "--timeout", "5")
    assert (status, step_of(document, "tls")["outcome"]) == (69, "fail")
    assert gateway.requests == []


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    ("proxy", "status", "reason"),
    [
        ("http://me:CANARY@127.0.0.1:9", 69, "the proxy 127.0.0.1, port 9: no connection"),
        ("http://me:CANARY/x@127.0.0.1:9", 64, "'Proxies' passes"),
    ],
)
def test_a_proxy_in_between(
    proxy: str,
    status: int,
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy is what must be reachable; one that is no URL is named by its variable."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    found, document = examined(capsys)
    assert found == status
    assert reason in step_of(document, "reach")["reason"]
