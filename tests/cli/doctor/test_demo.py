"""Every failure of the guide, as ``doctor --demo`` shows it over a real socket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from comet_resilience.cli import main
from comet_resilience.cli.doctor import demo as doctor_demo
from tests.cli.doctor.conftest import examined, outcomes

GOOD = ["pass"] * 3
UP = ["pass", "skipped", "pass", "pass", "pass"]
BARRED = ["skipped"] * 6
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
