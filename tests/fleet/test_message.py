"""Replies of Redis are clamped to their bounds, or invalid."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.fleet.message import MOST, Commit, ShareRequest, parse_share_reply

GOOD: list[Any] = [3, 20, b"1700", b"4", 6, 17, 1, b"2.500", b"1700000000123", 1, 0, b"{}"]


def test_an_answer_as_it_comes() -> None:
    reply = parse_share_reply(GOOD, 100)
    assert reply is not None
    assert (reply.share, reply.limit, reply.version, reply.epoch) == (3, 20, 1700, 4)
    assert (reply.members, reply.in_use, reply.lagging, reply.rate) == (6, 17, 1, 2.5)
    assert reply.now == pytest.approx(1_700_000_000.123)
    assert reply.committed
    assert not reply.contended
    assert reply.state == "{}"


def test_text_and_bytes_are_the_same() -> None:
    texts = [value.decode() if isinstance(value, bytes) else value for value in GOOD]
    assert parse_share_reply(texts, 100) == parse_share_reply(GOOD, 100)


def test_no_limit_is_believed_above_the_maximum_and_no_share_above_the_limit() -> None:
    reply = parse_share_reply([10**9, 10**9, *GOOD[2:]], 30)
    assert reply is not None
    assert (reply.share, reply.limit) == (30, 30)
    reply = parse_share_reply([50, 20, *GOOD[2:]], 30)
    assert reply is not None
    assert (reply.share, reply.limit) == (20, 20)


@pytest.mark.parametrize(
    "raw",
    [
        None, "", b"OK", 1, [], GOOD[:-1], [*GOOD, 1], {"share": 3}, [None, *GOOD[1:]],
        ["x", *GOOD[1:]], [b"\xff", *GOOD[1:]], ["nan", *GOOD[1:]], ["inf", *GOOD[1:]],
        [-1, *GOOD[1:]], [*GOOD[:-1], b"x" * 10_000], [*GOOD[:-1], 1.5], [[1], *GOOD[1:]],
    ],
)  # fmt: skip
def test_what_is_no_answer_is_none(raw: object) -> None:
    assert parse_share_reply(raw, 100) is None


@given(st.lists(st.one_of(st.integers(), st.binary(), st.text(), st.none()), max_size=14))
def test_nothing_makes_it_raise_or_leave_its_bounds(raw: list[object]) -> None:
    reply = parse_share_reply(raw, 100)
    if reply is not None:
        assert 0 <= reply.share <= reply.limit <= 100
        assert 1 <= reply.members <= MOST


def test_a_question_as_the_script_takes_it() -> None:
    request = ShareRequest(
        member="m", in_use=2, want=5, share=3, epoch=7, rate=1.25, ttl=3.0, learn=0.75, limit=8
    )
    assert request.arguments() == [
        "m",
        "2",
        "5",
        "3",
        "7",
        "1.250",
        "3000",
        "750",
        "8",
        "",
        "",
        "",
        "",
    ]
    commit = Commit(version=9, limit=4, epoch=8, state="{}")
    assert ShareRequest(member="m", commit=commit).arguments()[9:] == ["9", "4", "8", "{}"]
