"""The context of a request all along: its configuration, its facts, its redactor, its clock."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from ..diagnosis.capture import redactor_of
from ..diagnosis.redaction import header_pairs, header_secrets
from ..errors import CallbackError
from ..limits.eventloop import EventLoop, running_loop
from ..limits.guarded import words_of
from ..limits.partitions import InAccount
from ..overrides import current_block
from ..wire.body import loaded_body
from ..wire.request import base_url_of, credential_of, renew_headers
from .cost import cost_of
from .failure import Failure, judged
from .track_record import Circumstance

if TYPE_CHECKING:
    from ..config import Config
    from ..diagnosis.redaction import Redactor
    from ..limits.budget import Cost
    from ..limits.partition import Lease
    from ..verdict.evidence import Evidence
    from ..verdict.usage import Usage
    from ..verdict.vocabulary import Observation, RequestInfo
    from ..wire.http import Request
    from ..wire.request import Outgoing
    from .engine import Engine


class RequestContext:
    """One request: what it asks for, under which keywords, and what must not be told of it.

    ``key`` is the partition that it belongs to, below its account, ``flaw`` why that is not known.
    """

    __slots__ = (
        "_past_secrets", "_redactor", "config", "cost", "engine", "evidence", "flaw", "host",
        "info", "key", "loop", "max_retries", "outgoing", "request", "started",
    )  # fmt: skip

    def __init__(self, engine: Engine, request: Request, outgoing: Outgoing) -> None:
        self.engine: Engine = engine
        self.request: Request = request
        self.outgoing: Outgoing = outgoing
        self.info: RequestInfo = outgoing.info
        self.loop: EventLoop = running_loop()
        self.started: float = self.loop.now()
        self.cost: Cost | None = cost_of(engine, request, outgoing.info)
        call, block = outgoing.call, current_block()
        self.host: str = request.url.host
        key, flaw = _partition_of(engine, outgoing.info)
        if engine.has_accounts:
            # The members of a fleet share what they were told to share: one account.
            account = None if engine.fleet else (credential_of(request, call), self.host)
            key = InAccount(account, key)
        self.key: Hashable = key
        self.flaw: CallbackError | None = flaw
        self.config: Config = engine.config
        self.max_retries: int = self.config.max_retries if call is None else call.max_retries
        if block is not None:
            self.config = block.over(engine.config)
            self.max_retries = block.options.get("max_retries", self.max_retries)
            if block.witness is not None and self.flaw is None:
                block.witness(engine.limiter, self.key)
        self.evidence: Evidence | None = None
        self._redactor: Redactor | None = None
        self._past_secrets: frozenset[str] = frozenset()

    @property
    def wants_usage(self) -> bool:
        """Tell whether anybody asks for the tokens that the answer takes."""
        return self.cost is not None or self.engine.observers.wanted()

    def elapsed(self) -> float:
        """Return the seconds since the request began."""
        return self.loop.now() - self.started

    def redactor(self) -> Redactor:
        """Return what keeps secrets and content out of texts; it is made at the first failure."""
        if self._redactor is None:
            body = loaded_body(self.request)
            self._redactor = redactor_of(self.request, body, self._past_secrets)
        return self._redactor

    def failed(self, observation: Observation, **remains: Any) -> Failure:
        """Judge an outcome by itself and by what has worked before; return the failure.

        ``remains`` is what is left of the exchange.
        """
        track_record = self.engine.track_record
        self.evidence = track_record.evidence(self.circumstance(), self.loop.now())
        return judged(observation, self.engine.rules, self.evidence, **remains)

    def settle_cost(self, lease: Lease, usage: Usage) -> None:
        """Count what an answer took; call it before its slot is given back."""
        if self.cost is None:
            return
        lease.took(usage.total_tokens, usage.completion_tokens)
        if usage.completion_tokens:
            self.engine.output_habit.note(self.info.model, usage.completion_tokens)

    def circumstance(self) -> Circumstance:
        """Return what a success proves to work, and a failure casts doubt on."""
        call, info = self.outgoing.call, self.info
        return Circumstance(
            credential_of(self.request, call),
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


def _partition_of(engine: Engine, info: RequestInfo) -> tuple[Hashable, CallbackError | None]:
    """Return what a request shares a limit with, route and model by default, or why not."""
    partition = engine.config.partition
    if partition is None:
        return (info.route, info.model), None
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
