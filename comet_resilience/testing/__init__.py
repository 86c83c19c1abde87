"""A gateway that fails as CometAPI fails, to test services with.

    async with Gateway(capacity=ConcurrencyCap(5)) as gateway:
        gateway.fail("rate_limited", times=2, retry_after=1)
        client = AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)

It is a real HTTP server on the loopback interface, for asyncio and trio. `gateway.transport()`
gives the same gateway in memory, for tests in virtual time.
"""

from .capacity import Capacity, ConcurrencyCap, FixedWindow, Refusal, TokenBucket
from .failures import FAILURES, failure
from .gateway import Gateway
from .ledger import Sample, Statistics
from .received import ReceivedRequest
from .replies import Reply, error_reply, html_reply, json_reply, stream_reply
from .transport import GatewayTransport

__all__ = [
    "FAILURES",
    "Capacity",
    "ConcurrencyCap",
    "FixedWindow",
    "Gateway",
    "GatewayTransport",
    "ReceivedRequest",
    "Refusal",
    "Reply",
    "Sample",
    "Statistics",
    "TokenBucket",
    "error_reply",
    "failure",
    "html_reply",
    "json_reply",
    "stream_reply",
]
