"""An error tracker takes the locals of every frame: none of ours shows a secret or content."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import comet_resilience
from comet_resilience import diagnose, support_report, wrap
from comet_resilience.client import Hidden
from comet_resilience.diagnosis.hints import SentRequest
from comet_resilience.diagnosis.redaction import redactor

from .conftest import LIMITED, OK, Answer, Scripted, bare_client, envelope, httpx

pytestmark = pytest.mark.anyio

PACKAGE = str(Path(comet_resilience.__file__).parent)
KEY, OLD_KEY = "sk-kEy7Qm4Zt9Lw2Xv", "sk-oLd3Hs8Tc5Bn1Pw"
PATH_TOKEN, QUERY_TOKEN = "pTh6Gz2Wd8Kc4Rv", "qRy6Bd1Hs8Fk3Mx"
PROMPT = "whispering cherry orchards at dusk"
TOKENS = (KEY[3:], OLD_KEY[3:], PATH_TOKEN, QUERY_TOKEN, PROMPT)

STREAM = {"content-type": "text/event-stream"}
FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'


def frames_of(error: BaseException) -> Iterator[tuple[str, dict[str, Any]]]:
    """The locals of our frames in the tracebacks of an exception and of what it came from."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        waiting += [found.__cause__, found.__context__]
        for frame, line in traceback.walk_tb(found.__traceback__):
            if frame.f_code.co_filename.startswith(PACKAGE):
                yield f"{frame.f_code.co_filename}:{line}", dict(frame.f_locals)


def echo(*, status: int = 400) -> tuple[int, Any, dict[str, str]]:
    """An answer that says everything that it was told."""
    return status, envelope("", f"bad {KEY} {OLD_KEY} {PATH_TOKEN} {QUERY_TOKEN}: {PROMPT}"), {}


CASES: dict[str, list[Answer]] = {
    "fault": [httpx.ConnectError(f"no way to /{PATH_TOKEN}/v1?key={QUERY_TOKEN} with {KEY}")],
    "timeout": [httpx.ReadTimeout("slow")],
    "redirect": [(301, b"", {"location": f"https://x.example/{PATH_TOKEN}?key={QUERY_TOKEN}"})],
    "page": [(404, b"<html><title>nothing</title>", {"content-type": "text/html"})],
    "wrong answer": [(200, echo()[1], {})],
    "refused": [echo()],
    "again": [echo(status=500)],
    "torn stream": [(200, [FIRST, httpx.ReadError(f"at {PATH_TOKEN}")], STREAM)],
    "late error": [(200, [FIRST, b"data: " + json.dumps(echo()[1]).encode() + b"\n\n"], STREAM)],
    "half a stream": [(200, [FIRST], STREAM)],
    "bug": [ValueError("none of ours")],
}


async def failing(answers: list[Answer], *, stream: bool = False, **options: Any) -> Any:
    """The exception that a call ends with whose base URL and query hold tokens."""
    client = wrap(
        bare_client(
            Scripted(answers),
            api_key=KEY,
            base_url=f"https://api.example.com/{PATH_TOKEN}/v1",
            default_query={"key": QUERY_TOKEN},
        ),
        max_retries=1,
        backoff_initial=0.0,
        backoff_max=0.0,
        **options,
    )
    return await caught(client, stream=stream)


async def caught(client: openai.AsyncOpenAI, *, stream: bool = False) -> Any:
    """The exception that a call with a prompt ends with."""
    try:
        answer: Any = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": PROMPT}], stream=stream
        )
        async for _ in answer:
            pass
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


def assert_silent(error: BaseException, *tokens: str) -> None:
    """Nothing of ours shows one of the tokens."""
    said = [(place, f"{name} = {value!r}") for place, found in frames_of(error)
            for name, value in found.items()]  # fmt: skip
    diagnosis = diagnose(error)
    said += [("text", text) for text in (
        *getattr(error, "__notes__", ()), str(diagnosis), repr(diagnosis),
        support_report(error).to_markdown(), support_report(error).to_json(),
    )]  # fmt: skip
    for place, text in said:
        for token in tokens or TOKENS:
            assert token not in text, f"{place}: {text[:300]}"


# The SDK leaves its generators to the collector where a stream breaks, and trio says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("case", CASES)
async def test_no_frame_shows_a_secret(case: str) -> None:
    """Faults, redirects, pages, wrong and broken answers: tokens of the base URL included."""
    answers = CASES[case]
    is_stream = not isinstance(answers[0], Exception) and answers[0][2] is STREAM
    assert_silent(await failing(answers, stream=is_stream))


async def test_a_partition_that_raises_brings_no_frame_that_does() -> None:
    """What a function of the caller's raises passes through our frames."""

    def broken(_: object) -> str:
        raise LookupError("not ours")

    assert_silent(await failing([OK], partition=broken))


async def test_a_key_function_that_raises_brings_no_frame_that_does() -> None:
    """It is asked again before a retry."""
    keys = iter([OLD_KEY])
    client = wrap(
        bare_client(
            Scripted([LIMITED]),
            api_key=lambda: next_key(keys),
            base_url=f"https://api.example.com/{PATH_TOKEN}/v1",
        ),
        backoff_initial=0.0,
        backoff_max=0.0,
    )
    assert_silent(await caught(client))


async def next_key(keys: Iterator[str]) -> str:
    """The next key.

    Raises:
        LookupError: If there is none.

    """
    for key in keys:
        return key
    raise LookupError("no key left")


async def test_the_key_of_an_earlier_attempt_is_secret_after_it_was_renewed() -> None:
    """An answer to the second attempt may still echo the first one's key."""
    keys = iter([OLD_KEY, KEY, KEY, KEY])
    client = wrap(
        bare_client(
            Scripted([LIMITED, echo()]),
            api_key=lambda: next_key(keys),
            base_url=f"https://api.example.com/{PATH_TOKEN}/v1",
            default_query={"key": QUERY_TOKEN},
        ),
        backoff_initial=0.0,
        backoff_max=0.0,
    )
    error = await caught(client)
    assert len(diagnose(error).attempts) == 2
    assert_silent(error)


def test_what_holds_a_key_or_a_body_does_not_show_it() -> None:
    """Neither alone nor as a member of something else."""
    sent = SentRequest(authorization=f"Bearer {KEY}", body=PROMPT.encode())
    assert KEY not in repr([sent])
    assert PROMPT not in repr([sent])
    known = redactor([KEY], PROMPT)
    assert KEY not in repr([known, known.secrets])
    assert PROMPT not in repr([known, Hidden(PROMPT)])
