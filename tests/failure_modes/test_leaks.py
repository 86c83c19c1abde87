"""Modes 18 and 19: secrets in whatever outlives a request, and a server's text in our mouth."""

from __future__ import annotations

import asyncio
import copy
import io
import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import comet_resilience
from comet_resilience import Event, diagnose, snapshot, support_report, wrap
from tests.conftest import (
    SSE,
    Answer,
    Scripted,
    ask,
    bare_client,
    chunk,
    engine_of,
    envelope,
    httpx,
)

pytestmark = pytest.mark.timeout(120)
PACKAGE = comet_resilience.__path__[0]
KEY = "sk-CANARY-9f1c5b7e2a604d38"
SECRETS = {
    "key": KEY,
    "header": "hdr-CANARY-41d07c9be2",
    "query": "qry-CANARY-77aa03e1f5",
    "userinfo": "usr-CANARY-c20b6d94e8",
    "prompt": "prm-CANARY-the-private-words",
}
ECHO = " and ".join(SECRETS.values())
ANSWERS: dict[str, Answer] = {
    "refused": (400, envelope("bad", f"you sent {ECHO}"), {"x-request-id": KEY}),
    "limited": (429, envelope("", f"slow down, {ECHO}"), {"retry-after": "0"}),
    "page": (403, f"<html><title>{KEY}</title>{ECHO}</html>".encode(), {}),
    "redirect": (302, b"", {"location": f"https://{KEY}@x.test/{KEY}?k={KEY}"}),
    "error_under_200": (200, envelope("x", ECHO), {}),
    "fault": httpx.ReadError(f"lost {ECHO}"),
    "cut": (200, [chunk("Hel"), httpx.ReadError(ECHO)], SSE),
}


class Told:
    """Everything that a failed request leaves behind."""

    def __init__(self, name: str, api_key: Any = KEY) -> None:
        self.events: list[Event] = []
        self.journal: list[Any] = []
        self.log = io.StringIO()
        self.client = wrap(
            bare_client(
                Scripted([ANSWERS[name]]),
                api_key=api_key,
                base_url=f"https://me:{SECRETS['userinfo']}@api.test/v1",
                default_headers={"x-team": SECRETS["header"], "authorization": f"Bearer {KEY}"},
                default_query={"key": SECRETS["query"]},
            ),
            max_retries=1,
            backoff_initial=0.0,
            on_event=self.events.append,
            journal=self.journal.append,
        )
        self.error = asyncio.run(self._failed(stream=name == "cut"))

    async def _failed(self, *, stream: bool) -> BaseException:
        messages: Any = [{"role": "user", "content": SECRETS["prompt"]}]
        handler = logging.StreamHandler(self.log)
        logger = logging.getLogger("comet_resilience")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            with pytest.raises((openai.OpenAIError, RuntimeError)) as caught:
                answer: Any = await self.client.chat.completions.create(
                    model="m", messages=messages, stream=stream
                )
                async for _ in answer:
                    pass
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        return caught.value

    def texts(self) -> Iterator[str]:
        """All of it as text."""
        error: Any = self.error
        yield self.log.getvalue()
        yield from (repr(event) for event in self.events)
        yield from (repr(line) for line in self.journal)
        yield from error.__notes__
        yield from map(repr, (diagnose(error), support_report(error), snapshot(self.client)))
        yield support_report(error).to_markdown()
        for value in (error, diagnose(error), copy.copy(error), self.events):
            yield pickle.dumps(value).decode("latin-1")
        yield from self.locals_of_our_frames()

    def locals_of_our_frames(self) -> Iterator[str]:
        """Return what an error tracker keeps of our own frames, of the error and of its causes."""
        error: BaseException | None = self.error
        while error is not None:
            for frame, _ in traceback.walk_tb(error.__traceback__):
                if frame.f_code.co_filename.startswith(PACKAGE):
                    names = frame.f_locals.items()
                    yield from (f"{k}={_shown(v)}" for k, v in names)
            error = error.__cause__


def _shown(value: object) -> str:
    """What is ours as it shows itself; what is the SDK's or the HTTP library's is theirs."""
    ours = type(value).__module__.startswith("comet_resilience")
    return repr(value) if ours or isinstance(value, (str, bytes, dict, tuple, list)) else ""


@pytest.mark.parametrize("name", ANSWERS)
def test_fm18_no_secret_outlives_a_request(name: str) -> None:
    """Key, header, query, userinfo, prompt: in no log, event, report, pickle or local of ours."""
    told = Told(name)
    for text in told.texts():
        for secret in SECRETS.values():
            assert secret not in text, text[:500]


def test_fm18_key_function_that_fails_tells_nothing() -> None:
    """Where the caller's own key function raises between attempts our frames hold no secret."""
    keys = iter([KEY])

    async def key() -> str:
        return next(keys)

    told = Told("limited", api_key=key)
    assert isinstance(told.error, (RuntimeError, openai.OpenAIError))
    shown = list(told.locals_of_our_frames())
    assert shown
    if not openai.__version__.startswith(("2.", "3.0.")):  # those try again, and show the last try
        assert any("call=" in text for text in shown)
    assert not [text for text in shown if any(secret in text for secret in SECRETS.values())]


def test_fm18_objects_show_no_secret() -> None:
    """Client, transport, engine and what they hold have harmless representations."""
    told = Told("limited")
    transport: Any = told.client._client._transport
    engine = engine_of(told.client)
    for thing in (transport, engine, engine.config, snapshot(told.client)):
        assert not any(secret in repr(thing) for secret in SECRETS.values())


hostile = st.text(
    st.sampled_from(
        "ab \x00\x07\x08\x1b\x9b\r\n\t\x7f\x85\u2028\u2029\u202e\u2066\u200b\ufeff\ud800"
    )
    | st.characters(),
    max_size=80,
)


@settings(max_examples=40)
@given(text=hostile, code=hostile)
def test_fm19_server_text_is_one_printable_line(text: str, code: str) -> None:
    """Escape sequences, line ends and bidi marks of a server reach no log line and no note."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("comet_resilience")
    answers: list[Answer] = [
        (429, envelope(code, text), {}),
        (400, {"error": {"message": text * 50, "code": code, "type": text}}, {}),
    ]
    client = wrap(bare_client(Scripted(answers)), backoff_initial=0.0, backoff_max=0.0)
    logger.addHandler(handler)
    try:
        with pytest.raises(openai.OpenAIError) as caught:
            asyncio.run(_all(client))
    finally:
        logger.removeHandler(handler)
    found = diagnose(caught.value)
    for line in (*lines, found.message, found.code, found.meaning, found.reason):
        assert line.isprintable()
        assert len(line) <= 6_000
    assert len(found.message) <= 10 * 501  # characters of the server's, each escaped at most
    for note in caught.value.__notes__:
        assert all(part.isprintable() for part in note.split("\n"))


async def _all(client: Any) -> None:
    for _ in range(3):
        await ask(client)
