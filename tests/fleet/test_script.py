"""The script itself, on a real server: each share, and that their sum stays within the limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comet_resilience.fleet.message import Commit, ShareRequest

from .conftest import KEYS, Timed

TTL = 3.0


def request(member: str, want: int, share: int = 0, in_use: int = 0, **more: Any) -> ShareRequest:
    """A member's question, in a fleet whose limit begins with 20."""
    return ShareRequest(
        member=member, want=want, share=share, in_use=in_use, ttl=TTL, **{"limit": 20, **more}
    )


def settle(timed: Timed, wants: dict[str, int], rounds: int = 4, limit: int = 20) -> dict[str, int]:
    """Renew everybody's share a few times: what they end with."""
    shares = dict.fromkeys(wants, 0)
    for _ in range(rounds):
        for member, want in wants.items():
            reply = timed.send(request(member, want, shares[member], limit=limit))
            shares[member] = reply.share
        timed.now += 0.1
    return shares


@pytest.mark.parametrize(
    ("wants", "limit", "shares"),
    [
        ((30,), 20, [20]),
        ((30, 30), 20, [10, 10]),
        ((30, 2), 20, [18, 2]),
        ((30, 30, 1, 4), 20, [8, 7, 1, 4]),
        ((30, 30, 30), 20, [7, 7, 6]),
        ((30, 0, 0), 20, [20, 0, 0]),
        ((1, 1), 1, [1, 0]),
        ((30, 30), 0, [0, 0]),
        # Enough for all: what is wanted, and half as much again for those who come next.
        ((2, 2), 20, [4, 4]),
        ((0,), 20, [1]),
        ((9, 9), 20, [10, 10]),
    ],
)
def test_shares_are_max_min_fair_in_whole_slots(
    timed: Timed, wants: tuple[int, ...], limit: int, shares: list[int]
) -> None:
    members = {f"m{place}": want for place, want in enumerate(wants)}
    settled = settle(timed, members, limit=limit)
    assert sorted(settled.values(), reverse=True) == sorted(shares, reverse=True)
    for member, want in members.items():
        for other, others_want in members.items():
            if want > others_want and sum(wants) > limit:
                assert settled[member] >= settled[other]


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(0, 30),
        st.sampled_from([0.0, 0.05, 0.4, 2.9, 3.1]),
        st.sampled_from(["renew", "renew", "renew", "lost", "leave", "limit"]),
    ),
    max_size=40,
)


@given(moves=MOVES)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_never_more_is_held_than_the_limit_at_the_time_it_was_given(
    timed: Timed, moves: list[tuple[str, int, float, str]]
) -> None:
    """A member uses up to its share, however late it hears of a new one, until it runs out."""
    timed.db.flushall()
    shares: dict[str, tuple[int, float]] = {}
    limit = highest = 20
    for member, want, wait, what in moves:
        timed.now += wait
        shares = {m: (s, until) for m, (s, until) in shares.items() if until > timed.now}
        share = shares.get(member, (0, 0.0))[0]
        if what == "leave":
            timed.db.hdel(KEYS[0], member)
            shares.pop(member, None)
            continue
        commit = None
        if what == "limit":
            reply = timed.send(request(member, want, share, share))
            commit = Commit(version=reply.version, limit=want, epoch=reply.epoch + 1, state="{}")
        reply = timed.send(request(member, want, share, min(want, share), commit=commit))
        if commit is not None:
            limit = want
            highest = max(limit, sum(s for m, (s, _) in shares.items() if m != member) + share)
        if what == "lost":  # the answer got lost: it goes on with what it had
            if share:
                shares[member] = (share, timed.now + TTL)
            continue
        shares[member] = (reply.share, timed.now + TTL)
        total = sum(share for share, _ in shares.values())
        highest = max(limit, min(highest, total))
        assert total <= highest
        assert reply.share <= max(limit, share)


def test_asking_twice_changes_nothing(timed: Timed) -> None:
    timed.send(request("a", 30))
    timed.send(request("b", 30))
    first = timed.send(request("a", 30, 20))
    rows = timed.db.hgetall(KEYS[0])
    assert timed.send(request("a", 30, 20)) == first
    assert timed.db.hgetall(KEYS[0]) == rows


def test_a_share_that_is_lowered_stays_held_until_its_member_knows(timed: Timed) -> None:
    assert timed.send(request("a", 30)).share == 20
    assert timed.send(request("b", 30)).share == 0
    assert timed.send(request("a", 30, 20)).share == 10  # a may not have heard of it yet
    assert timed.send(request("b", 30)).share == 0
    assert timed.send(request("a", 30, 10)).share == 10
    assert timed.send(request("b", 30)).share == 10


def test_what_is_in_use_above_the_share_is_not_given_to_others(timed: Timed) -> None:
    timed.send(request("a", 30))
    timed.send(request("b", 30))
    timed.send(request("a", 30, 20, 20))
    timed.send(request("a", 30, 10, 15))
    assert timed.send(request("b", 30)).share == 5


def test_a_member_that_is_gone_returns_its_share_within_the_time_to_live(timed: Timed) -> None:
    timed.send(request("a", 30))
    timed.now += TTL - 0.1
    assert timed.send(request("b", 30)).share == 0
    timed.now += 0.2
    assert timed.send(request("b", 30)).share == 20
    assert list(timed.db.hgetall(KEYS[0])) == ["b"]


def test_a_member_that_leaves_returns_its_share_at_once(timed: Timed) -> None:
    timed.send(request("a", 30))
    timed._run(KEYS, [*ShareRequest(member="a").arguments(), 1, 0])
    assert timed.send(request("b", 30)).share == 20


def test_more_members_than_slots_take_turns(timed: Timed) -> None:
    members = [f"m{number}" for number in range(10)]
    shares = dict.fromkeys(members, 0)
    served = dict.fromkeys(members, 0.0)
    for _ in range(400):  # twenty seconds
        for member in members:
            shares[member] = timed.send(request(member, 8, shares[member], limit=5)).share
            assert sum(timed.held().values()) <= 5
        timed.now += 0.05
        for member in members:
            served[member] += shares[member] * 0.05
    total, squares = sum(served.values()), sum(time * time for time in served.values())
    assert min(served.values()) > 0
    assert total * total / (10 * squares) >= 0.95  # Jain
    assert total >= 0.9 * 5 * 20


def test_only_the_latest_version_can_be_committed(timed: Timed) -> None:
    sampler = timed.send(request("a", 5))
    commit = Commit(version=sampler.version, limit=7, epoch=3, state='{"x":1}')
    first = timed.send(request("a", 5, commit=commit))
    assert (first.committed, first.limit, first.epoch, first.state) == (True, 7, 3, '{"x":1}')
    again = timed.send(
        request("b", 5, commit=Commit(version=sampler.version, limit=9, epoch=9, state=""))
    )
    assert (again.committed, again.limit, again.epoch) == (False, 7, 3)


def test_how_many_do_not_know_of_the_epoch_yet(timed: Timed) -> None:
    for member in "abc":
        timed.send(request(member, 5))
    sampler = timed.send(request("a", 5))
    commit = Commit(version=sampler.version, limit=7, epoch=1, state="{}")
    assert timed.send(request("a", 5, commit=commit)).lagging == 2
    assert timed.send(request("b", 5, epoch=1)).lagging == 1
    assert timed.send(request("c", 5)).lagging == 0


def test_after_an_empty_restart_members_keep_what_they_claim_for_a_while(timed: Timed) -> None:
    timed.send(request("a", 30, 14, 14, learn=0.75, limit=20))
    assert timed.send(request("b", 30, 6, 6, learn=0.75, limit=20)).share == 6
    assert timed.send(request("c", 30, learn=0.75)).share == 0
    timed.now += 0.8
    timed.send(request("a", 30, 14, 14, learn=0.75))
    reply = timed.send(request("a", 30, 7, 7, learn=0.75))
    assert reply.share == 7
    assert reply.limit == 20
    assert timed.send(request("c", 30, learn=0.75)).share > 0


def test_after_a_long_silence_the_first_to_come_back_does_not_take_it_all(timed: Timed) -> None:
    assert sum(settle(timed, {"a": 30, "b": 30, "c": 30}).values()) == 20
    timed.now += 5  # the server was frozen: everybody has run out, and goes on with an even part
    for member in "abc":
        assert timed.send(request(member, 30, 6, 6, learn=0.75)).share == 6
        timed.now += 0.1
    timed.now += 0.75
    for member in "abc":
        timed.send(request(member, 30, 6, 6, learn=0.75))
    assert sum(timed.send(request(member, 30, 6, 6, learn=0.75)).share for member in "abc") == 20


@pytest.mark.parametrize("age", [0.0, 10_000.0])
@pytest.mark.parametrize("jump", [-3_600.0, -60.0, 60.0, 3_600.0])
def test_a_clock_that_jumps_takes_no_share_and_gives_none_twice(
    timed: Timed, jump: float, age: float
) -> None:
    settle(timed, {"a": 20, "b": 20})
    timed.now += age
    shares = {**settle(timed, {"a": 20, "b": 20}), "c": 0}
    assert sum(shares.values()) == 20
    timed.now += jump
    for member in 6 * "abc":
        reply = timed.send(request(member, 20, shares[member], learn=0.75))
        shares[member] = reply.share
        assert sum(timed.held().values()) <= 20
        assert sum(shares.values()) <= 20
        timed.now += 0.1
    assert sorted(shares.values()) == [6, 7, 7]


def test_what_a_silent_member_had_in_flight_is_not_counted_for_long(timed: Timed) -> None:
    timed.send(request("a", 5, 5, 5))
    timed.now += TTL / 2 - 0.1
    assert timed.send(request("b", 5)).in_use == 5
    timed.now += 0.2
    reply = timed.send(request("b", 5))
    assert (reply.in_use, reply.members) == (0, 2)  # its share is still kept for it


def test_the_others_and_the_rest_are_summed_up(timed: Timed) -> None:
    timed.send(request("a", 3, 3, 3, rate=2.5))
    timed.send(request("b", 30, 0, 0, rate=1.0))
    reply = timed.send(request("c", 1))
    assert (reply.members, reply.in_use, reply.rate) == (3, 3, 3.5)
    assert reply.contended
    assert reply.now == timed.now


@pytest.mark.parametrize(
    "row",
    [
        "", "garbage", "::::::::", "-1:0:0:0:0:0:0:0", "nan:1:1:1:1:1:1:1", "1e99:5:5:5:5:5:5:5",
        "9" * 400 + ":1:1:1:1:1:1:1", "\x00\xff",
    ],
)  # fmt: skip
def test_rows_that_are_not_ours_are_removed(timed: Timed, row: str) -> None:
    timed.db.hset(KEYS[0], "evil", row)
    assert timed.send(request("a", 30)).share == 20
    assert list(timed.db.hgetall(KEYS[0])) == ["a"]


@pytest.mark.parametrize("name", ["limit", "version", "epoch", "born"])
@pytest.mark.parametrize("value", ["", "garbage", "nan", "-5", "-inf", "1e309"])
def test_a_damaged_limit_is_brought_back_into_bounds(timed: Timed, name: str, value: str) -> None:
    timed.send(request("a", 30))
    timed.db.hset(KEYS[1], name, value)
    for _ in range(3):
        reply = timed.send(request("a", 30, 20), maximum=50)
        assert 0 <= reply.share <= reply.limit <= 50


def test_a_limit_with_the_highest_version_can_still_be_committed(timed: Timed) -> None:
    """One more would be out of bounds for every member that reads it."""
    timed.send(request("a", 30))
    timed.db.hset(KEYS[1], "version", "1e309")
    reply = timed.send(request("a", 30))
    commit = Commit(version=reply.version, limit=10, epoch=1, state="{}")
    reply = timed.send(request("a", 30, commit=commit))
    assert (reply.committed, reply.limit) == (True, 10)


def test_a_member_without_bounds_spoils_no_reply(timed: Timed) -> None:
    row = f"{timed.now * 1000 + 1000:.0f}:1:1:1:1:1:1:" + "9" * 400
    timed.db.hset(KEYS[0], "evil", row)
    assert timed.send(request("a", 30)).members == 2


def test_keys_expire_without_members(timed: Timed) -> None:
    timed.send(request("a", 30))
    for key in KEYS:
        assert 0 < timed.db.pttl(key) <= 20 * TTL * 1000
