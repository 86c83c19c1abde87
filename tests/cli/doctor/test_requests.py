"""The steps that may cost money: which field, model or key is at fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comet_resilience.testing import Gateway, error_reply
from tests.cli.doctor.conftest import KEY, OTHER_KEY, examined, step_of


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
