"""Calls of a service, made in bulk."""

from __future__ import annotations

from typing import Any

import anyio

from comet_resilience import (
    FixedLimit,
    Progress,
)
from tests.conftest import OK, Answer, ask, scripted


class Service:
    """A wrapped client in front of scripted answers, and a function that asks it."""

    def __init__(self, *answers: Answer, limit: int = 8, seconds: float = 0.0, **options: Any):
        self.client, self.inner = scripted(
            *answers or (OK,), **{"algorithm": lambda: FixedLimit(limit), **options}
        )
        self.seconds = seconds
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.inner.behave = self._answer

    async def _answer(self, request: Any) -> Any:
        await anyio.sleep(self.seconds)
        return await self.inner.answer(request)

    async def ask(self, item: int) -> int:
        """Ask for an item; the answer is ten times the item."""
        self.begun.append(item)
        try:
            await ask(self.client)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(item)
            raise
        return 10 * item

    async def fail_at_five(self, item: int) -> int:
        """Ask, and fail for item 5 once there was an answer."""
        if item == 5:
            await ask(self.client)
            raise LookupError(item)
        return await self.ask(item)


PROGRESS = Progress(
    total=2_000, skipped=100, answered=1_100, failed=3, running=9, elapsed=40.0, rate=25.0,
    eta=31.9, limit=25, refused=4, tokens=0, tokens_per_minute=0.0,
)  # fmt: skip
