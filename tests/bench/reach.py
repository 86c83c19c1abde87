"""The files that a request passes: ``python -m tests.bench.reach``.

One call of the real SDK that is answered, and one that is refused once and then answered, each
traced. Every file of the package counts whose code runs, and every call of its functions, each
turn of a generator included. Files are also counted with ``limits`` and ``verdict`` as one each,
because the call knows them by their doors: ``acquire``, ``accept`` and ``release`` of the one,
pure functions of the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import openai

import comet_resilience
from comet_resilience import wrap
from comet_resilience.wire.family import family_of_sdk

ROOT = Path(comet_resilience.__file__).parent
#: Rooms that the call knows by their doors alone.
CLOSED_ROOMS = ("limits", "verdict")
httpx: Any = family_of_sdk()
MESSAGES: Any = [{"role": "user", "content": "x"}]
ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "y"}}
    ],
}
REFUSAL = {"error": {"message": "slow down", "type": "rate_limit"}}


async def calls_by_file(*statuses: int) -> Counter[str]:
    """Return how often a request that is answered so calls a function of each file.

    The files stand in the order of their first use.
    """
    left = [200, *statuses]

    async def answer(_request: object) -> Any:
        status = left.pop(0)
        return httpx.Response(status, content=json.dumps(ANSWER if status == 200 else REFUSAL))

    http_client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    bare = openai.AsyncOpenAI(api_key="k", base_url="http://x.test/v1", http_client=http_client)
    calls: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _argument: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and ROOT in file.parents:
            calls[str(file.relative_to(ROOT))] += 1

    async with wrap(bare, backoff_initial=0.0) as client:
        await client.chat.completions.create(model="m", messages=MESSAGES)  # what is made once
        sys.setprofile(trace)
        try:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        finally:
            sys.setprofile(None)
    return calls


def doors_of(files: Iterable[str]) -> list[str]:
    """Return files with each closed room as one."""
    rooms = (file.partition("/")[0] if file.startswith(CLOSED_ROOMS) else file for file in files)
    return list(dict.fromkeys(rooms))


async def _main() -> None:
    for what, statuses in (("a success", [200]), ("a 429 and its retry", [429, 200])):
        calls = await calls_by_file(*statuses)
        doors, total = doors_of(calls), calls.total()
        outside = total - sum(calls[file] for file in calls if file.startswith("limits/"))
        print(f"{what}: {len(calls)} files, {len(doors)} with {' and '.join(CLOSED_ROOMS)} as one")
        print(f"  {total} Python calls, {outside} of them outside limits")
        print("  " + ", ".join(doors))


if __name__ == "__main__":
    logging.disable()
    asyncio.run(_main())
