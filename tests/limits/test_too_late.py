"""Answers that would come too late: by the quickest of the latest ones."""

from __future__ import annotations

from comet_resilience.limits.too_late import QuickestAnswers


def test_the_quickest_answer_counts() -> None:
    """With a margin, and only once some are known; the sixteen latest are remembered."""
    answers = QuickestAnswers()
    for seconds in (1.0, 5.0, 5.0):
        answers.note(seconds)
        assert not answers.are_too_late(0.0)
    answers.note(5.0)
    assert answers.are_too_late(0.89)
    assert not answers.are_too_late(0.91)
    for _ in range(16):
        answers.note(5.0)
    assert answers.are_too_late(4.4)
