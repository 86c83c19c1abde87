"""A limit in words is kept to, until it turns out to be about somebody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.forecast import LONGEST, Sent
from comet_resilience.limits.named import NamedLimit
from comet_resilience.verdict.rates import Counted, RateInWords

MINUTE = RateInWords(Counted.REQUESTS, 30, 60.0, of_account=False)
ACCOUNTS = RateInWords(Counted.REQUESTS, 30, 60.0, of_account=True)


def _window(now: float, taken: list[float]) -> bool:
    return sum(at // 60 == now // 60 for at in taken) < 30


def _sliding(now: float, taken: list[float]) -> bool:
    return sum(at > now - 60 for at in taken) < 30


def _pool(now: float, taken: list[float]) -> bool:
    return sum(at > now - 60 for at in taken) < 150


def _play(
    admits: Callable[[float, list[float]], bool], words: RateInWords, seconds: float
) -> tuple[list[float], int]:
    named: NamedLimit | None = None
    recent, taken, refused, now, number = [], [], 0, 7.0, 0  # type: ignore[var-annotated]
    while now < seconds:
        ready = now if named is None else named.ready_at(now, 1.0)
        assert ready <= now + LONGEST
        if ready > now:
            now = ready
            continue
        number += 1
        sent = Sent(number, now)
        recent.append(sent)
        if named is not None:
            named.sent(sent, now)
        if admits(now, taken):
            taken.append(now)
            sent.is_accepted = True
            if named is not None:
                named.accepted(sent, now)
        else:
            refused += 1
            sent.is_free = True
            if named is None:
                named = NamedLimit.said(words, recent, now)
            else:
                named.correct(sent, -1.0)
                named.refused(words, now)
        now += 0.1
    return taken, refused


@pytest.mark.parametrize("admits", [_window, _sliding])
@pytest.mark.parametrize("words", [MINUTE, ACCOUNTS])
def test_the_first_refusal_is_nearly_the_only_one(
    admits: Callable[[float, list[float]], bool], words: RateInWords
) -> None:
    """A provider's words are tested again after five periods, the account's are not."""
    taken, refused = _play(admits, words, 600.0)
    assert len(taken) >= 290
    assert refused <= (1 if words is ACCOUNTS else 3)


def test_words_of_one_channel_of_many_hold_nobody_back() -> None:
    """Five times as many are accepted as they allow."""
    taken, _ = _play(_pool, MINUTE, 600.0)
    assert len(taken) >= 1_400


def test_a_limit_that_admits_no_burst_spaces_requests() -> None:
    """It was named long before so many were sent."""
    recent = [Sent(number, number / 10) for number in range(5)]
    recent[-1].is_free = True
    named = NamedLimit.said(ACCOUNTS, recent, 0.5)
    assert named.is_spaced
    now = named.ready_at(0.5, 1.0)
    assert now >= 2.5
    named.sent(Sent(9, now), now)
    assert named.ready_at(now, 1.0) == pytest.approx(now + 2.0, abs=0.01)


def test_tokens_are_corrected_by_what_an_answer_took() -> None:
    """They are charged as estimated, and then as they were."""
    words = RateInWords(Counted.TOKENS, 1_000, 60.0, of_account=False)
    recent = [Sent(1, 0.0, 100.0, 400.0), Sent(2, 1.0, 100.0, 400.0)]
    named = NamedLimit.said(words, recent, 2.0)
    assert named.ready_at(2.0, 300.0) > 50.0
    named.correct(recent[0], -300.0)
    assert named.ready_at(2.0, 300.0) == 2.0


def test_a_quota_of_the_day_holds_nobody_back() -> None:
    """The refusal tells its caller more than a silent wait."""
    words = RateInWords(Counted.REQUESTS, 2, 86_400.0, of_account=True)
    named = NamedLimit.said(words, [Sent(1, 0.0), Sent(2, 1.0)], 2.0)
    assert named.ready_at(2.0, 1.0) == 2.0


WORDS = st.builds(
    RateInWords,
    st.just(Counted.REQUESTS),
    st.sampled_from([1, 2, 1_000, 10**12]),
    st.sampled_from([0.001, 1.0, 60.0, 86_400.0, 2_678_400.0]),
    st.booleans(),
)


@given(WORDS, st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=40))
def test_whatever_words_say_the_next_one_goes(
    words: RateInWords, sends: list[tuple[bool, float]]
) -> None:
    """In a bounded time, and after a bounded number of looks."""
    named, now = NamedLimit.said(words, [], 0.0), 0.0
    for number, (is_refusal, passes) in enumerate(sends):
        since = now
        for _ in range(100):
            ready = named.ready_at(now, 1.0)
            if ready <= now:
                break
            now = ready
        else:
            raise AssertionError("it is never let go")
        assert now - since <= LONGEST + 1.0
        sent = Sent(number, now)
        named.sent(sent, now)
        now += passes
        if is_refusal:
            sent.is_free = True
            named.correct(sent, -1.0)
            named.refused(words, now)
        else:
            sent.is_accepted = True
            named.accepted(sent, now)
