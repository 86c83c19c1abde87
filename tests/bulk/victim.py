"""A bulk run to be killed, as a program: ``victim.py BACKEND FOLDER MODE``.

Each call that reaches the gateway leaves a line in ``sent``, each result that the loop has
handled a line in ``handled``. ``MODE`` is ``keys`` or ``results``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio

from comet_resilience import FixedLimit, run_all
from tests.conftest import OK, scripted

ITEMS = 200


def note(path: Path, line: object) -> None:
    """Append a line, by one write."""
    with path.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


async def main(folder: Path, mode: str) -> None:
    """Ask for all items, slowly enough to be killed on the way."""
    client, inner = scripted(OK, algorithm=lambda: FixedLimit(8))

    async def answer(request: Any) -> Any:
        note(folder / "sent", request.headers["x-item"])
        await anyio.sleep(0.01)
        return await inner.answer(request)

    inner.behave = answer

    async def ask(item: int) -> dict[str, object]:
        done = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "Hello"}],
            extra_headers={"x-item": str(item)},
        )
        return {"item": item, "text": done.choices[0].message.content}

    running = run_all(
        ask,
        range(ITEMS),
        client=client,
        finished=folder / "finished.jsonl",
        store_results=mode == "results",
    )
    tasks = len(anyio.get_running_tasks())
    try:
        async with running as results:
            async for item, result in results:
                assert result == {"item": item, "text": "Hi"}
                note(folder / "handled", item)
    finally:
        note(folder / "ended", len(anyio.get_running_tasks()) - tasks)


if __name__ == "__main__":
    # A suite that runs in the background of a shell has Ctrl-C ignored, and this would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (folder := Path(sys.argv[2])).mkdir(exist_ok=True)
    note(folder / "started", os.getpid())
    anyio.run(main, folder, sys.argv[3], backend=sys.argv[1])
