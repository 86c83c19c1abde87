"""Names of items: equal for equal keys, and a set of them that stays small."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.bulk import keys
from comet_resilience.bulk.keys import Names, name_of

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN, PLAIN)
def test_names_are_equal_exactly_for_equal_keys(one: Any, other: Any) -> None:
    """A name is one line of bounded length."""
    assert (name_of(one) == name_of(other)) is (repr(one) == repr(other) or _same(one, other))
    assert len(name_of(one)) <= 200
    assert b"\n" not in name_of(one)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: the order of a dict's keys does not count, 1 and true differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def test_what_json_does_not_know_needs_a_key() -> None:
    """The error says what to give."""
    with pytest.raises(TypeError, match=r"object cannot be the key .* pass key=\.\.\."):
        name_of(object())


@given(st.lists(st.binary(min_size=1, max_size=3)))
def test_it_is_a_set(names: list[bytes]) -> None:
    """``add`` tells the new ones from the known."""
    ours, theirs = Names(), set[bytes]()
    for name in names:
        assert ours.add(name) is (name not in theirs)
        theirs.add(name)


def test_a_match_across_two_entries_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests stand side by side; half of one and half of the next are no third."""
    digests = iter([b"xx" + b"a" * 7 + b"b" * 7, b"xx" + b"c" * 7 + b"d" * 7])
    crossing = b"xx" + b"b" * 7 + b"c" * 7

    class Digest:
        def __init__(self, *_: object, **__: object) -> None:
            self._given = next(digests, crossing)

        def digest(self) -> bytes:
            return self._given

    monkeypatch.setattr(keys, "blake2b", Digest)
    names = Names()
    assert [names.add(b"?") for _ in range(4)] == [True, True, True, False]


def test_it_stays_small() -> None:
    """A hundred thousand names are some megabytes; a ``set`` of digests takes more than ten."""
    tracemalloc.start()
    names = Names()
    for number in range(100_000):
        names.add(b"%d" % number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 14_000_000


DIFFERENT: list[Any] = [
    *(1, "1", True, 1.0, None, "null", False, 0, "true", -0.0, 0.0, "\ud800", "\udfff"),
    *({1: "a"}, {"1": "a"}, (1, 2), [1, 2], {None: 1}, {"null": 1}, {True: 2}, {"true": 2}),
    *(((1,), 2), ([1], 2), [(1,), 2], [[1], 2], {"tuple": [1, 2]}, {"dict": [[1, "a"]]}),
    *("x" * 300, json.loads(name_of("x" * 300)), (), [], {}),
]


def test_different_keys_have_different_names() -> None:
    """Also those that JSON alone would make the same; a name is JSON that stands for itself."""
    names = [name_of(key) for key in DIFFERENT]
    assert len(set(names)) == len(DIFFERENT)
    for name in names:
        json.loads(name)


def deep(levels: int) -> list[Any]:
    """A list in a list in a list."""
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "key", [float("nan"), {"a": float("nan")}, "\ud83d\ude00", {1, 2}, b"x", deep(100_000)],
    ids=["nan", "nan-inside", "pair", "set", "bytes", "deep"],
)  # fmt: skip
def test_keys_that_have_no_name_of_their_own_are_refused(key: object) -> None:
    """With what to give instead."""
    with pytest.raises(TypeError, match=r"cannot be the key .* pass key=\.\.\."):
        name_of(key)
