"""Capacity models: never over the limit, and nothing gets lost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.testing import Capacity, ConcurrencyCap, FixedWindow, Refusal, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

_STEPS = st.lists(
    st.tuples(st.floats(0, 100), st.integers(0, 10)), max_size=4, unique_by=lambda step: step[0]
).map(sorted)
_GAPS = st.lists(st.floats(0, 3), min_size=1, max_size=200)


@given(st.integers(0, 10), _STEPS, st.lists(st.tuples(st.booleans(), st.floats(0, 2))))
def test_a_cap_is_never_exceeded(
    limit: int, steps: list[tuple[float, int]], moves: list[tuple[bool, float]]
) -> None:
    """Nobody enters at the limit, everybody enters below it, and each slot comes back."""
    cap = ConcurrencyCap(limit, steps=steps)
    now, held = 0.0, 0
    for entering, gap in moves:
        now += gap
        if entering:
            free = held < cap.limit_at(now)
            assert (cap.enter(now) is None) == free
            held += free
        elif held:
            cap.leave(now)
            held -= 1
    for _ in range(held):
        cap.leave(now)
    with pytest.raises(RuntimeError, match="no slot is held"):
        cap.leave(now)


def test_a_cap_changes_by_steps() -> None:
    """The last step that has come holds, from its very second on."""
    cap = ConcurrencyCap(20, steps=((200.0, 5), (400.0, 40)))
    limits = [cap.limit_at(now) for now in (0.0, 199.9, 200.0, 399.9, 400.0, 9e9)]
    assert limits == [20, 20, 5, 5, 40, 40]


def test_a_cap_gives_its_hint() -> None:
    """Each refusal carries the hint, however soon a slot gets free."""
    assert ConcurrencyCap(0, retry_after=60).enter(0.0) == Refusal(retry_after=60)
    assert ConcurrencyCap(0).enter(0.0) == Refusal(retry_after=None)


@given(st.floats(0.1, 50), st.integers(1, 20), _GAPS)
def test_a_bucket_keeps_its_rate(rate: float, burst: int, gaps: list[float]) -> None:
    """In no stretch of time does a bucket let in more than its burst and what flowed in."""
    bucket, now, entered = TokenBucket(rate, burst), 0.0, list[float]()
    for gap in gaps:
        now += gap
        if bucket.enter(now) is None:
            entered.append(now)
    for first, start in enumerate(entered):
        for last in range(first, len(entered)):
            assert last - first + 1 <= burst + rate * (entered[last] - start) + 1e-6


@given(st.floats(0.1, 50), st.integers(1, 5), _GAPS)
def test_the_hint_of_a_bucket_is_true(rate: float, burst: int, gaps: list[float]) -> None:
    """Who comes back when the hint says so is let in."""
    bucket, now = TokenBucket(rate, burst, retry_after=True), 0.0
    for gap in gaps:
        now += gap
        refusal = bucket.enter(now)
        if refusal is not None:
            assert refusal.retry_after is not None
            now += refusal.retry_after
            assert bucket.enter(now) is None


@given(st.integers(1, 10), st.floats(0.5, 60), _GAPS)
def test_a_window_counts(limit: int, seconds: float, gaps: list[float]) -> None:
    """A window lets in its limit, and refuses only when it has."""
    window, now = FixedWindow(limit, seconds), 0.0
    entered = Counter[int]()
    for gap in gaps:
        now += gap
        place = int(now // seconds)
        if window.enter(now) is None:
            entered[place] += 1
        else:
            assert entered[place] == limit
    assert all(count <= limit for count in entered.values())


def test_a_window_names_its_end() -> None:
    """The hint is the whole seconds to the next window, in which one may enter."""
    window = FixedWindow(1, 180, retry_after=True)
    assert window.enter(10.5) is None
    assert window.enter(100.5) == Refusal(retry_after=80)
    assert window.enter(180.5) is None


@pytest.mark.parametrize("model", [TokenBucket(5, 2), FixedWindow(2, 10)])
def test_rates_do_not_limit_concurrency(model: Capacity) -> None:
    """A rate has no limit in flight, and leaving gives nothing back."""
    assert model.limit_at(0.0) is None
    assert [model.enter(0.0), model.enter(0.0)] == [None, None]
    model.leave(0.0)
    assert model.enter(0.0) == Refusal(retry_after=None)


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: ConcurrencyCap(-1), "limit"),
        (lambda: ConcurrencyCap(1, steps=((5, 1), (5, 2))), "steps"),
        (lambda: ConcurrencyCap(1, steps=((5, -1),)), "limit"),
        (lambda: ConcurrencyCap(1, retry_after=-1), "retry_after"),
        (lambda: TokenBucket(0, 1), "rate"),
        (lambda: TokenBucket(float("nan"), 1), "rate"),
        (lambda: TokenBucket(1, 0.5), "burst"),
        (lambda: FixedWindow(0, 1), "limit"),
        (lambda: FixedWindow(1, 0), "seconds"),
    ],
)
def test_senseless_arguments_are_named(build: Callable[[], Capacity], word: str) -> None:
    """The error says which argument it is about."""
    with pytest.raises(ValueError, match=word):
        build()


def test_models_show_their_state() -> None:
    """The repr says how full a model is."""
    cap, bucket, window = ConcurrencyCap(3), TokenBucket(2, 5), FixedWindow(4, 10)
    for model in (cap, bucket, window):
        model.enter(0.0)
    assert repr(cap) == "<ConcurrencyCap 1 held, limit 3, steps ()>"
    assert repr(bucket) == "<TokenBucket 4 of 5 tokens, 2/s>"
    assert repr(window) == "<FixedWindow 1 of 4 in window 0>"
