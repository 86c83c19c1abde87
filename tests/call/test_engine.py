"""The state that all transports of one client share."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import openai
import pytest

from comet_resilience import Config, FixedLimit, RequestInfo, snapshot, wrap
from comet_resilience.call.engine import Engine

from ..conftest import BASE_URL, FAST, KEY, OK, Scripted, ask, httpx


def everything(_request: RequestInfo) -> str:
    """Put all requests into one partition."""
    return "all"


@pytest.mark.parametrize(
    ("options", "has_accounts"),
    [
        ({}, True),
        ({"budget": None, "max_retries": 0}, True),
        ({"partition": everything}, False),
        ({"algorithm": lambda: FixedLimit(3)}, False),
    ],
    ids=["usual", "other keywords", "partition", "algorithm"],
)
def test_an_account_stands_above_unless_the_user_says_otherwise(
    options: Any, has_accounts: bool
) -> None:
    """Who says what shares a limit, or how it moves, gets that and nothing above it."""
    assert Engine(Config(**options)).has_accounts is has_accounts


@pytest.mark.anyio
async def test_mounts_of_one_client_share_its_limits() -> None:
    """A call through a mount counts where those through the main transport do."""
    main, mounted = Scripted([OK]), Scripted([OK])
    http_client = httpx.AsyncClient(transport=main, mounts={"https://api.test": mounted})
    bare = openai.AsyncOpenAI(api_key=KEY, base_url=BASE_URL, http_client=http_client)
    client = wrap(bare, **FAST)
    await ask(client)
    await ask(client.with_options(base_url="https://api.test/v1"))
    assert (len(main.sent), len(mounted.sent)) == (1, 1)
    [partition] = snapshot(client).partitions
    assert partition.ok == 2


def test_journal_and_observers_hear_alike() -> None:
    """Both are wanted, and either alone; a client without any has nobody to tell."""
    heard: list[object] = []
    assert not Engine(Config()).observers.wanted()
    assert Engine(Config(on_event=heard.append)).observers.wanted()
    assert Engine(Config(journal=heard.append)).observers.wanted()


def test_a_client_without_a_fleet_loads_no_fleet() -> None:
    """It would take half as much again to import."""
    program = (
        "import sys; from comet_resilience import Config; from comet_resilience.call.engine import"
        " Engine; Engine(Config()); print('comet_resilience.fleet.coordinator' in sys.modules)"
    )
    ran = subprocess.run(  # noqa: S603 - this very library
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"
