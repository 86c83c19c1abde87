"""The Redis server of the fleet's example, for tests and benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

# Last, so that no example hides a module of the same name.
sys.path.append(str(Path(__file__).parents[1] / "examples"))

from redis_server import RedisServer as RedisServer  # noqa: PLC0414
from redis_server import server_binary as server_binary  # noqa: PLC0414
