"""Evidence about ceilings: what proves one, and what does not."""

from __future__ import annotations

import pytest

from comet_resilience.limits.algorithm import REFUSALS_KEPT, Ticket
from comet_resilience.limits.evidence import Ceiling, Refusals


def test_a_ceiling_explains_what_was_sent_since_it_is_known() -> None:
    """Neither fewer in flight, nor what was under way when it was found."""
    ceiling = Ceiling(in_flight=3, known_at=1.0)
    assert ceiling.meet(Ticket(2, 3, 1.1))
    assert ceiling.meet(Ticket(2, 4, 1.1))
    assert not ceiling.meet(Ticket(2, 2, 1.1))
    assert not ceiling.meet(Ticket(1, 3, 1.0))


@pytest.mark.parametrize(
    ("refused", "accepted", "disproved"),
    [
        (3, [2, 2, 2], False),
        (3, [3], False),  # an answer whose end was under way
        (3, [3, 2, 3], True),
        (3, [4], True),
        (1, [1], True),  # nobody takes none
    ],
)
def test_what_disproves_a_ceiling(refused: int, accepted: list[int], disproved: bool) -> None:
    """One more at once, or as many twice."""
    ceiling = Ceiling(in_flight=refused, known_at=0.0)
    verdicts = [ceiling.is_disproved_by(Ticket(9, many, 1.0)) for many in accepted]
    assert verdicts[-1] is disproved
    assert not any(verdicts[:-1])


def test_a_refusal_in_between_renews_a_ceiling() -> None:
    """One acceptance for each refusal is what a ceiling looks like, seen from afar."""
    ceiling = Ceiling(in_flight=3, known_at=0.0)
    for number in range(5):
        assert not ceiling.is_disproved_by(Ticket(number, 3, 1.0))
        assert ceiling.meet(Ticket(number, 3, 1.0))


def test_those_refused_by_then_were_not_in_flight() -> None:
    """Sent before and heard of after; what was refused earlier had left by then, and later ones."""
    refusals = Refusals()
    refusals.note(Ticket(1, 1, 0.0), 0.5)
    refusals.note(Ticket(2, 2, 0.0), 1.5)
    refusals.note(Ticket(4, 4, 1.2), 1.6)
    assert refusals.really_in_flight(Ticket(3, 3, 1.0)) == 2


def test_clearing_takes_one_more_and_a_later_attempt() -> None:
    """As many may be by an answer whose end is under way, and what was sent earlier is old."""
    refusals, refused = Refusals(), Ticket(5, 4, 1.0)
    refusals.note(refused, 1.1)
    assert refusals.clears(Ticket(6, 5, 1.2), refused)
    assert not refusals.clears(Ticket(6, 4, 1.2), refused)
    assert not refusals.clears(Ticket(4, 5, 1.2), refused)


def test_few_refusals_are_remembered() -> None:
    """A flood of them costs neither memory nor time."""
    refusals = Refusals()
    for number in range(1000):
        refusals.note(Ticket(number, 1, 0.0), 1.0)
    assert refusals.really_in_flight(Ticket(1000, 1000, 0.5)) == 1000 - REFUSALS_KEPT
