"""The context of a request, the same for all of its attempts."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Unpack

from ..diagnosis.capture import redactor_of
from ..diagnosis.redaction import header_pairs, header_secrets
from ..errors import CallbackError
from ..limits.guarded import words_of
from ..limits.partitions import InAccount
from ..overrides import HearsUsage, current_block, entered
from ..wire.body import loaded_body
from ..wire.request import base_url_of, credential_of, renew_headers
from .cost import cost_of
from .failure import Failure, Remains, judged
from .track_record import Circumstance

if TYPE_CHECKING:
    from ..config import Config, Partition
    from ..diagnosis.redaction import Redactor
    from ..limits.budget import Cost
    from ..limits.eventloop import EventLoop
    from ..limits.partition import Lease
    from ..overrides import Block
    from ..verdict.evidence import Evidence
    from ..verdict.usage import Usage
    from ..verdict.vocabulary import Observation, RequestInfo
    from ..wire.http import Request
    from ..wire.request import Outgoing
    from .engine import Engine


class RequestContext:
    """One request: what it asks for, its configuration, and the secrets to keep out of texts.

    ``key`` is the partition that it belongs to, below its account, ``flaw`` why that is not known.
    ``is_heard`` says that somebody hears of each attempt, ``wants_usage`` that somebody asks for
    the tokens that the answer takes.
    """

    __slots__ = (
        "_hears_usage", "_past_secrets", "_redactor", "config", "cost", "credential", "engine",
        "evidence", "flaw", "host", "info", "is_heard", "key", "loop", "max_retries", "outgoing",
        "request", "started", "wants_usage",
    )  # fmt: skip

    def __init__(
        self, engine: Engine, request: Request, outgoing: Outgoing, loop: EventLoop
    ) -> None:
        call = outgoing.call
        self.engine: Engine = engine
        self.request: Request = request
        self.outgoing: Outgoing = outgoing
        self.info: RequestInfo = outgoing.info
        self.loop: EventLoop = loop
        self.started: float = loop.now()
        self.is_heard: bool = engine.observers.wanted()
        self.host: str = request.url.host
        self.credential: int = credential_of(request) if call is None else call.credential
        self.cost: Cost | None = None
        if engine.limiter.counts_requests:
            self.cost = cost_of(engine, request, outgoing.info)
        self.flaw: CallbackError | None = None
        self.key: Hashable = self._partition_key()
        self.config: Config = engine.config
        self.max_retries: int = self.config.max_retries if call is None else call.max_retries
        self._hears_usage: HearsUsage | None = None
        if entered.get() is not None:  # nearly every request is outside of any block
            self._enter(current_block())
        self.wants_usage: bool = (
            self.is_heard or self.cost is not None or self._hears_usage is not None
        )
        self.evidence: Evidence | None = None
        self._redactor: Redactor | None = None
        self._past_secrets: frozenset[str] = frozenset()

    def _partition_key(self) -> Hashable:
        """Return the key of the request's partition: by default account, route and model."""
        engine, info = self.engine, self.info
        key: Hashable = info.route, info.model
        if engine.config.partition is not None:
            key, self.flaw = _partition_of(engine.config.partition, info)
        if not engine.has_accounts:
            return key
        # The members of a fleet share what they were told to share: one account.
        return InAccount(None if engine.fleet else (self.credential, self.host), key)

    def _enter(self, block: Block | None) -> None:
        """Let the keywords of a block of code override the client's."""
        if block is None:
            return
        self.config = block.over(self.engine.config)
        self.max_retries = block.options.get("max_retries", self.max_retries)
        if block.witness is not None and self.flaw is None:
            self._hears_usage = block.witness(self.engine.limiter, self.key)

    def elapsed(self) -> float:
        """Return the seconds since the request began."""
        return self.loop.now() - self.started

    def redactor(self) -> Redactor:
        """Return the redactor of the request, made at its first failure."""
        if self._redactor is None:
            body = loaded_body(self.request)
            self._redactor = redactor_of(self.request, body, self._past_secrets)
        return self._redactor

    def failed(self, observation: Observation, **remains: Unpack[Remains]) -> Failure:
        """Judge an outcome by itself and by what has worked before; return the failure.

        ``remains`` is what is left of the exchange. The evidence is kept for the diagnosis.
        """
        track_record = self.engine.track_record
        self.evidence = track_record.evidence(self.circumstance(), self.loop.now())
        return judged(observation, self.engine.rules, self.evidence, **remains)

    def settle_cost(self, lease: Lease, usage: Usage) -> None:
        """Count the tokens of an answer; call it before its slot is given back."""
        if self._hears_usage is not None and not usage.is_estimate:
            self._hears_usage(usage)
        if self.cost is None:
            return
        lease.took(usage.total_tokens, usage.completion_tokens)
        if usage.completion_tokens:
            self.engine.output_habit.note(self.info.model, usage.completion_tokens)

    def circumstance(self) -> Circumstance:
        """Return what a success proves to work, and a failure casts doubt on."""
        call, info = self.outgoing.call, self.info
        return Circumstance(
            self.credential,
            base_url_of(self.request) if call is None else call.base_url,
            info.route,
            info.model,
        )

    async def renew_credentials(self) -> None:
        """Ask the client's key function or token provider again, if it has one."""
        call = self.outgoing.call
        if call is None or call.renew is None:
            return
        # The key may be another afterwards, and an answer may still echo this one.
        self._past_secrets |= frozenset(header_secrets(header_pairs(self.request.headers)))
        self._redactor = None
        renew_headers(self.request, call, await call.renew())


def _partition_of(partition: Partition, info: RequestInfo) -> tuple[Hashable, CallbackError | None]:
    """Return the key that the user's ``partition`` gives to a request, or its failure."""
    try:
        key = partition(info)
        hash(key)
    except Exception as error:  # noqa: BLE001 - raised with a diagnosis where the request runs
        flaw = CallbackError(
            f"partition: expected a function that gives a hashable value ({words_of(error)})"
        )
        flaw.__cause__ = error
        return None, flaw
    return key, None
