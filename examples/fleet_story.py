"""The story of the fleet, second by second, and the words for it."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from comet_resilience.testing import Sample

#: The processes report at these distances, in seconds.
STEP = 0.05
#: The fleet counts as full again once it has used so much of the cap for so many steps.
FULL, FOR = 0.95, 8


@dataclass(frozen=True)
class Plan:
    """When what happens, in seconds; five of twenty-five seconds without Redis, to scale."""

    end: float

    @property
    def killed(self) -> float:
        """One process is killed."""
        return self.end * 8 / 25

    @property
    def frozen(self) -> float:
        """Redis stops answering."""
        return self.end * 15 / 25

    @property
    def thawed(self) -> float:
        """Redis goes on as if nothing had been."""
        return self.end * 20 / 25


@dataclass(frozen=True, kw_only=True)
class Report:
    """Where one process stood at a moment; all counts are since its start."""

    at: float = 0.0
    in_flight: int = 0
    share: int = 0
    state: str = "joining"
    attempts: int = 0
    refused: int = 0
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Story:
    """All there is to show: reports by process, and what the gateway saw. Times are seconds."""

    plan: Plan
    cap: int
    processes: Sequence[Sequence[Report]]
    samples: Sequence[Sample]
    refusals: Sequence[float]

    @property
    def peak(self) -> int:
        """The most requests that the gateway worked on at once."""
        return max(sample.in_flight for sample in self.samples)

    @property
    def moments(self) -> Sequence[float]:
        """Twenty moments of each second."""
        return [STEP * step for step in range(int(self.plan.end / STEP) + 1)]

    @property
    def layers(self) -> Sequence[Sequence[int]]:
        """Return what each process had in flight at these moments, by its own account."""
        return [list(in_flight_at(self.moments, reports)) for reports in self.processes]

    @property
    def full_again(self) -> float | None:
        """Seconds from the kill until the cap was used again; `None` if it was not in time."""
        totals = [sum(each) for each in zip(*self.layers, strict=True)]
        for step, moment in enumerate(self.moments):
            is_between = self.plan.killed + STEP < moment < self.plan.frozen
            if is_between and min(totals[step : step + FOR]) >= FULL * self.cap:
                return moment - self.plan.killed
        return None

    def in_flight(self, begin: float, end: float) -> float:
        """Return how many requests the gateway worked on between two moments, on average."""
        times = [sample.at for sample in self.samples]
        first = max(0, bisect_right(times, begin) - 1)
        last = bisect_left(times, end)
        edges = [begin, *times[first + 1 : last], end]
        counts = [sample.in_flight for sample in self.samples[first:last]]
        area = sum(
            count * (later - earlier)
            for count, (earlier, later) in zip(counts, pairwise(edges), strict=True)
        )
        return area / (end - begin)


def in_flight_at(moments: Sequence[float], reports: Sequence[Report]) -> Iterator[int]:
    """Return what was last reported at each moment; nothing once the process is dead."""
    index = 0
    for moment in moments:
        while index < len(reports) and reports[index].at <= moment + STEP / 2:
            index += 1
        is_dead = index == len(reports) and moment > reports[-1].at + 2 * STEP
        yield 0 if is_dead or not index else reports[index - 1].in_flight
