"""The gate by itself: what closes it, when canaries go, and that it always opens again."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.gate import CANARIES_MOST, CLOSED_MAX, Gate, Passage, Standing


def fail(gate: Gate, passage: Passage, now: float, *, unreachable: bool = False) -> None:
    """The service, or the way to it, failed."""
    gate.failed(
        passage, now, unreachable=unreachable, seen="502", retry_after=None, present=20, jitter=0.5
    )


def send(gate: Gate, now: float, request: Standing | None = None, present: int = 20) -> Passage:
    """An attempt passes."""
    return gate.sent(now, request or Standing(), present, 0.5)


def shut(present: int = 20) -> Gate:
    """A gate that five failures have closed at 1.0."""
    gate = Gate()
    for passage in [send(gate, 0.9) for _ in range(5)]:
        gate.failed(
            passage, 1.0, unreachable=False, seen="502", retry_after=None, present=present,
            jitter=0.5,
        )  # fmt: skip
    assert gate.is_closed
    return gate


@pytest.mark.parametrize(("unreachable", "needed"), [(False, 5), (True, 3)])
def test_so_many_failures_in_a_row_close_it(unreachable: bool, needed: int) -> None:
    """Of different requests: five, or three where no connection could be made."""
    gate = Gate()
    passages = [send(gate, 0.0) for _ in range(needed)]
    for passage in reversed(passages):
        assert not gate.is_closed
        fail(gate, passage, 0.1, unreachable=unreachable)
    assert gate.is_closed


def test_one_poisoned_request_never_closes_it() -> None:
    """However often it is sent."""
    gate, poisoned = Gate(), Standing()
    for second in range(100):
        fail(gate, send(gate, second, poisoned), second + 0.1)
    assert not gate.is_closed


def test_an_answer_between_breaks_the_row() -> None:
    """Four failures, an answer, four failures."""
    gate = Gate()
    passages = [send(gate, 0.0) for _ in range(9)]
    gate.answered(passages[4], 0.1)
    for passage in (*passages[:4], *passages[5:]):
        fail(gate, passage, 0.2)
    assert not gate.is_closed


def test_one_that_is_alone_is_never_held() -> None:
    """Its own backoff is its gate."""
    gate = shut(present=1)
    assert gate.has_room(1.0)
    send(gate, 1.0, present=1)
    assert gate.has_room(1.0)


def test_canaries_come_sooner_at_first() -> None:
    """Tenths of a second, then half the time that it has been closed, then five seconds."""
    gate, now, times = shut(), 1.0, []
    while now < 61.0:
        now = max(now, gate.next_at)
        times.append(now - 1.0)
        fail(gate, send(gate, now), now)
    assert times[0] == pytest.approx(0.4)
    assert len(times) <= 22
    waits = [round(later - sooner, 6) for sooner, later in pairwise(times)]
    assert waits == sorted(waits)
    assert max(waits) <= CLOSED_MAX


def test_the_first_answer_opens_it_in_steps() -> None:
    """Four at once, and one more for each answer: no burst."""
    gate = shut()
    gate.answered(send(gate, gate.next_at), 2.0)
    assert not gate.is_closed
    passages = []
    while gate.has_room(2.0):
        passages.append(send(gate, 2.0))
    assert len(passages) == 4
    gate.answered(passages[0], 2.1)
    more = 0
    while gate.has_room(2.1):
        send(gate, 2.1)
        more += 1
    assert more == 2


def test_silence_opens_it_where_failures_come_fast_and_not_where_they_hang() -> None:
    """A canary that is out for much longer than the failures took is good news."""
    gate = shut()
    sent_at = gate.next_at
    send(gate, sent_at)
    gate.tick(sent_at + 0.9)
    assert gate.is_closed
    gate.tick(sent_at + 1.1)
    assert not gate.is_closed


def test_a_caller_that_cannot_wait_brings_the_next_canary_forward() -> None:
    """To 0.4 s after the last one, however long the outage lasts; a tested hint stands."""
    gate, now = shut(), 1.0
    while now < 20.0:
        now = max(now, gate.next_at)
        fail(gate, send(gate, now), now + 0.1)
    assert gate.next_at > now + 4.0
    gate.hasten(now + 0.2)
    assert gate.next_at == pytest.approx(now + 0.4)
    gate.hasten(now + 0.6)
    assert gate.next_at == pytest.approx(now + 0.4)
    passage = send(gate, now + 0.6)
    gate.failed(
        passage, now + 0.7, unreachable=False, seen="503", retry_after=30.0, present=20, jitter=0.0
    )
    gate.hasten(now + 1.0)
    assert gate.next_at > now + 30.0


def test_a_hint_binds_after_one_canary_has_tested_it() -> None:
    """Early once; refused with a hint again, it waits for the named time."""
    gate = shut()
    canary = send(gate, gate.next_at)
    gate.failed(
        canary, 2.0, unreachable=False, seen="503", retry_after=30.0, present=20, jitter=0.0
    )
    assert gate.next_at >= 32.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "fail", "cut", "ok", "nothing", "unsent"]),
            st.floats(0.0, 8.0),
            st.integers(0, 30),
        ),
        max_size=120,
    )
)
def test_it_always_opens_when_the_outage_has_ended(
    events: list[tuple[str, float, int]],
) -> None:
    """Never more than so many canaries at once, and whatever came before, it opens in seconds."""
    gate, now, out, requests = Gate(), 0.0, list[Passage](), [Standing() for _ in range(7)]
    for what, seconds, which in events:
        now += seconds
        gate.tick(now)
        if what == "send":
            if gate.has_room(now):
                out.append(send(gate, now, requests[which % 7], 1 + which))
        elif out:
            passage = out.pop(which % len(out))
            if what in ("fail", "cut"):
                fail(gate, passage, now, unreachable=what == "cut")
            elif what == "ok":
                gate.answered(passage, now)
            else:
                gate.passed(passage, now, unsent=what == "unsent")
        assert sum(p.is_canary and not p.decided for p in out) <= CANARIES_MOST
        assert gate.has_room(now) or out or (gate.wake_at or math.inf) < math.inf
    for passage in out:
        gate.passed(passage, now)
    ended = now
    while gate.is_closed:
        now = max(now, gate.next_at)
        assert gate.has_room(now)
        gate.answered(send(gate, now), now + 0.1)
    assert now - ended <= CLOSED_MAX * 1.1
    for _ in range(300):
        assert gate.has_room(now)
        gate.answered(send(gate, now), now)
    assert gate.is_wide_open
