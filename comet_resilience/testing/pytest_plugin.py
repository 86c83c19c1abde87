"""Fixtures for the tests of services: a gateway that fails on demand, and a world without waiting.

Installed with the package; ``-p comet_resilience.testing.pytest_plugin`` loads it where plugins are
not loaded by themselves, ``-p no:comet_resilience.testing.pytest_plugin`` keeps it out. Nothing is
imported before a test asks for a fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .thread import GatewayInThread

_MARKER = "comet_gateway(**settings): the keywords of Gateway for the fixture comet_gateway"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def comet_gateway(request: pytest.FixtureRequest) -> Iterator[GatewayInThread]:
    """Give a gateway on a port of its own that fails when told so, for tests of any style.

    The marker ``comet_gateway`` gives the keywords of ``Gateway``; the closest one wins.
    """
    from .thread import GatewayInThread  # noqa: PLC0415 - only when it is used

    markers = list(request.node.iter_markers("comet_gateway"))
    settings = {key: value for marker in reversed(markers) for key, value in marker.kwargs.items()}
    with GatewayInThread(**settings) as gateway:
        yield gateway


@pytest.fixture
def comet_no_waiting() -> Iterator[None]:
    """Let backoff, Retry-After and the limiter's holds take no time in this test."""
    from .waiting import no_waiting  # noqa: PLC0415 - only when it is used

    with no_waiting():
        yield
