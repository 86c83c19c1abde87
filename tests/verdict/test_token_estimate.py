"""The estimate of a request's tokens, from what it asks and in bounded work."""

from __future__ import annotations

import json

import pytest

from comet_resilience.verdict.token_estimate import OutputHabit, estimate_request


def _estimate(fields: object, *, expected: int = 100, has_output: bool = True) -> tuple[int, int]:
    estimate = estimate_request(json.dumps(fields).encode(), expected, has_output=has_output)
    return estimate.prompt, estimate.output


def _chat(content: object, **more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def test_text_counts_by_its_length() -> None:
    """Four bytes to a token, a few for the message; names of members are no text."""
    prompt, output = _estimate(_chat("x" * 400))
    assert 100 <= prompt <= 110
    assert output == 100


def test_other_scripts_count_by_bytes() -> None:
    """A sign of three bytes is nearly a token."""
    assert _estimate(_chat("限" * 400))[0] >= 300


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_bound_on_the_answer_counts(name: str) -> None:
    """Providers charge it when the request arrives."""
    assert _estimate(_chat("", **{name: 7}))[1] == 7
    assert _estimate(_chat("", n=3, **{name: 7}))[1] == 21


def test_pictures_count_by_rule_and_not_by_their_size() -> None:
    """A picture of a megabyte is no million tokens."""
    url = "data:image/png;base64," + "A" * 100_000
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    assert 85 <= _estimate(_chat([{"type": "text", "text": "what?"}, part]))[0] <= 100
    part = {"type": "input_image", "image_url": url, "detail": "high"}
    assert 1_000 <= _estimate({"model": "m", "input": [part]})[0] <= 1_200


def test_a_large_body_is_measured_without_parsing() -> None:
    """Media are taken out, the rest is text."""
    url = "data:image/png;base64," + "A" * 3_000_000
    part = {"type": "image_url", "image_url": {"url": url}}
    prompt, output = _estimate(_chat([part, {"type": "text", "text": "x"}], max_tokens=9))
    assert 700 <= prompt <= 900
    assert output == 9
    assert 500_000 <= _estimate(_chat("word " * 400_000))[0] <= 510_000


def test_embeddings_take_no_output() -> None:
    """Only what goes in counts; numbers are tokens already."""
    assert _estimate({"model": "m", "input": ["x" * 40] * 3}, has_output=False) == (30, 0)
    assert _estimate({"model": "m", "input": [1, 2, 3]}, has_output=False) == (3, 0)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"])
def test_nonsense_is_estimated_without_harm(body: bytes) -> None:
    """A body that is no request costs what it is long at the most."""
    prompt, output, _ = estimate_request(body, 100, has_output=True)
    assert 0 <= prompt <= len(body)
    assert output == 0


def test_a_models_answers_are_learnt() -> None:
    """The next one is expected to be as long as those before."""
    habit = OutputHabit()
    first = habit.expect("a")
    for _ in range(40):
        habit.note("a", 50)
    assert habit.expect("a") == 50
    assert habit.expect("b") == first
    for number in range(3_000):
        habit.note(str(number), 1)
    assert len(habit._means) <= 1_024
