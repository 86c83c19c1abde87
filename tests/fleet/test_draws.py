"""Draw requests of a shared budget, and the validation of replies."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience.fleet.draws import Amount, DrawReply, DrawRequest, parse_draw_reply
from comet_resilience.limits.budget import Budget

REQUEST = DrawRequest(
    member="m",
    budget=Budget(requests=300, tokens=1_000),
    ttl=3.0,
    serial=7,
    wants=(Amount(1, 40.5), Amount(1, 30)),
    has_unused=True,
    corrections=Amount(2, -5),
    age=1.5,
    depth=40,
    kept_back=80,
    paid_for=Amount(0.25, -9.0),
    held=Amount(12, 900),
)


def test_a_request_as_the_script_takes_it() -> None:
    """Milliseconds, and requests before tokens; what is past is paid for."""
    head = ["m", "3000", "7", "60000", "0", "1", "1500", "1.000:40.500;1.000:30.000"]
    requests = ["300", "0.000", "0.000", "2.000", "250.000", "12.000"]
    tokens = ["1000", "40.000", "80.000", "-5.000", "0.000", "900.000"]
    assert REQUEST.arguments() == [*head, *requests, *tokens]


def test_a_budget_without_tokens_has_none() -> None:
    request = DrawRequest(member="m", budget=Budget(requests=300))
    assert request.arguments()[-6] == "0"


def test_a_reply_in_seconds_and_whole_amounts() -> None:
    raw = [b"0.000;1500.000", 4, "250.000", "0.000", "12.7", "900"]
    assert parse_draw_reply(raw, REQUEST) == DrawReply(
        delays=(0.0, 1.5), members=4, paid_for=Amount(0.25, 0.0), left=Amount(12, 900)
    )
    assert parse_draw_reply(["", *raw[1:]], REQUEST) is not None


@pytest.mark.parametrize(
    "raw",
    [
        None, "OK", b"OK", [], ["x"] * 6, ["0;0;0", 4, "0", "0", "1", "1"],
        ["-1", 4, "0", "0", "1", "1"], ["nan", 4, "0", "0", "1", "1"],
        ["0", "inf", "0", "0", "1", "1"], ["0", 4, "0", "0", "-1", "1"],
        ["99999999", 4, "0", "0", "1", "1"], [b"\xff", 4, "0", "0", "1", "1"],
    ],
)  # fmt: skip
def test_what_is_no_reply_is_void(raw: Any) -> None:
    assert parse_draw_reply(raw, REQUEST) is None


def test_amounts_add_up() -> None:
    assert Amount(1, 2) + Amount(3, 4) - Amount(1, 1) == Amount(3, 5)
    assert not Amount()
    assert Amount(0, -1)
