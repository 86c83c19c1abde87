"""Replies without a script: keys and requests checked, failures at random, good answers.

All randomness comes from the seed and the number of the request, so that one number more for one
request changes nothing for the next.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Final

from .endpoints import Endpoint, complaint, find, outside
from .failures import Rate, choose, failure, shares_of
from .received import ReceivedRequest
from .replies import MODEL, RAY, REQUEST_ID, Reply
from .text_answers import Setting

Latency = float | tuple[float, float] | Callable[[ReceivedRequest], float]

#: The gateway's calendar starts here, so that runs with the same seed give the same ids.
_EPOCH: Final = datetime(2026, 11, 2, 3, 14, 15, tzinfo=timezone(timedelta(hours=8)))
#: Limits of two accounts with a provider, one of them used up.
_ACCOUNTS: Final = tuple(
    (
        ("x-ratelimit-limit-requests", limit),
        ("x-ratelimit-remaining-requests", remaining),
        ("x-ratelimit-reset-requests", "55s"),
    )
    for limit, remaining in (("10000", "9990"), ("60", "0"))
)
_ALPHANUMERIC: Final = string.ascii_letters + string.digits


class Handler:
    """The gateway's own replies, from its settings; without mutable state.

    Raises `ValueError` for senseless settings.
    """

    __slots__ = (
        "_chunk_delay", "_keys", "_latency", "_models", "_provider_limits", "_seed", "_shares",
        "_text",
    )  # fmt: skip

    def __init__(
        self,
        *,
        latency: Latency,
        chunk_delay: float,
        failure_rate: Rate,
        keys: Collection[str] | None,
        models: Iterable[str] | None,
        text: str,
        provider_limits: bool,
        seed: int,
    ) -> None:
        if chunk_delay < 0:
            raise ValueError(f"chunk_delay must be 0 seconds or more, not {chunk_delay}")
        self._latency = _checked_latency(latency)
        self._chunk_delay = chunk_delay
        self._shares = shares_of("failure_rate", failure_rate, everyday=("unavailable",))
        self._keys = keys
        self._models = None if models is None else tuple(models)
        self._text = text
        self._provider_limits = provider_limits
        self._seed = seed

    def admit(self, request: ReceivedRequest) -> Endpoint | Reply:
        """Find the endpoint of a request, or the reply to one with a wrong path or key."""
        endpoint = find(request)
        if endpoint is None:
            return outside(request)
        return endpoint if self._accepts(request) else failure("invalid_token")

    def serve(self, endpoint: Endpoint, request: ReceivedRequest) -> Reply:
        """Reply to a request that was let in: a complaint about it, a random failure, an answer."""
        complained = complaint(endpoint, request, self._models)
        if complained is not None:
            return complained
        chance = Random(f"{self._seed}/{request.number}")  # noqa: S311 - no secret
        name = choose(self._shares, chance.random())
        if name is not None:
            return failure(name)
        setting = Setting(text=self._text, models=self._models, created=_created(request.at))
        delay = self._delay(request, chance)
        reply = endpoint.answer(request, setting)
        if self._provider_limits and isinstance(reply.body, bytes):  # A stream has none of them.
            account = _ACCOUNTS[request.number % len(_ACCOUNTS)]
            reply = replace(reply, headers=(*reply.headers, *account))
        return replace(reply, delay=delay, chunk_delay=self._chunk_delay)

    def values(self, request: ReceivedRequest) -> dict[str, str]:
        """Return what fills the placeholders about the request. Ids look like those of CometAPI."""
        chance = Random(f"{self._seed}/{request.number}/id")  # noqa: S311 - no secret
        moment = _EPOCH + timedelta(seconds=request.at)
        tail = "".join(chance.choices(_ALPHANUMERIC, k=8))
        # The nanoseconds are not padded by the real gateway, so the length of an id varies.
        request_id = f"{moment:%Y%m%d%H%M%S}{chance.randrange(1, 1_000_000_000)}{tail}"
        ray = f"{chance.getrandbits(64):016x}-FRA"
        return {REQUEST_ID: request_id, RAY: ray, MODEL: request.model or ""}

    def _accepts(self, request: ReceivedRequest) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key or key != key.strip() or " " in key:
            return False
        return self._keys is None or key in self._keys

    def _delay(self, request: ReceivedRequest, chance: Random) -> float:
        if isinstance(self._latency, tuple):
            return chance.uniform(*self._latency)
        return self._latency(request) if callable(self._latency) else self._latency


def _created(at: float) -> int:
    return int(_EPOCH.timestamp() + at)


def _checked_latency(latency: Latency) -> Latency:
    if callable(latency):
        return latency
    low, high = latency if isinstance(latency, tuple) else (latency, latency)
    if not 0 <= low <= high:
        raise ValueError(f"latency must be seconds, or a range (low, high), not {latency}")
    return latency
