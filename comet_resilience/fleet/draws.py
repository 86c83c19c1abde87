"""Draw request and draw reply: a member's exchange with the script of a shared budget. Pure.

As with shares, nothing read from Redis is trusted: a value out of bounds invalidates the reply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from ..limits.budget import Budget
from .message import MOST, texts_in

#: The most requests to draw for at once.
MOST_DRAWN: Final = 64
_FIELDS: Final = 6
_MOST_AMOUNT: Final = 2**42
#: A draw lies at most this many of its budget's periods ahead, and one more for each member.
_PERIODS_AHEAD: Final = 3.0


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of requests and tokens."""

    requests: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.requests - other.requests, self.tokens - other.tokens)

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawRequest:
    """A member's request for draws; times in seconds.

    ``wants`` are drawn in order as far as the budget allows; ``has_unused``: the member has draws
    left. ``corrections`` are what was charged too little, or, below 0, too much, in the last
    ``age`` seconds; each ``serial`` counts once. ``depth`` and ``kept_back`` are those of the
    tokens' meter, see ``limits.budget``. ``paid_for`` and ``held`` are the member's memory of the
    budget: for how long all of it is spent, and what the last period holds. A ``ttl`` of 0: the
    member leaves.
    """

    member: str
    budget: Budget
    ttl: float = 0.0
    serial: int = 0
    wants: tuple[Amount, ...] = ()
    has_unused: bool = False
    corrections: Amount = field(default_factory=Amount)
    age: float = 0.0
    depth: float = 0.0
    kept_back: float = 0.0
    paid_for: Amount = field(default_factory=Amount)
    held: Amount = field(default_factory=Amount)

    def arguments(self) -> list[str]:
        """Return the arguments of the script."""
        budget, paid_for, held = self.budget, self.paid_for, self.held
        wants = ";".join(f"{want.requests:.3f}:{want.tokens:.3f}" for want in self.wants)
        return [
            self.member, _ms(self.ttl), str(self.serial), _ms(budget.per), _ms(budget.burst),
            str(int(self.has_unused)), _ms(self.age), wants,
            *_meter(
                budget.requests, 0, 0, self.corrections.requests, paid_for.requests, held.requests
            ),
            *_meter(
                budget.tokens, self.depth, self.kept_back, self.corrections.tokens,
                paid_for.tokens, held.tokens,
            ),
        ]  # fmt: skip


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))


def _meter(
    total: int | None,
    depth: float,
    kept_back: float,
    correction: float,
    paid_for: float,
    held: float,
) -> list[str]:
    numbers = (depth, kept_back, correction, max(0.0, paid_for) * 1000, held)
    return [str(total or 0), *(f"{number:.3f}" for number in numbers)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawReply:
    """The script's reply: seconds until each of the first wants may go, and the budget's state.

    ``paid_for`` is for how long the budget is spent, ``left`` what the last period leaves.
    """

    delays: tuple[float, ...]
    members: int
    paid_for: Amount
    left: Amount


def parse_draw_reply(raw: object, request: DrawRequest) -> DrawReply | None:
    """Return the reply to a request; ``None`` if it is invalid."""
    texts = texts_in(raw, _FIELDS)
    if texts is None:
        return None
    try:
        delays = [float(delay) / 1000 for delay in texts[0].split(";") if delay]
        members, *amounts = [float(number) for number in texts[1:]]
    except ValueError:
        return None
    if not all(0 <= value <= _MOST_AMOUNT for value in (members, *amounts)):
        return None
    latest = request.budget.per * (_PERIODS_AHEAD + members)
    if len(delays) > len(request.wants) or not all(0 <= delay <= latest for delay in delays):
        return None
    paid_requests, paid_tokens, requests, tokens = amounts
    return DrawReply(
        delays=tuple(delays),
        members=max(1, min(int(members), MOST)),
        paid_for=Amount(paid_requests / 1000, paid_tokens / 1000),
        left=Amount(math.floor(requests), math.floor(tokens)),
    )
