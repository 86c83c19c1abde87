"""What became of every call, and every promise that was found broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import openai

from comet_resilience import diagnose

HEADER = "x-soak"
#: How many broken promises are kept in words; all are counted.
SHOWN = 20


@dataclass
class Call:
    """One call under way: how many sends it is promised at the most, and had."""

    allowed: int
    sends: int = 0


@dataclass
class Tally:
    """Counts of all calls so far; ``live`` are those under way."""

    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    live: dict[str, Call] = field(default_factory=dict)
    started: int = 0
    sends: int = 0
    most_sends: int = 0
    broken: int = 0
    shown: list[str] = field(default_factory=list)

    def breach(self, what: str) -> None:
        """A promise was broken."""
        self.broken += 1
        if len(self.shown) < SHOWN:
            self.shown.append(what)

    def begin(self, max_retries: int) -> str:
        """A call begins; the name it carries in its header."""
        self.started += 1
        name = str(self.started)
        self.live[name] = Call(max_retries + 1)
        return name

    def sent(self, name: str | None) -> None:
        """The inner transport was asked to send a request."""
        self.sends += 1
        call = self.live.get(name or "")
        if call is None:
            self.breach(f"call {name} was sent after its end")
            return
        call.sends += 1
        self.most_sends = max(self.most_sends, call.sends)
        if call.sends > call.allowed:
            self.breach(f"call {name}: {call.sends} sends, promised at most {call.allowed}")

    def end(self, name: str, how: str) -> None:
        """A call has ended in one of the ways that may be."""
        del self.live[name]
        self.ends[how] += 1

    def fail(self, name: str, error: Exception) -> None:
        """A call has failed: with an exception of the SDK's that says why, and counts right."""
        call = self.live[name]
        if not isinstance(error, openai.OpenAIError):
            self.breach(f"call {name} raised {error!r}")
        else:
            found = diagnose(error)
            if not found.reason or not found.meaning:
                self.breach(f"call {name} failed without a reason: {error!r}")
            if len(found.attempts) != call.sends:
                told = len(found.attempts)
                self.breach(f"call {name}: {call.sends} sends, {told} told: {found.reason}")
            self.reasons[f"{found.kind}: {found.meaning}"] += 1
        self.end(name, "failed")


class Counting:
    """An inner transport that tells the tally of each send."""

    def __init__(self, inner: Any, tally: Tally) -> None:
        self._inner = inner
        self._tally = tally

    async def handle_async_request(self, request: Any) -> Any:
        """Count, and pass on."""
        self._tally.sent(request.headers.get(HEADER))
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()
