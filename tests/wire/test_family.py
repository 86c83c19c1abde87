"""Which HTTP library a client speaks, and what its exceptions mean."""

from __future__ import annotations

import ssl

import anyio
import pytest

from comet_resilience.verdict.vocabulary import Fault
from comet_resilience.wire.family import family_of, fault_of

from ..conftest import httpx


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("ConnectError", Fault.CONNECT),
        ("ConnectTimeout", Fault.CONNECT_TIMEOUT),
        ("PoolTimeout", Fault.POOL_TIMEOUT),
        ("ProxyError", Fault.PROXY),
        ("WriteError", Fault.WRITE),
        ("WriteTimeout", Fault.WRITE_TIMEOUT),
        ("ReadError", Fault.READ),
        ("ReadTimeout", Fault.READ_TIMEOUT),
        ("CloseError", Fault.READ),
        ("RemoteProtocolError", Fault.PROTOCOL),
        ("LocalProtocolError", Fault.LOCAL),
        ("UnsupportedProtocol", Fault.LOCAL),
        ("DecodingError", Fault.PROTOCOL),
    ],
)
def test_faults_of_the_family(name: str, fault: Fault) -> None:
    """Each transport exception of the installed library is a fault of its own."""
    assert fault_of(getattr(httpx, name)("x")) is fault


def test_other_faults() -> None:
    """TLS and stream errors that the libraries leave unmapped are faults, bugs are not."""
    assert fault_of(ssl.SSLError("x")) is Fault.TLS
    assert fault_of(anyio.EndOfStream()) is Fault.READ
    assert fault_of(ConnectionResetError()) is Fault.READ
    assert fault_of(KeyError("x")) is None
    assert fault_of(httpx.TooManyRedirects("x")) is None


def test_the_family_of_a_class() -> None:
    """A class, and a class derived from it, belong to their library; others to none."""

    class Mine(httpx.Response):  # type: ignore[misc]
        """Somebody's subclass."""

    assert family_of(httpx.Response(200)) is family_of(Mine(200)) is httpx
    with pytest.raises(TypeError, match="neither to httpx2 nor to httpx"):
        family_of({})
