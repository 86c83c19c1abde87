"""The gateway of the quickstart: its capacity changes while the burst runs, and nobody says so."""

import math
from random import Random

from comet_resilience.testing import ConcurrencyCap, Gateway, ReceivedRequest, Refusal

#: How many requests each model takes at once: (from this second on, so many).
CAPACITY = {
    "gpt-5.4": ((0.0, 7), (3.0, 3), (6.0, 12)),
    "claude-sonnet-4-6": ((0.0, 5), (3.0, 2), (6.0, 8)),
}
MODELS = tuple(CAPACITY)

#: The share of calls that fail with status 500, 503 and 524 for no fault of the caller.
BAD_LUCK = {"server_error": 0.015, "unavailable": 0.015, "edge_timeout": 0.007}


class HiddenCapacity(ConcurrencyCap):
    """A cap that keeps the time, in seconds, of each refusal."""

    def __init__(self, steps: tuple[tuple[float, int], ...], refusals: list[float]) -> None:
        super().__init__(steps[0][1], steps=steps)
        self._refusals = refusals

    def enter(self, now: float) -> Refusal | None:
        """Take a slot at *now*, or refuse."""
        refusal = super().enter(now)
        if refusal is not None:
            self._refusals.append(now)
        return refusal


class DemoGateway(Gateway):
    """A gateway that is as fast, as full and as unreliable as a real one on a bad day."""

    def __init__(self) -> None:
        self.refusals: list[float] = []
        super().__init__(
            capacity={m: HiddenCapacity(steps, self.refusals) for m, steps in CAPACITY.items()},
            latency=latency,
            chunk_delay=0.025,
            failure_rate=BAD_LUCK,
            models=MODELS,
            seed=317,  # The 524s, which need a long pause, come early with it: the demo is short.
        )


def latency(request: ReceivedRequest) -> float:
    """Seconds until an answer begins: most often 0.22, and now and then a whole second."""
    return min(2.0, Random(request.number).lognormvariate(math.log(0.22), 0.5))
