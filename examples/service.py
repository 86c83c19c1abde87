"""A FastAPI service on one wrapped client, as one would deploy it.

    pip install comet-resilience fastapi uvicorn
    COMETAPI_KEY=sk-... python examples/service.py

    curl localhost:8000/chat -H 'content-type: application/json' -d '{"text": "Hello"}'
    curl localhost:8000/health

Each endpoint has a model of its own, and so a limit and a queue of its own, within which its
callers wait no longer than it promises. What does not fit is refused at once, with 503 and
Retry-After. Who hangs up gives the slot back. On SIGTERM the calls that run are finished.
"""

import asyncio
import json
import logging
import math
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from openai import APITimeoutError, AsyncOpenAI, AsyncStream, OpenAIError
from pydantic import BaseModel, Field

from comet_resilience import (
    Override,
    QueueFullError,
    QueueTimeoutError,
    diagnose,
    override,
    snapshot,
    wrap,
)

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.responses import JSONResponse, StreamingResponse
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install comet-resilience fastapi uvicorn")

T = TypeVar("T")
log = logging.getLogger("service")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The promise of an endpoint: its model, how much it says, how long its callers wait."""

    model: str
    max_tokens: int
    deadline: float
    queue_timeout: float

    def hold(self) -> Override:
        """A block in which requests keep the promise."""
        return override(deadline=self.deadline, queue_timeout=self.queue_timeout)


CHAT = Terms(model="gpt-5.4", max_tokens=500, deadline=20.0, queue_timeout=5.0)
SUMMARY = Terms(model="gpt-5.4-mini", max_tokens=200, deadline=60.0, queue_timeout=30.0)
#: How many callers may wait for each model; to the next one the service is overloaded.
MAX_QUEUE = 100
#: Seconds that calls have to finish after SIGTERM; above the longest deadline none is cut off.
GRACE = 70


class Question(BaseModel):
    """The body of a caller's request."""

    text: str = Field(min_length=1, max_length=20_000)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the whole service: what it learns of the gateway serves every caller."""
    bare = AsyncOpenAI(
        base_url=os.environ.get("COMETAPI_BASE_URL", "https://api.cometapi.com/v1"),
        api_key=os.environ["COMETAPI_KEY"],
    )
    client = wrap(
        bare, partition=lambda asked: asked.model, max_queue=MAX_QUEUE, stall_timeout=15.0
    )
    async with client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/chat")
async def chat(question: Question, request: Request) -> dict[str, str]:
    """Answer a question."""
    completion = await unless_gone(request, ask(request, CHAT, question.text))
    return {"answer": completion.choices[0].message.content or ""}


@app.post("/summary")
async def summary(question: Question, request: Request) -> dict[str, str]:
    """Summarise a text."""
    prompt = f"Summarise in three sentences:\n\n{question.text}"
    completion = await unless_gone(request, ask(request, SUMMARY, prompt))
    return {"summary": completion.choices[0].message.content or ""}


@app.post("/chat/stream")
async def chat_stream(question: Question, request: Request) -> Response:
    """Answer a question piece by piece, as server-sent events."""
    # The stream has begun when this returns: until then a failure still has a status of its own.
    stream = await unless_gone(request, ask(request, CHAT, question.text, stream=True))
    return StreamingResponse(events(stream), media_type="text/event-stream")


@app.get("/health")
async def health(request: Request) -> dict[str, Any]:
    """Return what runs and waits now, by model; "saturated" where the gateway refuses all."""
    partitions = snapshot(request.app.state.client).partitions
    is_open = all(partition.closed_for is None for partition in partitions)
    shown = [
        {
            "model": partition.partition,
            "limit": partition.limit,
            "in_flight": partition.in_flight,
            "waiting": partition.waiting,
        }
        for partition in partitions
    ]
    return {"status": "ok" if is_open else "saturated", "partitions": shown}


async def ask(request: Request, terms: Terms, text: str, *, stream: bool = False) -> Any:
    """Ask the model on an endpoint's terms."""
    client: AsyncOpenAI = request.app.state.client
    with terms.hold():
        return await client.chat.completions.create(
            model=terms.model,
            max_completion_tokens=terms.max_tokens,
            messages=[{"role": "user", "content": text}],
            stream=stream,
        )


async def events(stream: AsyncStream[Any]) -> AsyncIterator[str]:
    """Pass a stream on. It is closed however this ends, which frees its slot."""
    async with stream:
        try:
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield f"data: {json.dumps(chunk.choices[0].delta.content)}\n\n"
            yield "event: done\ndata: {}\n\n"
        except OpenAIError as error:  # too late for a status
            yield f"event: error\ndata: {json.dumps(explain(error))}\n\n"


async def unless_gone(request: Request, call: Coroutine[Any, Any, T]) -> T:
    """Await a call; cancel it when its caller hangs up, which FastAPI does not do by itself."""
    asking = asyncio.create_task(call)
    hanging_up = asyncio.create_task(hang_up(request))
    hanging_up.add_done_callback(lambda _: asking.cancel())
    try:
        return await asking
    except asyncio.CancelledError:
        if hanging_up.done():
            raise HTTPException(499) from None  # nobody will read it
        raise
    finally:
        hanging_up.cancel()


async def hang_up(request: Request) -> None:
    """Wait until the caller has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@app.exception_handler(OpenAIError)
async def refuse(request: Request, error: OpenAIError) -> JSONResponse:
    """Tell the caller whether to come back, and when."""
    if isinstance(error, QueueFullError | QueueTimeoutError):
        status, kind = 503, "overloaded"
    else:
        retryable, kind = diagnose(error).retryable, explain(error)
        status = 504 if isinstance(error, APITimeoutError) else 503 if retryable else 502
    headers = {"Retry-After": retry_after(request)} if status == 503 else None
    return JSONResponse({"error": kind}, status_code=status, headers=headers)


def explain(error: OpenAIError) -> str:
    """Tell the log what happened and what to do; the kind of failure is enough for the caller."""
    told = diagnose(error)
    log.error("%s", told.summary)
    return str(told.kind)


def retry_after(request: Request) -> str:
    """Whole seconds until it may be worth coming back: while the gateway is closed, not before."""
    waits = [p.closed_for or 0.0 for p in snapshot(request.app.state.client).partitions]
    return str(max(1, math.ceil(max(waits, default=0.0))))


if __name__ == "__main__":
    if not os.environ.get("COMETAPI_KEY"):
        sys.exit("COMETAPI_KEY is not set. Do: export COMETAPI_KEY=sk-...")
    uvicorn.run(app, host="127.0.0.1", port=8000, timeout_graceful_shutdown=GRACE)
