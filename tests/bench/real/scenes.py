"""The scenes: load, what happens, and what has to be reached."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from comet_resilience.fleet.pace import time_to_live

from ..sim.result import jain
from .crew import Crew, Done, percentile
from .member import Order, Report
from .record import Record

#: Seconds at the beginning that do not count.
START: Final = 2.0
CAP: Final = 20
WORKERS: Final = 48
MODELS: Final = 30
BUDGET: Final = 300
#: Runs of at least so many seconds are in full length.
FULL_LENGTH: Final = 10.0
_OUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; ``holds`` is ``None`` where nothing has to be reached."""

    what: str
    measured: str
    reach: str = ""
    holds: bool | None = None


Scene = Callable[[Crew, float], Iterator[Line]]


def _orders(
    members: int, fixed: int | None = CAP, workers: int = WORKERS, models: int = 0
) -> list[Order]:
    """Orders of an even load, so many workers in all."""
    order = Order(url="", account="", begins=0, ends=0, workers=0, fixed=fixed, models=models)
    parts = [workers // members + (member < workers % members) for member in range(members)]
    return [replace(order, workers=part) for part in parts]


def _at_most(what: str, measured: float, reach: float, form: str = ".2f") -> Line:
    return Line(what, format(measured, form), f"<= {reach:g}", measured <= reach)


def _at_least(what: str, measured: float, reach: float, form: str = ".3f") -> Line:
    return Line(what, format(measured, form), f">= {reach:g}", measured >= reach)


def _most(record: Record, cap: int = CAP) -> Line:
    most = record.most()
    return Line("most in flight", f"{most}", f"<= {cap}", most <= cap)


def _waits(reports: Sequence[Report], crew: Crew, what: str = "wait for a slot") -> Line:
    since = crew.begins + START
    waits = [wait for report in reports for at, wait in report.waits if at >= since]
    shown = f"{statistics.mean(waits):.3f} / {percentile(waits, 0.99):.2f} / {max(waits):.2f} s"
    return Line(f"{what}, mean / p99 / longest", shown)


def _errors(done: Done) -> Line:
    errors = [error for report in done.reports for error in report.errors]
    return Line("requests that failed", f"{len(errors)} {errors[:1] or ''}", "0", not errors)


def _calls(done: Done, begins: float, since: float, until: float) -> list[float]:
    return [
        took for report in done.reports for at, took in report.calls if since <= at - begins < until
    ]


def even(crew: Crew, seconds: float, models: int = 0) -> Iterator[Line]:
    """Six processes alike."""
    counted: list[tuple[int, float]] = []

    def count() -> None:
        counted.append(crew.commands())

    orders = _orders(6, models=models)
    done = crew.play(orders, seconds, [(START, count), (seconds, count)])
    (calls, cpu), (calls_after, cpu_after) = counted
    calls = calls_after - calls
    requests = sum(done.record.served(START).values())
    firsts = [report.waits[0][1] for report in done.reports]
    window = seconds - START
    yield _most(done.record)
    yield _at_least("utilisation", done.record.mean(START) / CAP, 0.93)
    yield _at_most("commands per request", calls / requests, 3 if models else 1.5)
    yield _at_most("renewals a second per process", calls / window / 6, 20, ".1f")
    yield Line("requests a second", f"{requests / window:.0f}")
    yield Line("server's CPU per command", f"{1e6 * (cpu_after - cpu) / calls:.0f} us")
    yield Line("first slot of a new process", f"{1000 * max(firsts):.0f} ms (slowest of 6)")
    yield _waits(done.reports, crew)
    yield _errors(done)


def hot(crew: Crew, seconds: float) -> Iterator[Line]:
    """All in one of six; the others ask once a second."""
    orders = [replace(order, workers=1, think=1.0) for order in _orders(6)]
    orders[0] = replace(orders[0], workers=WORKERS, think=0.0)
    done = crew.play(orders, seconds)
    yield _most(done.record)
    yield _at_least("utilisation", done.record.mean(START) / CAP, 0.95)
    yield _waits(done.reports[:1], crew, "wait in the hot one")
    yield _waits(done.reports[1:], crew, "wait in the others")
    yield _errors(done)


def flip(crew: Crew, seconds: float) -> Iterator[Line]:
    """Bursts that flip between two halves of six each two seconds."""
    halves = ((0.0, 2.0), (2.0, 4.0))
    orders = [
        replace(order, workers=WORKERS // 3, active=halves[member % 2], period=4.0)
        for member, order in enumerate(_orders(6))
    ]
    done = crew.play(orders, seconds)
    whole = START + (seconds - START) // 4 * 4
    yield _most(done.record)
    yield _at_least("utilisation", done.record.mean(START, whole) / CAP, 0.80)
    yield _waits(done.reports, crew)
    yield _errors(done)


def kill(crew: Crew, seconds: float, models: int = 0) -> Iterator[Line]:
    """One of four is killed (kill -9)."""
    when = 4.0
    orders = _orders(4, models=models)
    done = crew.play(orders, max(seconds, 10.0), [(when, lambda: crew.kill(0))])
    full = done.record.full_after(when, 0.97 * CAP)
    yield _most(done.record)
    yield _at_least("in flight while its share is lost", done.record.mean(when + 0.5, when + 2), 14)
    yield _at_most("full again after", full if full is not None else 99.0, time_to_live(4) + 0.5)
    yield _errors(done)


def freeze(crew: Crew, seconds: float, models: int = 0) -> Iterator[Line]:
    """SIGSTOP of the server for five seconds."""
    stop, go_on = 4.0, 4.0 + _OUT
    done = crew.play(
        _orders(6, models=models),
        max(seconds, 12.5),
        [(stop, crew.redis.freeze), (go_on, crew.redis.thaw)],
    )
    record = done.record
    before = _calls(done, crew.begins, START, stop)
    during = _calls(done, crew.begins, stop, go_on)
    added = 1000 * (percentile(during, 0.99) - percentile(before, 0.99))
    back = record.full_after(go_on, 0.9 * CAP)
    yield _most(record)
    yield _errors(done)
    yield _at_least(
        "least mean in flight in 0.25 s", record.least_mean(stop, go_on, 0.25), 15, ".1f"
    )
    yield Line(
        "mean in flight by second",
        " ".join(
            f"{record.mean(stop + second, stop + second + 1):.1f}" for second in range(int(_OUT))
        ),
    )
    yield _at_most("p99 of acquire and release slower by, ms", added, 1.0, ".3f")
    yield Line(
        "p99 before, during",
        " , ".join(f"{1e6 * percentile(part, 0.99):.0f} us" for part in (before, during)),
    )
    yield _at_most("0.9 of all in flight again after, s", 99.0 if back is None else back, 1.0)


def restart(crew: Crew, seconds: float, models: int = 0) -> Iterator[Line]:
    """The server is killed (kill -9), and comes back empty after five seconds."""
    stop, start = 4.0, 4.0 + _OUT
    done = crew.play(
        _orders(6, models=models),
        max(seconds, 13.5),
        [(stop, crew.redis.kill), (start, crew.redis.start)],
    )
    record = done.record
    back = record.full_after(start, 0.97 * CAP)
    yield _at_most("most in flight", record.most(), 1.1 * CAP, "d")
    yield Line("least mean in flight in 0.25 s", f"{record.least_mean(stop, start, 0.25):.1f}")
    yield _at_most("full again after, s", 99.0 if back is None else back, 2.5)
    yield _errors(done)


def dip(crew: Crew, seconds: float) -> Iterator[Line]:
    """The gateway takes 12 instead of 20 for 150 ms: runs of their own, one after the other."""
    runs = 20 if seconds >= FULL_LENGTH else 5
    dips = [_one_dip(crew, seed) for seed in range(runs)]
    epochs, lowest, refusals = zip(*dips, strict=True)
    once = sum(epoch == 1 for epoch in epochs)
    yield Line("runs with exactly one decrease", f"{once} of {runs}", f"{runs}", once == runs)
    yield Line("decreases", " ".join(map(str, epochs)))
    yield Line("lowest limit", " ".join(map(str, lowest)))
    yield Line("refusals", " ".join(map(str, refusals)))


def _one_dip(crew: Crew, seed: int) -> tuple[int, int, int]:
    """How often the fleet stepped back, its lowest limit, and how many were refused."""
    orders = [replace(order, initial=CAP, most=CAP, seed=seed) for order in _orders(10, None)]
    begins, ends = 1.5, 1.65
    seen: list[dict[str, str]] = []

    def look() -> None:
        if not seen:
            crew.gateway.dip(12, crew.begins + begins, crew.begins + ends)
        seen.append(crew.control())

    events = [(begins - 0.3, look), *((ends + 0.05 * tick, look) for tick in range(20))]
    done = crew.play(orders, ends + 1.2, events, capacity=CAP)
    decreases = int(seen[-1]["epoch"]) - int(seen[0]["epoch"])
    return decreases, min(int(control["limit"]) for control in seen), done.record.refused(begins)


def cap5(crew: Crew, seconds: float) -> Iterator[Line]:
    """Ten processes, a limit of five."""
    seconds = 2 * seconds
    done = crew.play(_orders(10, 5), seconds)
    served = done.record.served()
    counts = [served[member] for member in range(10)]
    yield _most(done.record, 5)
    yield Line("processes served", f"{sum(map(bool, counts))} of 10", "10", all(counts))
    yield _at_least("Jain", jain(counts), 0.93)
    yield Line("utilisation", f"{done.record.mean(START) / 5:.3f}")
    yield _waits(done.reports, crew)
    yield _errors(done)


def join(crew: Crew, seconds: float) -> Iterator[Line]:
    """A sixth process comes while five have all slots."""
    orders = _orders(6)
    orders[5] = replace(orders[5], active=(3.0, 1e9))
    done = crew.play(orders, 6.0)
    firsts = min(done.reports[5].waits)[1]
    yield _most(done.record)
    yield Line("its first slot after", f"{1000 * firsts:.0f} ms")
    yield Line("utilisation afterwards", f"{done.record.mean(3.0) / CAP:.3f}")


def adapt(crew: Crew, seconds: float) -> Iterator[Line]:
    """Ten saturated processes find a hidden capacity of 20: k_10proc, in real time."""
    seconds = 6 * seconds
    orders = [replace(order, workers=12, service=0.5, spread=1.0) for order in _orders(10, None)]
    done = crew.play(orders, seconds, capacity=CAP)
    record = done.record
    served = record.served()
    per_100 = 100 * record.refused() / sum(served.values())
    yield _at_most("refused per 100 successes", per_100, 2.5)
    yield Line(
        "the same after 10 s", f"{100 * record.refused(10) / sum(record.served(10).values()):.2f}"
    )
    yield Line("in flight, of what is there", f"{record.mean(START) / CAP:.3f}")
    yield Line("Jain", f"{jain([served[member] for member in range(10)]):.3f}")
    yield _errors(done)


def account(crew: Crew, seconds: float) -> Iterator[Line]:
    """Four processes and thirty models find an account's hidden capacity of 20."""
    seconds = 6 * seconds
    counted: list[int] = []

    def count() -> None:
        counted.append(crew.commands()[0])

    orders = [replace(order, service=0.5, spread=1.0) for order in _orders(4, None, models=MODELS)]
    done = crew.play(orders, seconds, [(START, count), (seconds, count)], capacity=CAP)
    record = done.record
    served = record.served()
    yield _at_most("refused per 100 successes", 100 * record.refused() / sum(served.values()), 3)
    yield _at_least("in flight, of what is there", record.mean(START) / CAP, 0.95)
    yield _at_most(
        "commands per request", (counted[1] - counted[0]) / sum(record.served(START).values()), 3
    )
    yield Line("requests a second", f"{sum(record.served(START).values()) / (seconds - START):.0f}")
    yield Line("Jain", f"{jain([served[member] for member in range(4)]):.3f}")
    yield _errors(done)


def account_even(crew: Crew, seconds: float) -> Iterator[Line]:
    """As ``even``, over thirty models under an account of 20."""
    yield from even(crew, seconds, MODELS)


def account_kill(crew: Crew, seconds: float) -> Iterator[Line]:
    """As ``kill``, over thirty models under an account of 20."""
    yield from kill(crew, seconds, MODELS)


def account_freeze(crew: Crew, seconds: float) -> Iterator[Line]:
    """As ``freeze``, over thirty models under an account of 20."""
    yield from freeze(crew, seconds, MODELS)


def account_restart(crew: Crew, seconds: float) -> Iterator[Line]:
    """As ``restart``, over thirty models under an account of 20."""
    yield from restart(crew, seconds, MODELS)


def _budget(crew: Crew, seconds: float, *events: tuple[float, Callable[[], object]]) -> Done:
    order = replace(_orders(4, fixed=1_000)[0], budget=BUDGET)
    return crew.play([order] * 4, seconds, events)


def _spent(record: Record, since: float, until: float) -> Iterator[Line]:
    """Lines for a bucket of the budget's rate that holds ten, and for the fullest minute."""
    rate = BUDGET / 60
    level, at, refused = 10.0, 0.0, 0
    times = record.taken()
    for when in times:
        level, at = min(10.0, level + rate * (when - at)), when
        if level < 1:
            refused += 1
        else:
            level -= 1
    fullest = max(bisect_left(times, when + 60) - place for place, when in enumerate(times))
    yield _at_least("of the rate", len(record.taken(since, until)) / (rate * (until - since)), 0.97)
    yield Line("refused by a bucket that holds ten", f"{refused}", "0", refused == 0)
    yield Line("fullest minute", f"{fullest} of {BUDGET}")


def budget(crew: Crew, seconds: float) -> Iterator[Line]:
    """Four processes are told 300 requests a minute for all of them."""
    counted: list[int] = []

    def count() -> None:
        counted.append(crew.commands()[0])

    seconds = 7.5 * seconds
    done = _budget(crew, seconds, (START, count), (seconds, count))
    yield from _spent(done.record, START, seconds)
    sent = len(done.record.taken(START))
    # One of them draws, the others renew the slots, as often as without a budget.
    yield _at_most("commands per request", (counted[1] - counted[0]) / sent, 3)
    served = done.record.served()
    yield Line("Jain", f"{jain([served[member] for member in range(4)]):.3f}")
    yield _errors(done)


def budget_kill(crew: Crew, seconds: float) -> Iterator[Line]:
    """The same, and one of the four is killed (kill -9)."""
    done = _budget(crew, 3 * seconds, (8.0, lambda: crew.kill(0)))
    yield from _spent(done.record, 8.0, 3 * seconds)
    yield _errors(done)


def budget_freeze(crew: Crew, seconds: float) -> Iterator[Line]:
    """The same, and the server is frozen (SIGSTOP) for five seconds."""
    stop, go_on = 8.0, 8.0 + _OUT
    done = _budget(crew, 3 * seconds, (stop, crew.redis.freeze), (go_on, crew.redis.thaw))
    yield from _spent(done.record, START, 3 * seconds)
    yield _errors(done)


def budget_restart(crew: Crew, seconds: float) -> Iterator[Line]:
    """The same, and the server is killed (kill -9), and comes back empty after five seconds."""
    stop, start = 8.0, 8.0 + _OUT
    done = _budget(crew, 3 * seconds, (stop, crew.redis.kill), (start, crew.redis.start))
    yield from _spent(done.record, START, 3 * seconds)
    yield _errors(done)


_OF_ONE_MODEL: Final = (even, hot, flip, kill, freeze, restart, join, dip, cap5, adapt)
_OF_ACCOUNTS: Final = (account, account_even, account_kill, account_freeze, account_restart)
_OF_BUDGETS: Final = (budget, budget_kill, budget_freeze, budget_restart)
SCENES: Final[dict[str, Scene]] = {
    scene.__name__: scene for scene in (*_OF_ONE_MODEL, *_OF_ACCOUNTS, *_OF_BUDGETS)
}
