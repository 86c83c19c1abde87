"""The queue of a partition: order within a priority, nobody starves, nobody is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.queue import OVERTAKEN_MOST, Queue

PRIORITIES = (-5, 0, 1, 10)


@dataclass(eq=False, slots=True)
class One:
    """One who waits, as the queue sees it."""

    order: int
    priority: int = 0
    left: bool = False

    def __lt__(self, other: One) -> bool:
        return self.order < other.order


def queue_of(*priorities: int) -> Queue[One]:
    """Several who came in this order."""
    queue: Queue[One] = Queue()
    for order, priority in enumerate(priorities):
        queue.push(One(order, priority))
    return queue


def taken(queue: Queue[One], count: int) -> list[int]:
    """The priorities of the next few."""
    return [queue.pop().priority for _ in range(count)]


def test_the_higher_priority_goes_first() -> None:
    """The lower number, whenever it came."""
    assert taken(queue_of(10, 0, -5, 0, 10), 5) == [-5, 0, 0, 10, 10]


def test_one_who_is_overtaken_eight_times_is_next() -> None:
    """Then eight of the others again."""
    queue = queue_of(*[10] * 3, *[0] * 30)
    assert taken(queue, 20) == [*[0] * 8, 10, *[0] * 8, 10, 0, 0]


def test_each_lower_priority_has_its_turn() -> None:
    """The one that was overtaken most often first, also where the lowest is not the next."""
    queue = queue_of(*[10] * 3, *[5] * 30, *[0] * 30)
    assert taken(queue, 20) == [*[0] * 8, 5, 10, *[0] * 8, 5, 10]


def test_who_is_next_stays_next_until_somebody_is_served() -> None:
    """To look changes nothing."""
    queue = queue_of(10, *[0] * 9)
    for _ in range(9):
        assert queue.head() is queue.head()
        queue.pop()
    assert queue.head().priority == 0


def test_a_new_arrival_has_those_of_lower_priorities_behind_it() -> None:
    """Ahead of it are those who go before it unless more come."""
    queue = queue_of(10, 10, 0, 0, 0, -5)
    assert [queue.ahead_of(priority) for priority in (-10, -5, 0, 5, 10)] == [0, 1, 4, 4, 6]


def test_how_many_wait_is_told_by_priority_where_that_says_anything() -> None:
    """The first to go first; nothing while all have the usual one."""
    assert queue_of(0, 0).by_priority() == ()
    assert queue_of().by_priority() == ()
    assert queue_of(10, 0, 10).by_priority() == ((0, 1), (10, 2))
    assert queue_of(10).by_priority() == ((10, 1),)


#: What happens to a queue: somebody arrives, the next is served and may come back, somebody leaves.
_events = st.one_of(
    st.tuples(st.just("arrive"), st.sampled_from(PRIORITIES)),
    st.tuples(st.just("serve"), st.booleans()),
    st.tuples(st.just("leave"), st.integers(0, 50)),
)


@given(st.lists(_events, max_size=200))
def test_any_sequence_keeps_order_loses_nobody_and_starves_nobody(
    events: list[tuple[str, int]],
) -> None:
    """Against a plain list of those who wait."""
    queue: Queue[One] = Queue()
    waiting: list[One] = []
    passed: Counter[int] = Counter()  # pops since a priority was served last, or began to wait
    for serial, (what, value) in enumerate(events):
        if what == "arrive":
            one = One(serial, value)
            queue.push(one)
            waiting.append(one)
        elif what == "leave" and waiting:
            one = waiting.pop(value % len(waiting))
            queue.leave(one)
        elif what == "serve" and waiting:
            head = queue.head()
            one = queue.pop()
            assert one is head
            assert one is min(other for other in waiting if other.priority == one.priority)
            waiting.remove(one)
            passed.update({other.priority for other in waiting} - {one.priority})
            del passed[one.priority]
            if value:  # a retry: the same order, so the first of its priority
                again = One(one.order, one.priority)
                queue.push(again)
                waiting.append(again)
        for priority in set(passed) - {one.priority for one in waiting}:
            del passed[priority]
        assert max(passed.values(), default=0) <= OVERTAKEN_MOST + 2 * (len(PRIORITIES) - 1)
        assert sorted(queue, key=id) == sorted(waiting, key=id)


@given(st.integers(1, 40), st.lists(st.sampled_from(PRIORITIES[:3]), min_size=400, max_size=400))
def test_an_endless_stream_of_urgent_ones_does_not_starve_the_last(
    waiting: int, urgent: list[int]
) -> None:
    """As many arrive as are served, all of them more urgent than those who wait."""
    queue = queue_of(*[10] * waiting)
    served = 0
    for order, priority in enumerate(urgent, waiting):
        queue.push(One(order, priority))
        served += queue.pop().priority == 10
    assert served >= min(waiting, len(urgent) // (OVERTAKEN_MOST + len(PRIORITIES)))


def test_work_for_each_is_logarithmic_however_many_wait() -> None:
    """Counted in comparisons, not in seconds: ten thousand of two priorities."""
    compared = 0

    class Counted(One):
        def __lt__(self, other: One) -> bool:
            nonlocal compared
            compared += 1
            return self.order < other.order

    queue: Queue[One] = Queue()
    many = [Counted(order, 10 * (order % 2)) for order in range(10_000)]
    for one in many:
        queue.push(one)
    for one in many[::3]:
        queue.leave(one)
    left = [queue.pop() for _ in range(len(many) - len(many[::3]))]
    assert len(set(map(id, left))) == len(left)
    assert compared <= 40 * len(many)


def test_places_of_those_who_left_are_given_up() -> None:
    """A few are kept, and none once nobody waits."""
    queue: Queue[One] = Queue()
    many = [One(order, 10 * (order % 2)) for order in range(1_000)]
    for one in many:
        queue.push(one)
    for one in many[2:]:
        queue.leave(one)
    assert queue.places <= 2 * 68
    assert list(queue) == many[:2]
    for one in many[:2]:
        queue.leave(one)
    assert (queue.places, list(queue)) == (0, [])


def test_one_that_is_put_first_is_the_next_of_its_priority() -> None:
    """That is its turn: others are overtaken by it, and nobody is counted twice."""
    queue = queue_of(0, 0, 0, 10)
    *_, last, low = queue
    queue.put_first(last)
    assert (queue.head(), queue.ahead_of(10), queue.places) == (last, 4, 4)
    assert [queue.pop().order for _ in range(4)] == [2, 0, 1, low.order]


def test_one_that_was_put_first_and_left_stands_in_nobodys_way() -> None:
    """And whoever is served out of the order gives up its place as well."""
    queue = queue_of(0, 0, 0)
    *_, last = queue
    queue.put_first(last)
    queue.leave(last)
    assert [queue.pop().order for _ in range(2)] == [0, 1]
    many: Queue[One] = Queue()
    for order in range(1_000):
        many.push(One(order))
    for one in sorted(many, key=lambda one: -one.order)[:-1]:
        many.put_first(one)
        assert many.pop() is one
    assert many.places <= 2 + 64
    assert many.pop().order == 0


def test_the_latest_that_fits_is_found_without_looking_at_all_again() -> None:
    """Those of another priority are not meant, nor those who left; none is looked at twice."""
    queue = queue_of(*[0] * 500, *[10] * 500)
    asked: list[int] = []

    def is_even(one: One) -> bool:
        asked.append(one.order)
        return one.order % 2 == 0 and one.order < 400

    found = []
    while (one := queue.latest(0, is_even)) is not None:
        found.append(one.order)
        queue.leave(one)
    assert found == list(range(398, -1, -2))
    assert len(asked) == len(set(asked)) == 500
    assert [queue.pop().order for _ in range(3)] == [1, 3, 5]
