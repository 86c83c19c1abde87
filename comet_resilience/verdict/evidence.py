"""Evidence from earlier successes, as far as it bears on one failure.

One answer alone does not tell a misspelt model from one whose only provider was switched off a
second ago: both are the same 503. What this client has seen before tells them apart. Rows of the
table ask for it by ``key_worked``, ``model_worked`` and ``place_worked``; without evidence they
do not apply, and the answer is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: Seconds for which a success of a key or of a model says something of now. Gateways of this
#: family test their providers every few minutes, and switch them off and on accordingly.
RECENT: Final = 600.0

_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """The number of successes, and the seconds since the last one."""

    times: int
    ago: float

    def __str__(self) -> str:
        successes = "success" if self.times == 1 else "successes"
        return f"{self.times} {successes}, the last {_ago(self.ago)} ago"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Earlier successes in this process; ``None`` where there were none.

    ``key`` is the API key of the request. ``model`` is its model with this key on this route.
    ``place`` is its route at this base URL, with whatever key and model. ``other_model`` names
    another model that worked last with this key, and ``other`` says how often.
    """

    key: Worked | None = None
    model: Worked | None = None
    place: Worked | None = None
    other_model: str = ""
    other: Worked | None = None

    @property
    def key_worked(self) -> bool:
        """True if the key was accepted in the last ten minutes."""
        return self.key is not None and self.key.ago <= RECENT

    @property
    def model_worked(self) -> bool:
        """True if the model answered this key on this route in the last ten minutes."""
        return self.model is not None and self.model.ago <= RECENT

    @property
    def place_worked(self) -> bool:
        """True if the API answered at this base URL and route, however long ago."""
        return self.place is not None

    def lines(self) -> Iterator[str]:
        """Yield the evidence in words, for a diagnosis."""
        for name, worked in (("key", self.key), ("model", self.model), ("path", self.place)):
            yield f"this {name}: {worked or 'none yet'}"


#: The evidence of a request of which nothing was remembered, or of an answer without a client.
NOTHING: Final = Evidence()


def _ago(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 60 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / (60 * _MINUTE):.0f} h"
