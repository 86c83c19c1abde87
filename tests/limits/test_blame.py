"""Whose ceiling a refusal met, from evidence alone."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from comet_resilience.limits.algorithm import StepBack, Ticket
from comet_resilience.limits.blame import (
    BEYOND,
    SUSPECTS_KEPT,
    WITNESS,
    Blame,
    Ceiling,
    Judgement,
)
from comet_resilience.verdict.vocabulary import Signal


@dataclass
class Model:
    """A partition as far as blame knows it."""

    ceiling: Ceiling | None = None


class Court:
    """One account whose attempts are numbered as they are sent."""

    def __init__(self, level: int = 10) -> None:
        self.limit = StepBack(8, 1, 100)
        self.limit.level = level
        self.blame = Blame(self.limit)
        self.one, self.other = Model(), Model()
        self.now = 0.0

    def tickets(self, own: int, upper: int, *, is_probe: bool = False) -> tuple[Ticket, Ticket]:
        """Send an attempt with so many in flight in the partition and in the account."""
        self.now += 0.01
        ticket = self.limit.sent(self.now, upper)
        return Ticket(ticket.number, own, self.now, is_probe=is_probe), ticket

    def refuse(
        self,
        model: Model,
        own: int,
        upper: int,
        signal: Signal = Signal.OVERLOAD,
        *,
        is_probe: bool = False,
    ) -> Judgement:
        """Send an attempt and refuse it."""
        return self.hear(model, *self.tickets(own, upper, is_probe=is_probe), signal)

    def hear(
        self, model: Model, own: Ticket, upper: Ticket, signal: Signal = Signal.OVERLOAD
    ) -> Judgement:
        """Refuse an attempt, and tell the account of those that are its."""
        judgement = self.blame.judge(model, own, upper, signal, self.now)
        for ticket in judgement.account:
            self.limit.refused(ticket, self.now, upper.in_flight - 1, None, 0.5)
            self.blame.stepped_back(ticket)
        return judgement

    def accept(self, model: Model, own: int, upper: int) -> None:
        """Accept an attempt."""
        self.blame.accepted(model, *self.tickets(own, upper))


@pytest.mark.parametrize(
    ("signal", "partition", "account"),
    [(Signal.OVERLOAD_ACCOUNT, False, 1), (Signal.OVERLOAD_MODEL, True, 0)],
)
def test_an_answer_that_names_the_scope_is_believed(
    signal: Signal, partition: bool, account: int
) -> None:
    """No evidence is asked for, and none is taken from it."""
    court = Court()
    judgement = court.refuse(court.one, 3, 11, signal)
    assert (judgement.partition, len(judgement.account)) == (partition, account)
    assert court.one.ceiling is None


def test_one_refusal_is_the_partitions() -> None:
    """And so are all others of the same partition, however many: nobody else bears witness."""
    court = Court()
    for _ in range(5):
        assert court.refuse(court.one, 3, 12) == Judgement(partition=True)
    assert court.one.ceiling is not None
    assert court.one.ceiling.in_flight == 3


def test_two_partitions_refused_together_are_the_accounts() -> None:
    """Both refusals are told to it, and each partition hears of its own."""
    court = Court()
    court.refuse(court.one, 3, 12)
    judgement = court.refuse(court.other, 4, 12)
    assert judgement.partition
    assert len(judgement.account) == 2
    assert court.blame.ceiling == 12
    assert court.limit.level < 12


def test_witnesses_too_far_apart_prove_nothing() -> None:
    """After the time for witnesses the second refusal is the first one of its kind."""
    court = Court()
    court.refuse(court.one, 3, 12)
    court.now = WITNESS + 0.1
    assert not court.refuse(court.other, 4, 12).account


def test_an_acceptance_between_clears_the_account() -> None:
    """More in flight were accepted after the first refusal: two models are saturated."""
    court = Court()
    court.refuse(court.one, 3, 12)
    court.accept(court.other, 4, 13)
    assert not court.refuse(court.other, 5, 14).account


def test_an_acceptance_of_fewer_clears_nothing() -> None:
    """It says nothing of what was refused; as many may be by an answer whose end is under way."""
    court = Court()
    court.refuse(court.one, 3, 12)
    court.accept(court.other, 4, 12)
    assert court.refuse(court.other, 5, 12).account


def test_a_partition_that_probes_its_own_ceiling_does_not_accuse_the_account() -> None:
    """Two saturated models that probe at the same time stay two saturated models."""
    court = Court()
    for model in (court.one, court.other):
        court.refuse(model, 3, 12)
        court.now += WITNESS + 1
    court.refuse(court.one, 3, 12)
    assert not court.refuse(court.other, 3, 12).account


def test_a_known_account_needs_no_second_witness() -> None:
    """A partition without a ceiling of its own that is refused there met the account's."""
    court = Court()
    court.refuse(court.one, 3, 12)
    court.refuse(court.other, 4, 12)
    court.one.ceiling = court.other.ceiling = None
    court.now += WITNESS + 1
    judgement = court.refuse(court.one, 5, court.limit.level + 1)
    assert judgement.partition
    assert len(judgement.account) == 1


def test_a_known_account_is_not_blamed_for_what_its_model_was_never_given() -> None:
    """More was asked of both than before: it takes another model to tell whose ceiling that was."""
    court = Court()
    court.refuse(court.one, 3, 12)
    court.refuse(court.other, 4, 12)
    court.one.ceiling = court.other.ceiling = None
    court.now += WITNESS + 1
    above = court.limit.level + 1
    assert not court.refuse(court.one, 5, above, is_probe=True).account
    assert len(court.refuse(court.other, 5, above, is_probe=True).account) == 2


def test_ceilings_that_are_disproved_are_forgotten() -> None:
    """A model's is the business of its evidence; the account's takes more, and sent later."""
    court = Court()
    court.refuse(court.one, 3, 14)
    late = court.tickets(3, 12 + BEYOND)
    court.refuse(court.other, 4, 12)
    assert court.blame.ceiling == 12
    court.now += WITNESS + 1
    court.accept(court.one, 4, 12)
    assert court.one.ceiling is None
    court.blame.accepted(court.one, *late)
    court.accept(court.one, 3, 11 + BEYOND)
    assert court.blame.ceiling == 12
    court.accept(court.one, 3, 12 + BEYOND)
    assert court.blame.ceiling is None


def test_a_probe_of_its_own_model_alone_is_the_models() -> None:
    """The account is known to take as many: only the model was asked for more than before."""
    court = Court(level=20)
    assert court.refuse(court.one, 9, 20, is_probe=True) == Judgement(partition=True)
    assert court.refuse(court.other, 9, 20, is_probe=True) == Judgement(partition=True)
    assert court.refuse(Model(), 9, 20).account == ()
    assert court.blame.ceiling is None


def test_a_burst_is_one_piece_of_news() -> None:
    """The rest of a burst is the account's, although its models were refused with as many."""
    court = Court()
    burst = [court.tickets(3, upper, is_probe=True) for upper in (11, 12, 13, 14)]
    assert not court.hear(court.one, *burst[0]).account
    assert len(court.hear(court.other, *burst[1]).account) == 2
    assert len(court.hear(court.one, *burst[2]).account) == 1
    assert len(court.hear(court.other, *burst[3]).account) == 1


def test_a_closed_account_explains_every_refusal() -> None:
    """Partitions learn nothing from what was under way when it closed."""
    court = Court()
    for _ in range(3):
        court.refuse(court.one, 3, 12, Signal.OVERLOAD_ACCOUNT)
    assert court.limit.closed_until is not None
    judgement = court.refuse(court.other, 4, 9)
    assert not judgement.partition
    assert len(judgement.account) == 1


def test_far_below_what_the_account_takes_three_are_needed() -> None:
    """Two saturated models are refused together while the account has taken twice as many."""
    court = Court(level=100)
    court.refuse(court.one, 3, 50)
    assert not court.refuse(court.other, 4, 50).account
    assert len(court.refuse(Model(), 4, 50).account) == 3


def test_witnesses_are_told_once() -> None:
    """The second of a burst is told with the first, the third alone; one partition counts once."""
    court = Court()
    told = [len(court.refuse(Model(), 3, 12).account) for _ in range(2)]
    assert told == [0, 2]
    court = Court()
    court.limit.level = 12
    assert [len(court.refuse(court.one, 3, 12).account) for _ in range(3)] == [0, 0, 0]


def test_few_witnesses_are_kept() -> None:
    """A thousand models refused at once are all told to the account, and eight are weighed."""
    court = Court()
    burst = [court.tickets(1, upper) for upper in range(11, 1_011)]
    told = sum(len(court.hear(Model(), *tickets).account) for tickets in burst)
    assert told == len(burst)
    assert len(court.blame._suspects) <= SUSPECTS_KEPT


# -- The ceiling of a partition -----------------------------------------------------------------


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
