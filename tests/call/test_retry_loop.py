"""The ways a request can take, each with the real SDK, on both event loops, in virtual time."""

from __future__ import annotations

import gzip
import json
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import (
    DeadlineExceededError,
    Event,
    FailureKind,
    InvalidAnswerError,
    QueueFullError,
    QueueTimeoutError,
    RetryScheduled,
    Rule,
    WrongEndpointError,
    diagnose,
    snapshot,
)
from comet_resilience.verdict.vocabulary import Action

from ..conftest import (
    BROKEN,
    COMPLETION,
    FAST,
    JSON,
    KEY,
    LIMITED,
    MESSAGES,
    OK,
    Answer,
    ask,
    envelope,
    failure_of,
    httpx,
    in_virtual_time,
    scripted,
)

pytestmark = pytest.mark.anyio


async def test_a_success_is_passed_on_untouched() -> None:
    """One send, and no trace of us in what the caller sees."""
    client, inner = scripted(OK)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 1
    assert inner.closed == inner.opened


async def test_the_response_of_a_success_is_the_inner_transports_own() -> None:
    """The very object that the inner transport made reaches the caller."""
    client, inner = scripted(OK)
    made: list[Any] = []
    send = inner.answer

    async def remember(request: Any) -> Any:
        made.append(await send(request))
        return made[-1]

    inner.behave = remember
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.http_response is made[0]
    assert raw.http_response.elapsed.total_seconds() >= 0


@pytest.mark.parametrize("first", [LIMITED, BROKEN, httpx.ConnectError("no"), httpx.ReadError("")])
async def test_what_deserves_it_is_sent_again(first: Answer) -> None:
    """A rate limit, a server error and a broken connection are retried until they pass."""
    client, inner = scripted(first, first, OK, **FAST)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3
    assert len(inner.closed) == len(inner.opened)


NEVER_RETRIED: list[tuple[Answer, type[Exception], FailureKind]] = [
    ((400, envelope("", "bad"), {}), openai.BadRequestError, FailureKind.INVALID_REQUEST),
    (
        (401, envelope("", "invalid token"), {}),
        openai.AuthenticationError,
        FailureKind.AUTHENTICATION,
    ),
    ((403, envelope("", "no"), {}), openai.PermissionDeniedError, FailureKind.PERMISSION),
    ((301, b"", {"location": "https://www.cometapi.com/"}), WrongEndpointError,
     FailureKind.WRONG_PATH),
    ((200, b"<!doctype html><title>Comet</title>", {"content-type": "text/html"}),
     WrongEndpointError, FailureKind.WRONG_PATH),
    ((404, b"<html><title>404</title></html>", {}), openai.NotFoundError, FailureKind.WRONG_PATH),
    ((413, b"<html><h1>413 Request Entity Too Large</h1></html>", {}), openai.APIStatusError,
     FailureKind.TOO_LARGE),
    ((500, envelope("invalid_request", "field messages is required"), {}),
     openai.InternalServerError, FailureKind.INVALID_REQUEST),
    ((500, envelope("", "field messages is required"), {}), openai.InternalServerError,
     FailureKind.INVALID_REQUEST),
    ((503, envelope("model_not_found", "no available channel for group default and model x"), {}),
     openai.InternalServerError, FailureKind.MODEL_UNAVAILABLE),
    ((501, envelope("", "no"), {}), openai.InternalServerError, FailureKind.UNSUPPORTED),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "error", "kind"), NEVER_RETRIED)
async def test_what_cannot_get_better_is_sent_once(
    answer: Answer, error: type[Exception], kind: FailureKind
) -> None:
    """Each failure that the guide says not to retry is one send and the SDK's own exception."""
    client, inner = scripted(answer, **FAST)
    caught = await failure_of(client)
    assert isinstance(caught, error)
    assert len(inner.sent) == 1
    assert diagnose(caught).kind is kind
    assert not diagnose(caught).retryable


async def test_the_sdk_never_retries_on_top_of_us() -> None:
    """Whatever number the client has, each failure is answered by our own attempts alone."""
    client, inner = scripted(BROKEN, **FAST)
    await failure_of(client.with_options(max_retries=3))
    assert len(inner.sent) == 4
    client, inner = scripted(httpx.ConnectError("no"), **FAST)
    await failure_of(client.with_options(max_retries=0))
    assert len(inner.sent) == 1


@in_virtual_time
async def test_retry_after_is_never_cut_short() -> None:
    """A hint in seconds or milliseconds is waited out in full, and little longer."""
    for headers, least in (({"retry-after": "20"}, 20.0), ({"retry-after-ms": "1500"}, 1.5)):
        client, _ = scripted((429, envelope("", ""), headers), OK, **FAST)
        started = anyio.current_time()
        await ask(client)
        assert least <= anyio.current_time() - started <= least * 1.06


async def test_a_hint_above_the_cap_gives_up_at_once() -> None:
    """A wait longer than max_retry_after is not begun; the error says how long it would be."""
    client, inner = scripted((429, envelope("", ""), {"retry-after": "600"}), OK)
    caught = await failure_of(client)
    assert isinstance(caught, openai.RateLimitError)
    assert len(inner.sent) == 1
    assert "600 s" in diagnose(caught).reason


@in_virtual_time
async def test_the_default_backoff_waits_between_attempts() -> None:
    """Six retries take at most the sum of their ceilings, and the limiter adds little."""
    waits: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, RetryScheduled):
            waits.append(event.delay)

    client, inner = scripted(BROKEN, on_event=note)
    await failure_of(client)
    assert len(inner.sent) == 7
    assert all(0 <= wait <= 0.5 * 2**place for place, wait in enumerate(waits))


@in_virtual_time
async def test_it_never_sleeps_past_the_callers_deadline() -> None:
    """With three seconds left and a hint of thirty, the 429 comes back at once."""
    client, inner = scripted((429, envelope("", ""), {"retry-after": "30"}), OK)
    started = anyio.current_time()
    with anyio.fail_after(3):
        caught = await failure_of(client)
    assert isinstance(caught, openai.RateLimitError)
    assert anyio.current_time() == started
    assert len(inner.sent) == 1
    assert "deadline" in diagnose(caught).reason


@in_virtual_time
async def test_the_deadline_covers_a_slow_answer() -> None:
    """An attempt that runs past ``deadline=`` ends in a timeout of the SDK's family."""
    client, inner = scripted(OK, deadline=2.0)

    async def hang(_request: Any) -> Any:
        await anyio.sleep(100)

    inner.behave = hang
    started = anyio.current_time()
    caught = await failure_of(client)
    assert isinstance(caught, DeadlineExceededError)
    assert isinstance(caught, openai.APITimeoutError)
    assert anyio.current_time() - started == pytest.approx(2.0)
    assert diagnose(caught).kind is FailureKind.TIMEOUT
    assert snapshot(client).partitions[0].in_flight == 0


async def test_a_body_that_cannot_be_sent_again_is_sent_once() -> None:
    """A generator body gets one attempt, and the error says why it was not retried."""
    client, inner = scripted(BROKEN, OK, **FAST)

    async def body() -> Any:
        yield b'{"model": "m"}'

    once: Any = body()
    with pytest.raises(openai.InternalServerError) as caught:
        await client.post("/chat/completions", content=once, cast_to=object)
    assert len(inner.sent) == 1
    assert "only once" in diagnose(caught.value).reason


class OnceReadable:
    """A file-like object that cannot be rewound."""

    def __init__(self, data: bytes) -> None:
        self._data = [data]

    def read(self, _size: int = -1) -> bytes:
        """Give the data once."""
        return self._data.pop() if self._data else b""

    def seekable(self) -> bool:
        """Say that there is no way back."""
        return False


async def test_a_seekable_upload_is_sent_again_whole() -> None:
    """The second attempt of a multipart request carries the file again."""
    import io

    client, inner = scripted(BROKEN, (200, {"text": "hello"}, {}), **FAST)
    await client.audio.transcriptions.create(model="w", file=("a.wav", io.BytesIO(b"RIFF" * 9)))
    assert inner.bodies[0] == inner.bodies[1]
    assert b"RIFF" * 9 in inner.bodies[1]


async def test_a_gzipped_error_is_read() -> None:
    """Code and message are found in a compressed body, whatever its content type says."""
    body = gzip.compress(json.dumps(envelope("invalid_request", "field x is required")).encode())
    headers = {"content-encoding": "gzip", "content-type": "text/event-stream"}
    client, inner = scripted((500, body, headers), **FAST)
    caught = await failure_of(client)
    assert len(inner.sent) == 1
    assert caught.code == "invalid_request"


BAD_ANSWERS: list[tuple[Answer, int]] = [
    ((200, envelope("model_not_found", "no such model"), {}), 1),
    ((200, b"", {}), 3),
    ((200, b'{"choices": [{"mess', {}), 2),
    ((200, b"{}", {}), 2),
    ((200, b"null", {}), 2),
    ((200, b'"no"', {}), 1),
    ((200, {"code": 0, "message": "success", "data": COMPLETION}, {}), 2),
    ((200, {"success": False, "message": "no"}, {}), 1),
    ((200, b"plain words", {"content-type": "application/json"}), 2),
]


@pytest.mark.parametrize(("answer", "sends"), BAD_ANSWERS)
async def test_a_success_that_is_none_is_an_error(answer: Answer, sends: int) -> None:
    """Under 200: an error, nothing, half an answer or no JSON never reach the caller as success."""
    client, inner = scripted(answer, max_retries=2, **FAST)
    caught = await failure_of(client)
    assert isinstance(caught, InvalidAnswerError)
    assert isinstance(caught, openai.APIStatusError)
    assert len(inner.sent) == sends


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        ({"text": "hello"}, True),
        (b"hello", True),
        (b"", True),
        (b"1\n00:00:00,000 --> 00:00:01,000\nhello\n", True),
        (envelope("invalid_request", "no file"), False),
        (b"<!doctype html><html><title>x</title></html>", False),
    ],
)
async def test_transcripts_may_be_text(body: Any, passes: bool) -> None:
    """JSON or plain text is an answer to an upload of sound; an error or a web page is none."""
    client, inner = scripted((200, body, {}), **FAST)
    call = client.audio.transcriptions.create(
        model="w",
        file=("a.wav", b"RIFF"),
        response_format="json" if body == {"text": "hello"} else "text",
    )
    if passes:
        await call
    else:
        with pytest.raises(openai.APIStatusError):
            await call
    assert len(inner.sent) == 1


async def test_a_transcript_that_should_be_json_is_not_empty() -> None:
    """Silence has its JSON, too; without any the SDK would raise an error of the JSON parser."""
    client, inner = scripted((200, b"", JSON), (200, {"text": ""}, JSON), **FAST)
    answer = await client.audio.transcriptions.create(model="w", file=("a.wav", b"RIFF"))
    assert answer.text == ""
    assert len(inner.sent) == 2


async def test_what_was_begun_in_the_background_is_not_begun_twice() -> None:
    """A broken connection does not stop it; a refusal proves that it has not begun."""
    whole = {"id": "r", "output": [], "status": "queued"}
    client, inner = scripted(httpx.ReadError("gone"), (200, whole, JSON), **FAST)
    with pytest.raises(openai.APIConnectionError):
        await client.responses.create(model="m", input="x", background=True)
    assert len(inner.sent) == 1
    client, inner = scripted(LIMITED, (200, whole, JSON), **FAST)
    await client.responses.create(model="m", input="x", background=True)
    assert len(inner.sent) == 2


async def test_sound_that_is_json_is_an_error() -> None:
    """An error under 200 is never written into a file as speech; sound passes untouched."""
    body = envelope("invalid_request", "no such voice")
    client, _ = scripted((200, body, {"content-type": "application/json"}), **FAST)
    with pytest.raises(InvalidAnswerError):
        await client.audio.speech.create(model="t", voice="alloy", input="x")
    for mislabelled in (
        b'{\n  "error": {"message": "no such voice"}}',
        b'{"base_resp": {"status_code": 1002, "status_msg": "too fast"}}',
        b"<!DOCTYPE html><title>Bad gateway</title>",
    ):
        client, _ = scripted((200, mislabelled, {"content-type": "audio/mpeg"}), **FAST)
        with pytest.raises(openai.APIStatusError):
            await client.audio.speech.create(model="t", voice="alloy", input="x")
    client, _ = scripted((200, b"ID3", {"content-type": "audio/mpeg"}), **FAST)
    assert (await client.audio.speech.create(model="t", voice="alloy", input="x")).content == b"ID3"


async def test_an_answer_that_breaks_off_is_retried() -> None:
    """A body that fails while it is read is one more failed attempt."""
    half: Answer = (200, [b'{"choices"', httpx.ReadError("gone")], {})
    client, inner = scripted(half, OK, **FAST)
    assert await ask(client) == "Hi"
    assert len(inner.closed) == len(inner.opened) == 2


async def test_downloads_may_redirect_and_take_no_secret_along() -> None:
    """File contents follow their redirect to another host, without the caller's own headers."""
    inner_answers: list[Answer] = [
        (302, b"", {"location": "https://api.cometapi.com/elsewhere/file"}),
        (307, b"", {"location": "https://cdn.test/file?sig=1"}),
        (200, b"bytes", {"content-type": "application/octet-stream"}),
    ]
    client, inner = scripted(*inner_answers)
    client = client.with_options(default_headers={"x-api-key": KEY})
    answer = await client.files.content("file-1")
    assert answer.content == b"bytes"
    headers, url, _ = inner.sent[2]
    assert url.startswith("https://cdn.test/")
    assert KEY not in str(headers)


async def test_paid_media_is_not_sent_again_when_nobody_knows() -> None:
    """A lost answer to an image request is not repeated; the same to a chat is."""
    client, inner = scripted(httpx.ReadTimeout("slow"), **FAST)
    with pytest.raises(openai.APITimeoutError) as caught:
        await client.images.generate(model="m", prompt="a comet")
    assert len(inner.sent) == 1
    assert diagnose(caught.value).may_be_billed
    client, inner = scripted(
        httpx.ReadTimeout("slow"), retry_ambiguous="all", max_retries=1, **FAST
    )
    with pytest.raises(openai.APITimeoutError):
        await client.images.generate(model="m", prompt="a comet")
    assert len(inner.sent) == 2


async def test_own_rules_come_first() -> None:
    """A caller's row overrides the table."""
    never = Rule(
        name="never-429", status={429}, kind=FailureKind.RATE_LIMITED, action=Action.FAIL,
        reason="because I say so", source="user",
    )  # fmt: skip
    client, inner = scripted(LIMITED, OK, rules=[never])
    assert diagnose(await failure_of(client)).rule == "never-429"
    assert len(inner.sent) == 1


@in_virtual_time
async def test_nothing_is_held_while_sleeping() -> None:
    """During a backoff of a minute the slot is free and the response closed."""
    client, inner = scripted((429, envelope("", ""), {"retry-after": "50"}), OK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        await anyio.sleep(10)
        assert snapshot(client).partitions[0].in_flight == 0
        assert len(inner.closed) == 1
    assert await ask(client) == "Hi"


async def test_a_full_queue_sheds_before_sending() -> None:
    """Above max_queue a request fails at once with a clear OpenAIError; nothing was sent."""
    client, inner = scripted(OK, initial_concurrency=1, max_concurrency=1, max_queue=1)
    gate = inner.hold()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        tasks.start_soon(ask, client)
        await anyio.wait_all_tasks_blocked()
        caught = await failure_of(client)
        assert isinstance(caught, QueueFullError)
        assert "max_queue=1" in str(caught)
        assert diagnose(caught).attempts == ()
        gate.set()
    assert len(inner.sent) == 2


@in_virtual_time
async def test_a_slow_queue_times_out() -> None:
    """A request that waits longer than queue_timeout fails with a clear OpenAIError."""
    client, inner = scripted(OK, max_concurrency=1, queue_timeout=3.0)
    inner.delay(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        await anyio.wait_all_tasks_blocked()
        started = anyio.current_time()
        caught = await failure_of(client)
        assert isinstance(caught, QueueTimeoutError)
        assert anyio.current_time() - started == pytest.approx(3.0)
    assert snapshot(client).partitions[0].waiting == 0


async def test_an_exception_of_the_callers_is_not_ours() -> None:
    """What is no fault of the exchange passes through as it is, and the slot is free."""
    client, inner = scripted(OK)

    async def bug(_request: Any) -> Any:
        raise KeyError("a bug in somebody's transport")

    inner.behave = bug
    with pytest.raises((KeyError, openai.APIConnectionError)):
        await client.with_options(max_retries=0).chat.completions.create(
            model="m", messages=MESSAGES
        )
    assert snapshot(client).partitions[0].in_flight == 0


async def test_cancelling_releases_everything() -> None:
    """A cancelled request leaves no slot held and no waiter behind."""
    client, inner = scripted(OK, initial_concurrency=1, max_concurrency=1)

    inner.hold()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        tasks.start_soon(ask, client)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    shown = snapshot(client).partitions[0]
    assert (shown.in_flight, shown.waiting) == (0, 0)


async def test_an_unread_completion_holds_no_slot() -> None:
    """The plain answer is read inside, so its slot is free when it reaches the caller."""
    client, _ = scripted((200, COMPLETION, {}))
    await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert snapshot(client).partitions[0].in_flight == 0


@in_virtual_time
async def test_a_task_created_moments_ago_may_not_be_visible_yet() -> None:
    """Polling a new task is retried while it is unknown; another unknown task is not."""
    unknown: Answer = (400, envelope("task_not_exist", "no such task"), {})
    video: Answer = (200, {"id": "video_1", "status": "queued", "object": "video"}, {})
    client, inner = scripted(video, unknown, unknown, video)
    await client.post("/videos", body={"model": "v"}, cast_to=object)
    await client.get("/videos/video_1", cast_to=object)
    assert len(inner.sent) == 4
    inner.answers = [unknown]
    with pytest.raises(openai.BadRequestError):
        await client.get("/videos/video_2", cast_to=object)
    assert len(inner.sent) == 5
