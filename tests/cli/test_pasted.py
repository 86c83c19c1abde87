"""Whatever a person holds, taken for what it is: lines, bodies, tracebacks, a page of a log."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from comet_resilience.cli import main
from comet_resilience.cli.pasted import MOST_CLUES

HTTPX_LINE = (
    'INFO:httpx:HTTP Request: POST https://llm.example.org/v1/images/generations "HTTP/1.1 {}"'
)


OUR_LINE = "WARNING:comet_resilience:POST /chat/completions model=gpt-x "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("429", ["status-429 ", "its body unknown", "the body of the answer"]),
        ("429 Too Many Requests", ["status-429 ", "its body unknown"]),
        ("< HTTP/2 504", ["status-504 "]),
        ("request failed: status_code=502", ["status-502 "]),
        ("\x1b[31m503 Service Unavailable\x1b[0m", ["status-503 "]),
        ("404", ["status-404 ", "the body of the answer"]),
        ("200", ["by its status alone it is no failure", "the body of the answer"]),
        ('{"error": {"code": "model_not_found"}}', ["model-not-found ", "the status: "]),
        ('{"error": {"message": "hm", "code": 503}}', ["status-503 "]),
        ("[{'error': {'code': 'insufficient_user_quota'}}]", ["balance-empty "]),
        (HTTPX_LINE.format("429 Too Many Requests"), ["status-429 ", "log line of the HTTP"]),
        (OUR_LINE + "rate_limited (status 429): attempt 2 in 0.61 s: the gateway or its provider"
         " limits the rate; backoff with jitter", ["rule rate-limit ", "our own log"]),
        (OUR_LINE + "attempt 3: read_timeout  after 30.00 s (x) request_id=-", ["timeout-fault "]),
        (OUR_LINE + "attempt 1: 413 too_big after 0.20 s (x) request_id=-", ["status-413 "]),
        (OUR_LINE + "timeout (no response): gave up: deadline=5 s passed",
         ["rule deadline "]),
        ("outage of api.example.org: 502: a proxy got no usable answer from behind it; 3 wait",
         ["status-502 "]),
        (OUR_LINE + "connection: stream broken after 7 events: cut", ["incomplete"]),
        ("Request timed out.", ["timeout-fault ", "traceback"]),
        ("openai.APIConnectionError: Connection error.", ["connection-fault ", "traceback"]),
        ("AuthenticationError: refused", ["status-401 "]),
        ("<html><head><title>524: A timeout occurred</title></head></html>", ["status-504 "]),
        ("Error code: 503 - {'error': {'message': \"it's {odd\", 'code': None}} in job 7",
         ["status-503 ", "it's {odd"]),
        ("Error code: 502 - upstream gone", ["status-502 ", "upstream gone"]),
        ("Error code: 429", ["status-429 ", "its body unknown"]),
    ],
)  # fmt: skip
def test_whatever_a_person_holds(
    text: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each form is recognised, and no unknown body is taken for an empty one."""
    assert main(["explain", text]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("understood: ")
    assert not [word for word in words if word not in shown], shown
    assert "body empty" not in shown
    assert "empty-429" not in shown


def test_the_words_are_of_the_host_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A line that names another gateway gets none of CometAPI's sentences."""
    main(["explain", HTTPX_LINE.format("404 Not Found")])
    shown = capsys.readouterr().out
    assert "llm.example.org" in shown
    assert "cometapi" not in shown.lower()


TRACEBACK = """Traceback (most recent call last):
  File "job.py", line 429, in ask
httpcore.ConnectError: [Errno 111] Connection refused

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
httpx.ConnectError: All connection attempts failed

The above exception was the direct cause of the following exception:

openai.APIConnectionError: Connection error.
"""


def test_a_traceback_tells_of_one_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception at the bottom is explained by its cause; a number of a line is no status."""
    piped = io.BytesIO(b"\xff\xfe no text\n" + TRACEBACK.encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(piped))
    assert main(["explain", "-"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("understood: ") == 1
    assert "connect-fault " in shown


def test_several_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Each outcome is told once, with how often it came; a body belongs to the status above it."""
    lines = ["HTTP/2 503", "", "{", ' "error": {"code": "model_not_found"}', "}"]
    lines += ["Error code: 400 - {'error': {'message': 'x'}}"] * 3 + ["Request timed out."]
    assert main(["explain", "\n".join(lines), "--json"]) == 0
    told: Any = json.loads(capsys.readouterr().out)
    assert [each["rule"] for each in told] == ["model-not-found", "status-400", "timeout-fault"]
    assert "(3 times)" in told[1]["understood"]


def test_many_at_once_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """So many outcomes are shown, the rest is counted."""
    text = "\n".join(f"Error code: 400 - {{'error': {{'message': 'no {n}'}}}}" for n in range(30))
    assert main(["explain", text]) == 0
    shown = capsys.readouterr().out
    assert shown.count("understood: ") == MOST_CLUES
    assert "and 10 more outcomes" in shown


def test_it_never_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be judged is said back, with what would help."""
    assert main(["explain", "it\x1b]0;x\x07 does not work"]) == 2
    shown = capsys.readouterr().out
    assert "does not work" in shown
    assert "\x1b" not in shown
    assert "what would help" in shown


def test_no_secret_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    """A pasted line may hold a key."""
    main(["explain", "401 Unauthorized for Bearer sk-proj-Zx81kQm2Vt93LpRw07Ys"])
    assert "Zx81kQm2" not in capsys.readouterr().out
