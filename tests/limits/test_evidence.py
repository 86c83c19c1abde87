"""Evidence about ceilings: what proves one, and what does not."""

from __future__ import annotations

import pytest

from comet_resilience.limits.algorithm import Ticket
from comet_resilience.limits.evidence import Ceiling


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
