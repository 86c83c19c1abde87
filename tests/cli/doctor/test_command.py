"""``doctor``, as a person uses it, and against every failure of the guide over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from comet_resilience.cli import main
from comet_resilience.cli.doctor import demo as doctor_demo
from comet_resilience.testing import Gateway, error_reply, json_reply

KEY = "comet-CANARY-3f9a27c1d84e4b6fa0b5"
COMPLETION = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    ],
}  # fmt: skip
OTHER_KEY = "comet-CANARY-77aa00bb11cc22dd33ee"
MODELS = ("gpt-5-mini", "gpt-5-nano")
GOOD = ["pass"] * 3
UP = ["pass", "skipped", "pass", "pass", "pass"]
BARRED = ["skipped"] * 6


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway in a thread of its own, and an environment that points at it."""
    for name in ("OPENAI_API_KEY", "COMETAPI_API_KEY", "COMET_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("COMETAPI_DEFAULT_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    with start_blocking_portal() as portal:
        server = Gateway(keys=[KEY], models=MODELS)
        with portal.wrap_async_context_manager(server):
            monkeypatch.setenv("COMETAPI_KEY", KEY)
            monkeypatch.setenv("COMETAPI_BASE_URL", server.base_url)
            yield server


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run with ``--json``; the exit status and the document."""
    status = main(["doctor", "--json", *arguments])
    shown = capsys.readouterr().out
    assert "CANARY" not in shown
    document: dict[str, Any] = json.loads(shown)
    assert document["status"] == status
    return status, document


def outcomes(document: dict[str, Any]) -> list[str]:
    """How the steps ended, in order."""
    return [step["outcome"] for step in document["steps"]]


def step_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One step of a document."""
    found: dict[str, Any] = next(step for step in document["steps"] if step["step"] == name)
    return found


P, F, S, W = "pass", "fail", "skipped", "warn"
BROKEN = [*GOOD, *UP, F, F, F, S]


@pytest.mark.parametrize(
    ("scenario", "status", "expected"),
    [
        ("healthy", 0, [*GOOD, *UP, P, P, P, S, S, S]),
        ("no_key", 64, [F, P, P, P, S, S, S, S, *BARRED[:5], P]),
        ("malformed_key", 64, [F, P, P, P, S, S, S, S, *BARRED[:5], P]),
        ("bad_key", 77, [*GOOD, P, S, P, F, S, *BARRED[:5], P]),
        ("wrong_base_url", 1, [P, W, P, P, S, F, S, S, *BARRED]),
        ("web_page", 1, [*GOOD, P, S, F, S, S, *BARRED]),
        ("unreachable", 69, [*GOOD, F, S, S, S, S, *BARRED]),
        ("model_misspelt", 1, [*GOOD, *UP[:4], F, F, F, F, S, P, F]),
        ("missing_messages", 1, [*GOOD, *UP, P, P, F, S, F, F]),
        ("bad_request", 1, [*GOOD, *UP, P, P, F, P, F, F]),
        ("refused_field", 1, [*GOOD, *UP, P, P, F, P, F, F]),
        ("forbidden", 1, [*BROKEN, P, F]),
        ("balance_empty", 1, [*BROKEN, F, F]),
        ("blocked", 1, [*BROKEN, F, F]),
        ("too_large", 1, [*GOOD, *UP, P, P, F, P, F, F]),
        ("rate_limited", 1, [*BROKEN, F, F]),
        ("server_error", 1, [*BROKEN, F, F]),
        ("unavailable", 1, [*BROKEN, F, F]),
        ("gateway_timeout", 1, [*BROKEN, F, F]),
        ("edge_timeout", 1, [*BROKEN, F, F]),
        ("timeout", 1, [*BROKEN, F, F]),
        ("broken_stream", 1, [*GOOD, *UP, P, F, P, S, F, F]),
    ],
)
def test_every_demonstration(
    scenario: str,
    status: int,
    expected: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each failure of the guide ends in its steps and its exit status."""
    quick = replace(doctor_demo.SCENARIOS["timeout"], timeout=0.3)
    monkeypatch.setitem(doctor_demo.SCENARIOS, "timeout", quick)
    found, document = examined(capsys, "--demo", scenario)
    assert outcomes(document) == expected
    assert found == status
    failing = [step for step in document["steps"] if step["outcome"] == F]
    assert all(step["reason"] for step in failing)
    assert all(step["action"] for step in failing[:1])
    assert (document["report"] is None) == (not any(step["diagnosis"] for step in failing))


def test_every_demonstration_is_tested() -> None:
    """No scenario is left out above."""
    marks: Any = test_every_demonstration.pytestmark  # type: ignore[attr-defined]
    assert [row[0] for row in marks[0].args[1]] == list(doctor_demo.SCENARIOS)


def test_the_demo_alone_lists_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """``--demo`` shows what there is and examines a healthy gateway; 80 columns suffice."""
    assert main(["doctor", "--demo"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in doctor_demo.SCENARIOS)
    assert "Nothing failed in 10 steps." in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown


def test_a_failing_demo_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    """The culprit, the action and the report stand in plain text; the findings fit 80 columns."""
    assert main(["doctor", "--demo", "refused_field"]) == 1
    findings, _, report = capsys.readouterr().out.partition("Report of the last failure")
    assert "it works without top_k" in findings
    assert "Leave top_k out" in findings
    assert max(map(len, findings.splitlines())) <= 80
    assert "fails in the same way" in report
    assert "POST" in report
    assert report.rstrip().endswith("Exit status 1")


def test_without_run_nothing_is_sent_that_costs(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Only the models list is asked for; the other steps say what they would send."""
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"model": "gpt-5-mini", "messages": [], "top_k": 5}))
    status, document = examined(capsys, "--request", str(file), "--alternate-model", "gpt-5-nano")
    assert status == 0
    assert [(request.method, request.path) for request in gateway.requests] == [
        ("GET", "/v1/models")
    ]
    assert "--run" in step_of(document, "minimal")["action"]
    assert '"content": "Hello"' in step_of(document, "minimal")["reason"]
    assert "without top_k in turn" in step_of(document, "fields")["reason"]
    assert "gpt-5-nano" in step_of(document, "other_model")["reason"]


def test_the_culprit_among_the_fields(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Fields go one by one, in order, and the one that mattered is proven alone."""
    gateway.always(
        lambda request: error_reply(403, "no") if "seed" in request.fields() else None,
        path="/chat/*",
    )
    file = tmp_path / "body.json"
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": "gpt-5-mini", "messages": messages, "temperature": 1, "top_k": 5, "seed": 7}
    file.write_text(json.dumps(body))
    status, document = examined(capsys, "--run", "--request", str(file))
    assert status == 1
    assert step_of(document, "fields")["reason"].startswith("it works without seed; all other")
    own = [sorted(request.fields()) for request in gateway.requests[3:]]
    plain = ["messages", "model"]
    assert own == [
        sorted([*plain, "temperature", "top_k", "seed"]),
        sorted([*plain, "temperature", "seed"]),
        sorted([*plain, "temperature"]),
        sorted([*plain, "temperature", "top_k"]),
    ]


def test_fields_that_matter_only_together(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Where no field alone is the cause, all that had to go are named."""
    refused = {"top_k", "seed"}
    gateway.always(
        lambda request: error_reply(400, "no") if refused & {*request.fields()} else None,
        path="/chat/*",
    )
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"model": "gpt-5-mini", "messages": [{}], "top_k": 5, "seed": 7}))
    _, document = examined(capsys, "--run", "--request", str(file))
    assert step_of(document, "fields")["reason"] == "it works without all of top_k, seed"


def test_keys_are_never_shown(
    gateway: Gateway,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Not even when the gateway's message repeats them, as text and as JSON."""
    monkeypatch.setenv("SPARE", OTHER_KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY-third")
    (tmp_path / ".env").write_text("COMETAPI_KEY='comet-CANARY-fourth'\n")
    gateway.always(error_reply(401, f"invalid token {KEY} or {OTHER_KEY} or sk-CANARY-third"))
    arguments = ["--run", "--model", "gpt-5-mini", "--alternate-key-env", "SPARE"]
    status, document = examined(capsys, *arguments)
    assert status == 77
    assert "[secret]" in step_of(document, "models")["reason"]
    notes = json.dumps(step_of(document, "key"))
    assert "OPENAI_API_KEY is set too and differs" in notes
    assert "the .env file in this directory sets COMETAPI_KEY to a different value" in notes
    assert main(["doctor", *arguments]) == 77
    shown = capsys.readouterr()
    assert "CANARY" not in shown.out + shown.err
    assert "[secret]" in shown.out


def test_another_key_that_works(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key refused, another one is tried on the models list, which costs nothing."""
    monkeypatch.setenv("COMETAPI_KEY", OTHER_KEY)
    monkeypatch.setenv("SPARE", KEY)
    status, document = examined(capsys, "--alternate-key-env", "SPARE")
    assert status == 77
    assert document["works"] == {"other_model": None, "other_key": True}
    assert "The key in COMETAPI_KEY is at fault" in document["summary"]
    assert {request.method for request in gateway.requests} == {"GET"}


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


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--demo", "unheard-of"],
        ["--request", "nowhere.json"],
        ["--alternate-key-env", "NOT_SET"],
        ["--timeout", "0"],
        ["--retries", "-1"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that make no sense are named on standard error, with status 2."""
    assert main(["doctor", *arguments]) == 2
    assert "comet-resilience:" in capsys.readouterr().err


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("text", ["{not json", "[1]"])
def test_a_request_that_is_none(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file that holds no JSON object is wrong usage."""
    (tmp_path / "body.json").write_text(text)
    assert main(["doctor", "--request", "body.json"]) == 2
    assert "--request" in capsys.readouterr().err


def test_the_help_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer reads it in 80 columns, and learns of ``--demo`` and of the exit status."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "First time? Try --demo" in shown
    assert "exit status:" in shown
