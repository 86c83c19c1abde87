"""Attributes of metrics: each has a bounded number of values."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable
from typing import Final, TypeGuard

from ..verdict.vocabulary import RequestInfo

PREFIX: Final = "comet_resilience."
ROUTE: Final = PREFIX + "route"
MODEL: Final = PREFIX + "model"
ACCOUNT: Final = PREFIX + "account"
OTHER: Final = "other"
#: Names of OpenTelemetry's conventions for generative AI.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
_OPERATIONS: Final = {
    "POST /chat/completions": "chat",
    "POST /responses": "chat",
    "POST /completions": "text_completion",
    "POST /embeddings": "embeddings",
}

#: The most routes, accounts, and reasons for a change of the limit, that are distinguished.
ROUTES_KEPT: Final = 64
ACCOUNTS_KEPT: Final = 16
REASONS_KEPT: Final = 24
_ROUTE: Final = re.compile(r"[A-Z]{1,10} /[\x21-\x7e]{0,100}")


def is_by_route(partition: Hashable) -> TypeGuard[tuple[str, str]]:
    """Return True if a partition is one of route and model, as they are by default."""
    match partition:
        case (str(route), str()):
            return _ROUTE.fullmatch(route) is not None
    return False


class FirstValues:
    """The first values, up to a number of them; any further one is ``other``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: set[str] = set()

    def shown(self, value: str) -> str:
        """Return the value itself, or ``other``."""
        if value not in self._kept:
            if len(self._kept) >= self._most:
                return OTHER
            self._kept.add(value)
        return value


class Labels:
    """The attributes of one ``OpenTelemetry``'s metrics; ``models`` are those that may appear."""

    def __init__(self, models: Collection[str]) -> None:
        self._models = frozenset(models)
        self._routes = FirstValues(ROUTES_KEPT)
        self._accounts = FirstValues(ACCOUNTS_KEPT)
        self._reasons = FirstValues(REASONS_KEPT)

    def of(self, request: RequestInfo) -> dict[str, str]:
        """Return the route and, if models are listed, the model of a request."""
        return self._of(request.route, request.model)

    def of_partition(self, partition: Hashable) -> dict[str, str]:
        """Return the same of a partition, nothing where its key is the application's own.

        Such a key may be anything, an account's name or a secret among them.
        """
        if is_by_route(partition):
            return self._of(*partition)
        if isinstance(partition, str) and _ROUTE.fullmatch(partition):
            return {ROUTE: self._routes.shown(partition)}
        return {}

    def of_usage(self, request: RequestInfo) -> dict[str, str]:
        """Return the route and model as the conventions for generative AI name them.

        The provider is the one whose interface is spoken, which is all that a client can know.
        """
        own = self.of(request)
        named = {ROUTE: own[ROUTE], PROVIDER: "openai"}
        named[OPERATION] = _OPERATIONS.get(request.route, OTHER)
        return named | ({REQUEST_MODEL: own[MODEL]} if MODEL in own else {})

    def account(self, name: str) -> str:
        """Return the name of an account, which is a number of ours and no key, or ``other``."""
        return self._accounts.shown(name)

    def reason(self, text: str) -> str:
        """Return the algorithm's reason for a change of the limit, or ``other``."""
        return self._reasons.shown(text[:100])

    def _of(self, route: str, model: str) -> dict[str, str]:
        shown = self._routes.shown(route) if _ROUTE.fullmatch(route) else OTHER
        if not self._models:
            return {ROUTE: shown}
        return {ROUTE: shown, MODEL: model if model in self._models else OTHER}
