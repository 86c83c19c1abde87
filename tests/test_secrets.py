"""Secrets and content, planted wherever a request has room for them, and looked for everywhere."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import anyio
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience import Event, FixedLimit, diagnose, support_report, wrap

from .conftest import Answer, Scripted, bare_client, envelope, httpx

#: What no secret and no text may be found by, once it is planted: it stands in its middle.
KEY_CORE, HEADER_CORE, QUERY_CORE = "kEy7Qm4Zt9Lw2", "hDr5Vx8Np3Rj6", "qRy6Bd1Hs8Fk3"
USER_CORE, FIELD_CORE, COOKIE_CORE = "uSr3Wc7Yg2Tn5", "fLd9Jp4Xa6Mv8", "cKi2Zr5Eb7Uh4"
TEXT_CORE, FILE_CORE = "whispering cherry orchards", "fILe4Kd8Sw1Gy6"
SECRETS = (KEY_CORE, HEADER_CORE, QUERY_CORE, USER_CORE, FIELD_CORE, COOKIE_CORE, FILE_CORE)

#: Printable ASCII: what a header can hold, quotes, backslashes and percent signs included.
around = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8)
words = st.text(st.characters(codec="utf-8"), max_size=20)


@dataclass
class Planted:
    """The secrets that were planted."""

    key: str
    text: str
    header: str = f"x{HEADER_CORE}y"
    query: str = f"x{QUERY_CORE}&/+y"

    @property
    def echoes(self) -> str:
        """The key in every form in which a server may say it."""
        basic = base64.b64encode(f"user:{self.key}".encode()).decode()
        forms = (self.key, quote(self.key, safe=""), json.dumps(self.key), f"Basic {basic}")
        others = (self.header, self.query, quote(self.query, safe=""), FIELD_CORE)
        return " and ".join((*forms, *others, f"Bearer {self.key}"))


planted = st.builds(
    lambda a, b, c, d: Planted(key=f"{a}{KEY_CORE}{b}", text=f"{c}{TEXT_CORE}{d}"),
    around, around, words, words,
)  # fmt: skip


def _json_error(plant: Planted) -> Answer:
    message = f"bad {plant.echoes}; the prompt was {plant.text!r} by {plant.text}"
    return 400, envelope(plant.key[:40], message), {"x-cometapi-request-id": plant.key}


def _unavailable(plant: Planted) -> Answer:
    return 503, envelope("", f"{plant.echoes} {plant.text}"), {"cf-ray": plant.key}


def _foreign_json(plant: Planted) -> Answer:
    body = {"echo": {"authorization": plant.key, "prompt": plant.text}, plant.key: [plant.key]}
    return 422, body, {"set-cookie": plant.key, "server": plant.key}


def _page(plant: Planted) -> Answer:
    page = f"<!doctype html><title>{plant.key}</title><p>{plant.echoes} {plant.text}</p>"
    return 403, page.encode(), {"content-type": "text/html"}


def _plain(plant: Planted) -> Answer:
    return 500, f"{plant.echoes}\n{plant.text}".encode(), {"content-type": "text/plain"}


def _redirect(plant: Planted) -> Answer:
    place = f"https://u:{quote(plant.key, safe='')}@x.example/{quote(plant.key)}?key={plant.query}"
    return 301, b"", {"location": place}


def _wrong_answer(plant: Planted) -> Answer:
    return 200, {"error": {"message": f"{plant.echoes} {plant.text}"}}, {}


def _fault(plant: Planted) -> Answer:
    return httpx.ConnectError(f"cannot reach {plant.echoes} {plant.text}")  # type: ignore[no-any-return]


def _torn(plant: Planted) -> Answer:
    first = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    broken: Any = [first, httpx.ReadError(f"{plant.echoes} {plant.text}")]
    return 200, broken, {"content-type": "text/event-stream"}


def _late_error(plant: Planted) -> Answer:
    first = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    error = json.dumps(envelope("", f"{plant.echoes} {plant.text}")).encode()
    return 200, [first, b"data: " + error + b"\n\n"], {"content-type": "text/event-stream"}


ANSWERS: list[Callable[[Planted], Answer]] = [
    _json_error, _unavailable, _foreign_json, _page, _plain, _redirect, _wrong_answer, _fault,
    _torn, _late_error,
]  # fmt: skip


@dataclass
class Heard:
    """Everything that was said about a request."""

    events: list[Event] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    error: Any = None

    def ours(self) -> Iterator[str]:
        """Every text that the library produced, content not asked for."""
        diagnosis, report = diagnose(self.error), support_report(self.error)
        yield from self.logged
        for event in self.events:
            yield from (repr(event), str(event), _pickled(event))
        yield from getattr(self.error, "__notes__", ())
        yield from (repr(diagnosis), str(diagnosis), diagnosis.summary, repr(diagnosis.facts))
        yield from (json.dumps(diagnosis.to_dict()), _pickled(diagnosis), _pickled(self.error))
        yield from (repr(report), str(report), report.to_json(), _pickled(report))
        if type(self.error).__module__.startswith("comet_resilience"):
            yield from (str(self.error), repr(self.error))


def _pickled(value: object) -> str:
    data = pickle.dumps(value)
    pickle.loads(data)
    return data.decode("utf-8", "replace")


@contextlib.contextmanager
def _listening(heard: Heard) -> Iterator[None]:
    handler = logging.Handler()
    handler.emit = lambda record: heard.logged.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("comet_resilience")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _client(plant: Planted, answer: Answer, heard: Heard, user: str) -> openai.AsyncOpenAI:
    inner = bare_client(
        Scripted([answer]),
        api_key=plant.key,
        base_url=f"https://{user}api.example.com/v1",
        default_headers={"x-team": plant.header, "cookie": f"a={COOKIE_CORE}"},
    )
    return wrap(
        inner,
        max_retries=1,
        backoff_initial=0.0,
        backoff_max=0.0,
        algorithm=lambda: FixedLimit(2),
        on_event=heard.events.append,
    )


async def _ask(client: openai.AsyncOpenAI, plant: Planted, *, stream: bool) -> None:
    image = "data:image/png;base64," + base64.b64encode(FILE_CORE.encode() * 50).decode()
    parts: Any = [
        {"type": "text", "text": plant.text},
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "image_url", "image_url": {"url": f"https://x.example/a.png?sig={FIELD_CORE}"}},
    ]
    answer: Any = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": parts}],
        metadata={f"{plant.text[:50]} note": plant.text},
        user=plant.text,
        stream=stream,
        extra_query={"key": plant.query, "limit": "5"},
        extra_body={"api_key": FIELD_CORE, "note": plant.text},
    )
    if stream:
        async for _ in answer:
            pass


def _heard(plant: Planted, answer: Answer, backend: str, user: str) -> Heard:
    heard = Heard()
    stream = not isinstance(answer, Exception) and "event-stream" in str(answer[2])

    async def main() -> None:
        with _listening(heard), pytest.raises(openai.OpenAIError) as caught:
            await _ask(_client(plant, answer, heard, user), plant, stream=stream)
        heard.error = caught.value

    anyio.run(main, backend=backend)
    return heard


@pytest.mark.parametrize("answer", ANSWERS)
@settings(max_examples=6)
@given(plant=planted, user=st.sampled_from(["", f"me:{USER_CORE}@", f"{USER_CORE}@"]))
def test_no_secret_and_no_content_is_ever_said(
    answer: Callable[[Planted], Answer], plant: Planted, user: str
) -> None:
    """Whatever a server echoes, logs, values, notes, reports and pickles hold none of it."""
    # Credentials in the base URL are sent in the key's place.
    echoed = replace(plant, key=USER_CORE) if user else plant
    heard = _heard(plant, answer(echoed), "asyncio", user)
    for text in heard.ours():
        for core in (*SECRETS, TEXT_CORE):
            assert core not in text
        assert base64.b64encode(plant.key.encode()).decode().rstrip("=") not in text


@pytest.mark.parametrize("answer", ANSWERS)
@settings(max_examples=3)
@given(plant=planted)
def test_content_is_shown_to_those_who_ask_and_secrets_are_not(
    answer: Callable[[Planted], Answer], plant: Planted
) -> None:
    """``include_content`` brings the prompts into the report, and nothing else."""
    heard = _heard(plant, answer(plant), "trio", "")
    report = support_report(heard.error, include_content=True)
    assert TEXT_CORE in report.request_body
    for text in (report.to_markdown(), report.to_json()):
        assert TEXT_CORE in text
        assert all(core not in text for core in SECRETS)
    assert all(TEXT_CORE not in text for text in (repr(report), _pickled(diagnose(heard.error))))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_upload_says_what_was_sent_and_nothing_of_what_was_in_it(backend: str) -> None:
    """Names, types and sizes of files are shown; their bytes, prompts and secrets are not."""
    heard, plant = Heard(), Planted(key=f"a{KEY_CORE}b", text=TEXT_CORE)

    async def main() -> None:
        client = _client(plant, _unavailable(plant), heard, "")
        with _listening(heard), pytest.raises(openai.OpenAIError) as caught:
            await client.images.edit(
                model="m",
                image=("a.png", FILE_CORE.encode() * 100, "image/png"),
                prompt=plant.text,
                user=plant.text,
                extra_body={"api_key": FIELD_CORE},
                extra_query={"key": plant.query},
            )
        heard.error = caught.value

    anyio.run(main, backend=backend)
    for text in heard.ours():
        assert all(core not in text for core in (*SECRETS, TEXT_CORE))
    report = support_report(heard.error, include_content=True)
    assert TEXT_CORE in report.to_markdown()
    assert all(core not in report.to_markdown() for core in SECRETS)


def test_a_key_that_an_answer_was_cut_in_is_not_half_shown() -> None:
    """Where a limit falls into the middle of a secret, the first half of it goes too."""
    plant = Planted(key=f"Zz{KEY_CORE}{'q' * 30}", text=TEXT_CORE)
    for length in range(440, 510, 5):
        answer: Answer = (400, envelope("", "m" * length + " " + plant.key), {})
        heard = _heard(plant, answer, "asyncio", "")
        assert all("Zz" + KEY_CORE[:5] not in text for text in heard.ours())
