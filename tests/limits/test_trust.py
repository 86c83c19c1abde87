"""What a server tells binds after a refusal, and not for long before."""

from __future__ import annotations

from comet_resilience.limits.trust import SILENCE, UNTESTED, Trust


def _tested(trust: Trust, now: float) -> None:
    for number in (1, 2):
        assert trust.until(now, now + 50) == now
        trust.sent_beyond(number, now, is_test=True)


def test_a_limit_binds_for_a_moment_and_is_tested_by_two() -> None:
    """A third waits for what becomes of them."""
    trust = Trust()
    assert trust.until(0.0, 50.0) == UNTESTED
    assert trust.until(0.4, 0.7) == 0.7
    _tested(trust, UNTESTED)
    assert trust.until(UNTESTED, 50.0) == UNTESTED + SILENCE


def test_two_that_are_accepted_disprove_it_for_a_minute_and_then_for_two() -> None:
    """The second time it is tested at once."""
    trust = Trust()
    for now, seconds in ((10.0, 60.0), (100.0, 120.0)):
        trust.until(now - UNTESTED, now + 50)
        _tested(trust, now)
        trust.accepted(1, now)
        assert not trust.is_off(now)
        trust.accepted(2, now)
        assert trust.is_off(now + seconds - 0.1)
        assert not trust.is_off(now + seconds)


def test_silence_accepts() -> None:
    """Nearly all refusals come sooner than that."""
    trust = Trust()
    trust.until(0.0, 50.0)
    _tested(trust, UNTESTED)
    trust.tick(UNTESTED + SILENCE - 0.01)
    assert not trust.is_off(UNTESTED + SILENCE)
    trust.tick(UNTESTED + SILENCE)
    assert trust.is_off(UNTESTED + SILENCE)


def test_a_late_refusal_confirms_all_the_same() -> None:
    """It tells the limit: silence was only slow."""
    trust = Trust()
    trust.until(0.0, 50.0)
    _tested(trust, UNTESTED)
    trust.tick(10.0)
    trust.refused(1, confirms=True)
    assert trust.is_confirmed
    assert trust.until(11.0, 50.0) == 50.0


def test_three_bare_refusals_in_a_row_confirm() -> None:
    """One may have had another reason."""
    trust = Trust()
    for number in range(3):
        assert not trust.is_confirmed
        trust.sent_beyond(number, 1.0, is_test=False)
        trust.refused(number, confirms=False)
    assert trust.is_confirmed


def test_what_was_never_sent_tests_nothing() -> None:
    """Nor what failed in another way: two others test in its place."""
    trust = Trust()
    trust.until(0.0, 50.0)
    _tested(trust, UNTESTED)
    trust.withdrawn(1)
    trust.withdrawn(2)
    trust.tick(10.0)
    assert not trust.is_off(10.0)
    _tested(trust, 10.0)


def test_what_is_remembered_of_tests_is_bounded() -> None:
    """However many go beyond it and are never heard of again."""
    trust = Trust()
    for number in range(1_000):
        trust.sent_beyond(number, 1.0, is_test=False)
    assert len(trust._beyond) < 20
