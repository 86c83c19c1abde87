"""Detection of retries above ours: a framework or a loop that repeats what was given up.

Such layers multiply: three tries of a framework around seven attempts are twenty-one requests for
one call, at a gateway that has just said that it is overloaded. Two signs give them away. The SDK
says itself that it retries (``x-stainless-retry-count``). Anybody else sends the identical request
again soon after it was given up, more than once.

Nothing else is to be taken for a retry: the same question after an answer, a button that is
pressed twice, a poll, or many users who ask alike. Those overlap; the tries of one call never do.
Only what was given up in the last seconds is remembered, as a number, so that a request pays one
look at an empty dictionary when all is well.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import ref

from ..limits.eventloop import clock
from ..log import logger
from ..log_lines import name_of
from ..verdict.vocabulary import RequestInfo, Verdict
from ..wire.body import loaded_body

if TYPE_CHECKING:
    from ..wire.http import Request, Response

#: Seconds after a give-up in which the same request counts as a repetition. By default no framework
#: waits longer before its first two.
WINDOW: Final = 15.0
#: So many repetitions are a retry: people press a button twice.
_ENOUGH: Final = 2
#: So many requests are remembered, the latest.
KEPT: Final = 64

_SDK_COUNT: Final = "x-stainless-retry-count"
_SDK_ADVICE: Final = (
    "An event hook of the http client, or a transport around this one, raises an exception which"
    " the SDK answers by sending again: let it return instead"
)
#: What to switch off, by the module that shows that a framework is in use.
_SETTINGS: Final = (
    ("agents", "openai-agents: leave ModelSettings(retry=...) out"),
    ("dspy", "DSPy: give num_retries=0"),
    ("instructor", "instructor: give max_retries as a number, not as AsyncRetrying"),
    ("langchain_core", "LangChain: leave .with_retry() and ModelRetryMiddleware out"),
    ("langgraph", "LangGraph: leave retry_policy out of its nodes"),
    ("llama_index", "LlamaIndex: give its LLM max_retries=0"),
    ("pydantic_ai", "Pydantic AI: leave its TenacityTransport out"),
)
_ANY_LOOP: Final = "take any decorator (tenacity, backoff) or loop around the call away"


@dataclass(slots=True)
class _GivenUp:
    """A request that was given up: until when a repetition counts, and how many there were.

    ``until`` is zero while a repetition is under way that was not given up yet. Where the same
    request was on its way twice at once, it is ``shared`` and never counts.
    """

    until: float
    attempts: int
    request: ref[Request]
    repetitions: int = 0
    under_way: bool = False
    shared: bool = False


class NestingWatch:
    """Warns once, through the library's log, of retries above those of one client."""

    __slots__ = ("_warned", "given_up")

    def __init__(self) -> None:
        self.given_up: dict[int, _GivenUp] = {}
        self._warned = False

    def note_give_up(self, request: Request, attempts: int, verdict: Verdict) -> None:
        """Remember a request whose failure goes to the caller, if repeating it nests retries."""
        if self._warned or not verdict.retryable or request.method != "POST":
            return  # polls are repeated rightly
        digest = _digest(request)
        if digest is None:
            return
        until, last = clock() + WINDOW, self.given_up.get(digest)
        if last is not None:
            last.shared |= not last.under_way
            last.until, last.request = until, ref(request)
        elif attempts > 1:  # retries above are right where ours are switched off
            if len(self.given_up) >= KEPT:
                self.given_up.pop(next(iter(list(self.given_up))), None)
            self.given_up[digest] = _GivenUp(until, attempts, ref(request))

    def follow(
        self, request: Request, info: RequestInfo, answer: Awaitable[Response]
    ) -> Awaitable[Response]:
        """Note that a request begins, and its outcome if it repeats one that was given up."""
        now = clock()
        for digest, old in list(self.given_up.items()):
            if not old.under_way and old.until < now:
                self.given_up.pop(digest, None)  # another thread's loop may have been quicker
        own = _digest(request)
        last = None if own is None else self.given_up.get(own)
        if last is None:
            return answer
        if last.under_way:
            last.shared = True
            return answer
        last.until, last.under_way = 0.0, True
        last.repetitions += 1
        self._judge(request, info, last)
        return self._follow(last, answer)

    async def _follow(self, last: _GivenUp, answer: Awaitable[Response]) -> Response:
        try:
            return await answer
        finally:
            last.under_way = False  # and over for good, if it was not given up again

    def _judge(self, request: Request, info: RequestInfo, last: _GivenUp) -> None:
        count = request.headers.get(_SDK_COUNT, "")
        # The SDK makes a new request for each try; in one that comes back the count is our own.
        if count.strip("0").isdecimal() and last.request() is not request:
            self._warn(info, f"the SDK retries above us ({_SDK_COUNT}: {count})", _SDK_ADVICE)
        elif last.repetitions >= _ENOUGH and not last.shared:
            what = (
                f"it seems that something retries above us: the same request came back"
                f" {last.repetitions} times, each time soon after it was given up, first after"
                f" {last.attempts} attempts"
            )
            found = [setting for module, setting in _SETTINGS if module in sys.modules]
            self._warn(info, what, "Switch it off: " + "; ".join([*found, _ANY_LOOP]))

    def _warn(self, info: RequestInfo, what: str, advice: str) -> None:
        self._warned = True
        self.given_up.clear()
        logger.warning("%s: %s. Such retries multiply. %s.", name_of(info), what, advice)


def _digest(request: Request) -> int | None:
    """Return a digest that identifies a request, without keys; ``None`` if its body is a stream."""
    body = loaded_body(request)
    return None if body is None else hash((request.method, str(request.url), body))
