"""The load: calls of every kind, among them cancelled, closed and dropped ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from .tally import HEADER, Tally

TEXT = "The gateway has an answer for you."
MESSAGES: Any = [{"role": "user", "content": "x" * 200}]
MODELS = tuple(f"model-{number}" for number in range(8))
#: How many retries calls allow, most of them the default.
RETRIES = (6, 6, 6, 6, 2, 0)
#: How often a call is of which kind, in percent.
KINDS = {"whole": 58, "stream": 25, "embed": 5, "cancel": 5, "close": 3, "drop": 4}
_CANCELLED_WITHIN = 0.05


class Load:
    """Makes calls and judges what comes back."""

    def __init__(self, clients: list[Any], tally: Tally, seed: int) -> None:
        self._clients = clients
        self._tally = tally
        self._chance = random.Random(seed)
        self._ways: dict[str, Callable[[Any, dict[str, Any]], Awaitable[str]]] = {
            "whole": self._whole,
            "stream": self._stream,
            "embed": self._embed,
            "close": self._close,
            "drop": self._drop,
        }

    async def call(self) -> None:
        """One call, from its begin to its end in the tally."""
        chance, tally = self._chance, self._tally
        (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
        max_retries = chance.choice(RETRIES)
        client = chance.choice(self._clients).with_options(max_retries=max_retries)
        name = tally.begin(max_retries)
        said = {"model": chance.choice(MODELS), "extra_headers": {HEADER: name}}
        if kind == "cancel":
            await self._cancel(client, said, name)
            return
        try:
            tally.end(name, await self._ways[kind](client, said))
        except Exception as error:  # noqa: BLE001 - judged by the tally
            tally.fail(name, error)

    async def _whole(self, client: Any, said: dict[str, Any]) -> str:
        answer = await client.chat.completions.create(messages=MESSAGES, **said)
        self._expect(answer.choices[0].message.content)
        return "answered"

    async def _stream(self, client: Any, said: dict[str, Any]) -> str:
        parts = []
        async with await self._opened(client, said) as stream:
            async for chunk in stream:
                parts += [choice.delta.content or "" for choice in chunk.choices]
        self._expect("".join(parts))
        return "answered"

    async def _embed(self, client: Any, said: dict[str, Any]) -> str:
        answer = await client.embeddings.create(input="x", **said)
        if not answer.data[0].embedding:
            self._tally.breach("an embedding is empty")
        return "answered"

    async def _close(self, client: Any, said: dict[str, Any]) -> str:
        async with await self._opened(client, said) as stream:
            await anext(aiter(stream))
        return "closed early"

    async def _drop(self, client: Any, said: dict[str, Any]) -> str:
        stream = await self._opened(client, said)
        if self._chance.random() < 0.5:  # else nothing but the garbage collector will know
            await anext(aiter(stream))
        return "dropped"

    async def _cancel(self, client: Any, said: dict[str, Any], name: str) -> None:
        way = self._whole if self._chance.random() < 0.5 else self._stream
        task = asyncio.ensure_future(way(client, said))
        await asyncio.sleep(self._chance.uniform(0, _CANCELLED_WITHIN))
        task.cancel()
        try:
            self._tally.end(name, await task)
        except asyncio.CancelledError:
            self._tally.end(name, "cancelled")
        except Exception as error:  # noqa: BLE001 - judged by the tally
            self._tally.fail(name, error)

    async def _opened(self, client: Any, said: dict[str, Any]) -> Any:
        return await client.chat.completions.create(messages=MESSAGES, stream=True, **said)

    def _expect(self, text: str | None) -> None:
        if text != TEXT:
            self._tally.breach(f"a call was answered with {text!r}")


async def many(load: Load, count: int, seconds: float) -> None:
    """So many calls, begun evenly over so many seconds; returns when all have ended."""
    started, loop = asyncio.get_running_loop().time(), asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number * seconds / count - loop.time()))
            tasks.create_task(load.call())
