"""The ring of an account: the urgent first, then those that hold less, in turn; nobody starves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.queue import OVERTAKEN_MOST
from comet_resilience.limits.ring import Ring

PRIORITIES = (-5, 0, 10)
MEMBERS = "abcdef"


def ring_of(*members: tuple[str, int]) -> Ring[str]:
    """Members at their priorities, placed in this order."""
    ring: Ring[str] = Ring()
    for member, priority in members:
        ring.place(member, priority, 0)
    return ring


def turns(ring: Ring[str], priorities: dict[str, int], count: int) -> str:
    """Serve so many; whoever was served stands again where it stood."""
    served = ""
    for _ in range(count):
        member = ring.pop()
        served += member
        ring.place(member, priorities[member], 0)
    return served


def test_members_of_one_priority_take_turns() -> None:
    """Whoever was served stands behind the others."""
    priorities = dict.fromkeys("abc", 0)
    assert turns(ring_of(*priorities.items()), priorities, 7) == "abcabca"


def test_the_urgent_go_first_and_the_others_are_overtaken_eight_times() -> None:
    """As in the queue of one partition."""
    priorities = {"a": 10, "b": 0, "c": 0}
    assert turns(ring_of(*priorities.items()), priorities, 10) == "bcbcbcbcab"


def test_who_has_something_urgent_now_stands_with_the_urgent() -> None:
    """Last among them; to be placed again at the same priority changes nothing."""
    ring = ring_of(("a", 10), ("b", 0), ("c", 0))
    ring.place("b", 0, 0)
    ring.place("a", -5, 0)
    assert [ring.pop(), ring.pop(), ring.pop()] == ["a", "b", "c"]
    assert not ring


def test_who_holds_less_goes_first_and_keeps_its_turn() -> None:
    """Those that hold as much take turns, in the order in which they came."""
    ring = ring_of(("a", 0), ("b", 0), ("c", 0))
    ring.place("a", 0, 1)
    ring.place("b", 0, 2)
    assert ring.head() == "c"
    ring.place("c", 0, 1)
    assert ring.head() == "a"
    ring.place("d", 10, 0)
    ring.place("b", 0, 1)
    assert [ring.pop() for _ in range(4)] == ["a", "b", "c", "d"]


def test_who_leaves_is_passed_over() -> None:
    """Also one that was never there."""
    ring = ring_of(("a", 0), ("b", 0))
    ring.leave("a")
    ring.leave("x")
    assert (ring.head(), len(ring), list(ring)) == ("b", 1, ["b"])
    assert ring.priority_of("b") == 0


def waits(events: Iterable[str], member: str) -> int:
    """The turns of others until a member is served."""
    return next(turn for turn, served in enumerate(events) if served == member)


@given(
    st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(PRIORITIES), min_size=2),
    st.data(),
)
def test_any_ring_serves_everybody_within_bounds(
    priorities: dict[str, int], data: st.DataObject
) -> None:
    """Each member within the turns that its priority is overtaken, times those beside it."""
    ring = ring_of(*priorities.items())
    served = turns(ring, priorities, data.draw(st.integers(0, 30)))
    served = turns(ring, priorities, 400)
    beside = Counter(priorities.values())
    for member, priority in priorities.items():
        bound = (OVERTAKEN_MOST + len(PRIORITIES)) * beside[priority]
        assert waits(served, member) <= bound
        assert served.count(member) >= len(served) // bound - 1


_events = st.one_of(
    st.tuples(st.just("place"), st.sampled_from(MEMBERS), st.sampled_from(PRIORITIES)),
    st.tuples(st.just("leave"), st.sampled_from(MEMBERS), st.just(0)),
    st.tuples(st.just("serve"), st.just(""), st.just(0)),
)


@given(st.lists(_events, max_size=150))
def test_any_sequence_keeps_order_and_loses_nobody(events: list[tuple[str, str, int]]) -> None:
    """Against a list of members in the order in which they came to their priority."""
    ring: Ring[str] = Ring()
    model: list[tuple[str, int]] = []
    for what, member, priority in events:
        if what == "place" and (member, priority) not in model:
            model = [one for one in model if one[0] != member] + [(member, priority)]
        if what == "place":
            ring.place(member, priority, 0)
        elif what == "leave":
            model = [one for one in model if one[0] != member]
            ring.leave(member)
        elif model:
            first = ring.head()
            at = ring.priority_of(first)
            assert first == next(one for one, priority in model if priority == at)
            assert ring.pop() == first
            model.remove((first, at))
        assert sorted(ring) == sorted(one for one, _ in model)
