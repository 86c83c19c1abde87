"""A gateway that fails as CometAPI fails, to test services with.

    async with Gateway(capacity=ConcurrencyCap(5)) as gateway:
        gateway.fail("rate_limited", times=2, retry_after=1)
        client = AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)

It is a real HTTP server on the loopback interface, for asyncio and trio. `gateway.transport()`
gives the same gateway in memory, for tests in virtual time. With pytest, ask for the fixtures
`comet_gateway` and `comet_no_waiting`. `ChaosTransport` disturbs what lies below a client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .answers import answer, tool_call
    from .capacity import Capacity, ConcurrencyCap, FixedWindow, Refusal, TokenBucket
    from .chaos import DISTURBANCES, EVERYDAY, ChaosTransport, Disturbance
    from .failures import FAILURES, failure
    from .gateway import Gateway
    from .ledger import Sample, Statistics
    from .received import ReceivedRequest
    from .replies import Reply, error_reply, html_reply, json_reply, stream_reply
    from .thread import GatewayInThread
    from .transport import GatewayTransport
    from .waiting import no_waiting

__all__ = [
    "DISTURBANCES",
    "EVERYDAY",
    "FAILURES",
    "Capacity",
    "ChaosTransport",
    "ConcurrencyCap",
    "Disturbance",
    "FixedWindow",
    "Gateway",
    "GatewayInThread",
    "GatewayTransport",
    "ReceivedRequest",
    "Refusal",
    "Reply",
    "Sample",
    "Statistics",
    "TokenBucket",
    "answer",
    "error_reply",
    "failure",
    "html_reply",
    "json_reply",
    "no_waiting",
    "stream_reply",
    "tool_call",
]

#: Which room each name is from. The door opens one only when it is asked for something in it,
#: so that the pytest plugin behind it costs nothing where no test uses it.
_ROOMS: Final = {
    "answers": "answer tool_call",
    "capacity": "Capacity ConcurrencyCap FixedWindow Refusal TokenBucket",
    "chaos": "DISTURBANCES EVERYDAY ChaosTransport Disturbance",
    "failures": "FAILURES failure",
    "gateway": "Gateway",
    "ledger": "Sample Statistics",
    "received": "ReceivedRequest",
    "replies": "Reply error_reply html_reply json_reply stream_reply",
    "thread": "GatewayInThread",
    "transport": "GatewayTransport",
    "waiting": "no_waiting",
}


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names.split():
            return getattr(import_module(f".{room}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
