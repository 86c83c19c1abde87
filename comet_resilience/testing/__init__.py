"""A gateway that fails as CometAPI fails, to test services with.

    async with Gateway(capacity=ConcurrencyCap(5)) as gateway:
        gateway.fail("rate_limited", times=2, retry_after=1)
        client = AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)

It is a real HTTP server on the loopback interface, for asyncio and trio. `gateway.transport()`
gives the same gateway in memory, for tests in virtual time. With pytest, ask for the fixtures
`comet_gateway` and `comet_no_waiting`. `ChaosTransport` disturbs the connections of a client.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exports import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """Import the exports when the first of them is asked for.

        So the pytest plugin beside them costs nothing in a test run that does not use it.
        """
        is_module = find_spec(f"{__name__}.{name}") is not None
        if is_module or (name.startswith("_") and name != "__all__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        exports = vars(import_module(".exports", __name__))
        public = {each: exports[each] for each in exports if each[0].isalpha()}
        globals().update(public, __all__=sorted(public))
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
