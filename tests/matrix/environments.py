"""The table: which Python, which packages, which event loop, and what must not be installed.

A version is a floor that pyproject.toml names, the last of its line, or the newest; the newest is
what pip finds on the day. Every environment runs on asyncio and on trio; `loop` says what asyncio
itself runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: The lowest versions that pyproject.toml promises.
FLOORS: Final = ("openai==2.37.0", "anyio==4.10.0", "backoff==2.2.1")
NEWEST: Final = "openai>=3,<4"
LAST_2: Final = "openai>=2.54,<3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One row: what is installed beside the package and its `test` extra, and what runs there.

    `python` is a minor version. `absent` are modules that must not be importable. Without `tests`
    the whole suite runs. From `wheel` the tests run against a built wheel, the source being away.
    `core` is what every change runs. An `optional` row is skipped where the package index lacks
    something that it requires; nothing else excuses it.
    """

    name: str
    python: str
    requirements: tuple[str, ...]
    absent: tuple[str, ...] = ()
    loop: str = "asyncio"
    tests: tuple[str, ...] = ()
    wheel: bool = False
    core: bool = False
    optional: bool = False


ENVIRONMENTS: Final = (
    Environment(
        name="floor",
        python="3.11",
        requirements=(*FLOORS, "httpx<0.28"),
        absent=("httpx2",),
    ),
    Environment(
        name="floor-core",
        python="3.11",
        requirements=(*FLOORS, "httpx<0.28"),
        absent=("httpx2",),
        tests=(
            "tests/failure_modes",
            "tests/fleet",
            "tests/limits",
            "tests/otel",
            "tests/test_client.py",
            "tests/call",
            "tests/test_overrides.py",
            "tests/test_secrets.py",
            "tests/wire",
        ),
        core=True,
    ),
    Environment(
        name="openai-2",
        python="3.11",
        requirements=(LAST_2, "cometapi"),
        absent=("httpx2",),
    ),
    Environment(
        name="openai-2-beside-httpx2",
        python="3.12",
        requirements=(LAST_2, "httpx2"),
    ),
    Environment(
        name="openai-3.0",
        python="3.11",
        requirements=("openai==3.0.0", "anyio==4.10.0"),
        absent=("httpx",),
    ),
    Environment(
        name="newest-3.11",
        python="3.11",
        requirements=(NEWEST,),
        absent=("httpx",),
    ),
    Environment(
        name="newest-3.12",
        python="3.12",
        requirements=(NEWEST,),
        absent=("httpx",),
    ),
    Environment(
        name="newest-3.13",
        python="3.13",
        requirements=(NEWEST,),
        absent=("httpx",),
    ),
    Environment(
        name="newest-3.14",
        python="3.14",
        requirements=(NEWEST,),
        absent=("httpx",),
    ),
    Environment(
        name="openai-2-3.14",
        python="3.14",
        requirements=(LAST_2,),
        absent=("httpx2",),
    ),
    Environment(
        name="openai-3-beside-httpx",
        python="3.13",
        requirements=(NEWEST, "httpx"),
    ),
    Environment(
        name="uvloop",
        python="3.12",
        requirements=(NEWEST, "uvloop; sys_platform != 'win32'"),
        loop="uvloop",
    ),
    Environment(
        name="uvloop-openai-2",
        python="3.13",
        requirements=(LAST_2, "uvloop; sys_platform != 'win32'"),
        absent=("httpx2",),
        loop="uvloop",
    ),
    Environment(
        name="aiohttp",
        python="3.12",
        requirements=("openai[aiohttp]>=3,<4",),
        absent=("httpx",),
        tests=("tests/test_aiohttp.py", "tests/test_client.py", "tests/call/test_retry_loop.py"),
    ),
    Environment(
        name="aiohttp-openai-2",
        python="3.11",
        requirements=("openai[aiohttp]>=2.54,<3",),
        absent=("httpx2",),
        tests=("tests/test_aiohttp.py", "tests/test_client.py", "tests/call/test_retry_loop.py"),
    ),
    Environment(
        name="wheel",
        python="3.13",
        requirements=(NEWEST,),
        absent=("httpx",),
        tests=(
            "tests/test_package.py",
            "tests/test_client.py",
            "tests/call/test_retry_loop.py",
            "tests/call/test_body_watch.py",
            "tests/fleet/test_coordinator.py",
            "tests/testing",
            "tests/cli",
        ),
        wheel=True,
        core=True,
    ),
)
