"""The successes of one client: what is remembered, what is not, and for how much memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.call.track_record import (
    COMBINATIONS_KEPT,
    NAME_KEPT,
    Circumstance,
    TrackRecord,
)
from comet_resilience.verdict.evidence import NOTHING, Worked

HERE = Circumstance(1, "https://g.test/v1", "POST /chat/completions", "m")


def test_nothing_is_known_at_first() -> None:
    assert TrackRecord().evidence(HERE, 0.0) == NOTHING


def test_a_success_is_evidence_for_its_key_model_and_place() -> None:
    record = TrackRecord()
    record.note_success(HERE, 10.0)
    record.note_success(HERE, 12.0)
    evidence = record.evidence(HERE, 15.0)
    assert evidence.key == evidence.model == evidence.place == Worked(times=2, ago=3.0)


@pytest.mark.parametrize(
    ("other", "known"),
    [
        (HERE._replace(model="other"), {"key", "place"}),
        (HERE._replace(credential=2), {"place"}),
        (HERE._replace(route="POST /responses"), {"key"}),
        (HERE._replace(base_url="https://other.test/v1"), {"key"}),
    ],
)
def test_a_success_proves_only_what_was_the_same(other: Circumstance, known: set[str]) -> None:
    record = TrackRecord()
    record.note_success(HERE, 1.0)
    evidence = record.evidence(other, 2.0)
    assert {name for name in ("key", "model", "place") if getattr(evidence, name)} == known


def test_a_public_route_proves_nothing_of_the_key() -> None:
    record = TrackRecord()
    record.note_success(HERE._replace(route="GET /models", model=""), 1.0)
    assert record.evidence(HERE, 2.0).key is None


def test_another_model_that_works_is_named() -> None:
    record = TrackRecord()
    record.note_success(HERE._replace(model="first"), 1.0)
    record.note_success(HERE._replace(model="second"), 2.0)
    record.note_success(HERE._replace(model="third", credential=2), 3.0)
    evidence = record.evidence(HERE, 5.0)
    assert (evidence.other_model, evidence.other) == ("second", Worked(times=1, ago=3.0))


def test_what_was_disproved_is_forgotten() -> None:
    record = TrackRecord()
    other = HERE._replace(model="other")
    for circumstance in (HERE, other):
        record.note_success(circumstance, 1.0)
    record.disprove_model(HERE)
    assert record.evidence(HERE, 2.0).model is None
    assert record.evidence(other, 2.0).model is not None
    record.disprove_place(HERE)
    assert record.evidence(other, 2.0) == NOTHING


@given(st.lists(st.integers(0, 400), max_size=600))
def test_the_latest_are_kept_and_memory_is_bounded(models: list[int]) -> None:
    record = TrackRecord()
    for now, model in enumerate(models):
        record.note_success(HERE._replace(model=f"m{model}"), float(now))
    kept = [m for m in set(models) if record.evidence(HERE._replace(model=f"m{m}"), 0.0).model]
    assert len(kept) <= COMBINATIONS_KEPT
    recent = list(dict.fromkeys(reversed(models)))[: COMBINATIONS_KEPT // 2]
    assert set(recent) <= set(kept)


def test_a_full_record_fits_in_64_kib() -> None:
    record = TrackRecord()
    for number in range(3 * COMBINATIONS_KEPT):
        name = f"{number:0{NAME_KEPT}}"
        record.note_success(HERE._replace(model=name, credential=hash(name)), 1e9 + number)
    assert sum(map(sys.getsizeof, _reachable(record))) <= 64 * 1_024


def test_a_name_of_no_model_is_not_kept() -> None:
    record = TrackRecord()
    record.note_success(HERE._replace(model="m" * (NAME_KEPT + 1)), 1.0)
    assert record.evidence(HERE, 2.0) == NOTHING


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_begins_with_nothing() -> None:
    record = TrackRecord()
    record.note_success(HERE, 1.0)
    child = os.fork()
    if child == 0:
        os._exit(0 if record.evidence(HERE, 2.0) == NOTHING else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert record.evidence(HERE, 2.0) != NOTHING


def _reachable(root: object) -> Iterator[object]:
    """All objects that belong to a record, each once; classes and shared constants are not its."""
    waiting, met = [root], set[int]()
    shared = {id(part) for part in HERE}
    while waiting:
        each = waiting.pop()
        if id(each) in met | shared or isinstance(each, type):
            continue
        met.add(id(each))
        yield each
        waiting += gc.get_referents(each)
