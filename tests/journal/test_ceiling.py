"""The ceiling of an account, as its models' refusals show it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from comet_resilience.cli.saturation.page import page
from comet_resilience.cli.saturation.words import as_text, details
from comet_resilience.journal.ceiling import ACCOUNTS, Accounts
from comet_resilience.journal.sample import Above, Sample
from comet_resilience.journal.saturation import Saturation, analyse

from .test_saturation import REFUSED, line


def journal_of(refuses: Any, **changes: Any) -> Saturation:
    """Return what is found where ``refuses`` decides by what each of two models has in flight."""
    draw, lines = Random(4), list[bytes]()
    for number in range(600):
        one, other = draw.randint(1, 9), draw.randint(0, 9)
        model = "ab"[number % 2]
        above: dict[str, Any] = {
            "account": "account 2", "account_in_flight": one + other, "account_limit": 12,
        }  # fmt: skip
        refused = REFUSED if refuses(model, one, one + other) else {}
        lines.append(line(number / 10, model=model, in_flight=one, **above | refused | changes))
    return analyse(lines)


def test_models_refused_in_common_show_the_ceiling_of_their_account() -> None:
    """In words, in the table and on the page: at how many over all models."""
    found = journal_of(lambda _model, _own, overall: overall > 10)
    [ceiling] = found.accounts
    assert (ceiling.account, ceiling.models, ceiling.attempts) == ("account 2", 2, 600)
    assert (ceiling.level.holds, ceiling.level.share_above) == (10, 1.0)
    assert ceiling.first.in_flight > 10
    assert ceiling.refused == found.refused
    said = details(found)
    assert (
        'The ceiling of the account itself ("account 2") was met: 2 of its routes and models'
        in said
    )
    assert "up to 10 in flight over all of them" in said
    [row] = [row for row in as_text(found, "").splitlines() if row.startswith("   account 2")]
    assert row.split()[-1] == "10"
    assert len(row) <= 80
    assert '<td class="word">account 2</td><td class="word">all of its models</td>' in page(found)


@pytest.mark.parametrize(
    "refuses",
    [
        lambda model, own, _overall: own > {"a": 3, "b": 6}[model],
        lambda _model, own, _overall: own > 5,
        lambda model, _own, overall: model == "a" and overall > 10,
        lambda _model, _own, _overall: False,
    ],
    ids=["of each model", "the same of each", "of one model alone", "none"],
)
def test_ceilings_of_models_are_not_taken_for_their_accounts(refuses: Any) -> None:
    """Nor where one model alone was refused, whatever the account had in flight."""
    found = journal_of(refuses)
    assert found.accounts == ()
    assert "ceiling" not in details(found)


@pytest.mark.parametrize(
    "changes",
    [{"account": None}, {"account": 7}, {"account_in_flight": "x"}, {"account_limit": -1}],
    ids=str,
)
def test_lines_without_an_account_say_nothing_of_one(changes: dict[str, Any]) -> None:
    """Yet they count for their models."""
    found = journal_of(lambda _model, _own, overall: overall > 10, **changes)
    assert found.accounts == ()
    assert (found.attempts, found.malformed) == (600, 0)


def test_accounts_without_number_are_not_kept() -> None:
    """Whoever wrote the journal: memory is bounded."""
    accounts = Accounts()
    for number in range(8 * 3 * ACCOUNTS):
        at = number % 8
        above = Above(f"account {number // 8}", at, 9)
        key = ("route", "ab"[number % 2])
        accounts.add(Sample(number, number, key, at > 3, False, 1, 9, 0, above))
    met = accounts.met(rates=())
    assert [ceiling.level.holds for ceiling in met] == [3] * ACCOUNTS
    assert accounts.met(rates={("route", "a")}) == ()
