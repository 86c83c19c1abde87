"""``wrap``: the same type out, the caller's settings kept, the original untouched."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import weakref
from functools import cached_property
from typing import Any, cast

import openai
import pytest
from openai.resources import AsyncChat, AsyncModels

from comet_resilience import ResilientTransport, snapshot, wrap

from .conftest import (
    BASE_URL,
    BROKEN,
    FAST,
    KEY,
    MESSAGES,
    OK,
    Scripted,
    ask,
    bare_client,
    httpx,
    scripted,
)

pytestmark = pytest.mark.anyio


class StrictClient(openai.AsyncOpenAI):
    """A third party's subclass, whose constructor takes two arguments only."""

    def __init__(self, *, token: str, http_client: Any = None) -> None:
        super().__init__(api_key=token, base_url=BASE_URL, http_client=http_client)


def http_client_over(inner: Any, **keywords: Any) -> Any:
    """An http client of the installed family."""
    return httpx.AsyncClient(transport=inner, follow_redirects=True, **keywords)


async def test_the_type_stays() -> None:
    """The wrapped client is an instance of the client's own class, and named like it."""
    for client in (
        bare_client(Scripted([OK])),
        StrictClient(token=KEY, http_client=http_client_over(Scripted([OK]))),
        openai.AsyncAzureOpenAI(
            api_key=KEY,
            api_version="2024-06-01",
            azure_endpoint="https://x.openai.azure.com",
            http_client=http_client_over(Scripted([OK])),
        ),
    ):
        wrapped = wrap(client)
        assert isinstance(wrapped, type(client))
        assert type(wrapped).__name__ == type(client).__name__
        assert await ask(wrapped) == "Hi"


@pytest.mark.skipif(not importlib.util.find_spec("cometapi"), reason="needs openai 2")
async def test_cometapis_own_client() -> None:
    """CometAPI's published subclass is wrapped like any other."""
    cometapi: Any = importlib.import_module("cometapi")
    inner = Scripted([BROKEN, OK])
    client = cometapi.AsyncCometAPI(api_key=KEY, http_client=http_client_over(inner))
    wrapped = wrap(client, **FAST)
    assert isinstance(wrapped, cometapi.AsyncCometAPI)
    assert await ask(wrapped) == "Hi"
    assert len(inner.sent) == 2


async def test_azure_requests_share_a_limit_by_deployment() -> None:
    """The deployment in Azure's path is the model, and the route is the usual one."""
    client = wrap(
        openai.AsyncAzureOpenAI(
            api_key=KEY,
            api_version="2024-06-01",
            azure_endpoint="https://x.openai.azure.com",
            http_client=http_client_over(Scripted([OK])),
        )
    )
    await ask(client, model="gpt-x")
    assert snapshot(client).partitions[0].partition == ("POST /chat/completions", "gpt-x")


class Eager(AsyncModels):
    """A resource with a constructor of its own and something that is made at need."""

    def __init__(self, client: openai.AsyncOpenAI, path: str) -> None:
        super().__init__(client)
        self.path = path

    @cached_property
    def chat(self) -> AsyncChat:
        return AsyncChat(self._client)


class EagerClient(openai.AsyncOpenAI):
    """A subclass that makes resources in its constructor, as older SDKs did."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.own = Eager(self, "/x")


async def test_resources_of_a_subclass_go_through_the_wrapped_client() -> None:
    """Whatever it keeps of the SDK's resources would otherwise pass by retries and limit."""
    inner = Scripted([BROKEN, OK, BROKEN])
    client = EagerClient(api_key=KEY, base_url=BASE_URL, http_client=http_client_over(inner))
    assert client.own.chat._client is client
    wrapped = wrap(client, **FAST)
    assert (type(wrapped.own), wrapped.own.path) == (Eager, "/x")
    await wrapped.own.chat.completions.create(model="m", messages=MESSAGES)
    assert len(inner.sent) == 2
    assert client.own._client is client.own.chat._client is client
    with pytest.raises(openai.InternalServerError):
        await client.with_options(max_retries=0).chat.completions.create(
            model="m", messages=MESSAGES
        )
    assert len(inner.sent) == 3


async def test_the_original_is_untouched() -> None:
    """Transport, retries and resources of the given client stay as they were."""
    inner = Scripted([BROKEN, OK])
    client = bare_client(inner, max_retries=0)
    chat, transport = client.chat, client._client._transport
    wrapped = wrap(client, **FAST)
    assert client._client._transport is transport
    assert transport is cast("Any", inner)
    assert client.chat is chat
    assert wrapped.chat is not chat
    assert client.max_retries == 0
    with pytest.raises(openai.InternalServerError):
        await ask(client)
    assert len(inner.sent) == 1


async def test_the_callers_settings_stay() -> None:
    """Headers, cookies, hooks, timeouts and base URL reach the wire as before."""
    inner = Scripted([OK])
    heard: list[str] = []

    async def on_request(_request: Any) -> None:
        heard.append("request")

    async def on_response(_response: Any) -> None:
        heard.append("response")

    http_client = http_client_over(
        inner,
        headers={"x-mine": "1"},
        cookies={"crumb": "2"},
        event_hooks={"request": [on_request], "response": [on_response]},
        timeout=7.5,
    )
    wrapped = wrap(
        openai.AsyncOpenAI(
            api_key=KEY,
            base_url="https://gate.test/v1",
            http_client=http_client,
            default_headers={"x-default": "3"},
            organization="org",
        )
    )
    await ask(wrapped)
    headers, url, _ = inner.sent[0]
    assert url == "https://gate.test/v1/chat/completions"
    assert (headers["x-mine"], headers["cookie"], headers["x-default"]) == ("1", "crumb=2", "3")
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["openai-organization"] == "org"
    assert not any("comet" in name for name in headers)
    assert heard == ["request", "response"]
    assert wrapped.timeout.read == 7.5  # type: ignore[union-attr]


async def test_each_mount_is_wrapped() -> None:
    """A request that goes through a mount (a proxy, say) is retried like any other."""
    main, proxy = Scripted([OK]), Scripted([BROKEN, OK])
    http_client = httpx.AsyncClient(
        transport=main, mounts={"https://": proxy, "all://no.test": None}
    )
    wrapped = wrap(
        openai.AsyncOpenAI(api_key=KEY, base_url=BASE_URL, http_client=http_client), **FAST
    )
    assert await ask(wrapped) == "Hi"
    assert (len(main.sent), len(proxy.sent)) == (0, 2)
    await wrapped.close()
    assert (main.transport_closed, proxy.transport_closed) == (1, 1)


async def test_proxies_of_the_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mounts that the SDK's default http client makes for HTTPS_PROXY are kept and wrapped."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    client = openai.AsyncOpenAI(api_key=KEY)
    wrapped = wrap(client)
    before, after = client._client._mounts, wrapped._client._mounts
    assert list(before) == list(after)
    assert before
    assert all(isinstance(m, ResilientTransport) for m in after.values() if m is not None)
    await client.close()


async def test_wrapping_twice_is_wrapping_once() -> None:
    """The same client comes back, also after with_options and copy; new keywords are refused."""
    client, inner = scripted(BROKEN, max_retries=1, **FAST)
    assert wrap(client) is client
    changed = client.with_options(timeout=3).copy()
    assert wrap(changed) is changed
    with pytest.raises(ValueError, match="wrapped already"):
        wrap(client, max_retries=3)
    with pytest.raises(openai.InternalServerError):
        await ask(changed)
    assert len(inner.sent) == 2


async def test_an_http_client_serves_the_client_that_it_was_made_for() -> None:
    """Another client's calls would pass unseen: that is refused; a copy's own one is wrapped."""
    client, _ = scripted(OK, **FAST)
    stranger = openai.AsyncOpenAI(api_key=KEY, base_url=BASE_URL, http_client=client._client)
    with pytest.raises(ValueError, match=r"http_client: .* of its own"):
        wrap(stranger)
    inner = Scripted([BROKEN, OK])
    changed = wrap(client.with_options(http_client=http_client_over(inner)), **FAST)
    assert type(changed) is type(client)
    assert await ask(changed) == "Hi"
    assert len(inner.sent) == 2


@pytest.mark.parametrize(
    ("own", "given", "sends"),
    [(None, None, 7), (None, 1, 2), (0, None, 1), (9, None, 10), (9, 3, 4), (2, None, 7)],
)
async def test_whose_number_of_retries_counts(
    own: int | None, given: int | None, sends: int
) -> None:
    """The client's own number stands unless it is the SDK's default or wrap is given one."""
    inner = Scripted([BROKEN])
    client = bare_client(inner, **({} if own is None else {"max_retries": own}))
    options: Any = {} if given is None else {"max_retries": given}
    with pytest.raises(openai.InternalServerError):
        await ask(wrap(client, **options, **FAST))
    assert len(inner.sent) == sends


@pytest.mark.parametrize("number", [0, 1, 2, 9])
async def test_with_options_is_honoured_and_not_multiplied(number: int) -> None:
    """``with_options(max_retries=n)`` on a wrapped client means n retries, ours alone."""
    client, inner = scripted(BROKEN, **FAST)
    with pytest.raises(openai.InternalServerError):
        await ask(client.with_options(max_retries=number))
    assert len(inner.sent) == number + 1


async def test_key_functions_are_asked_again() -> None:
    """Each attempt carries a fresh key where the key comes from a function."""
    inner, asked = Scripted([BROKEN, BROKEN, OK]), []

    async def key() -> str:
        asked.append(1)
        return f"key-{len(asked)}"

    await ask(wrap(bare_client(inner, api_key=key), **FAST))
    assert [headers["authorization"] for headers, _, _ in inner.sent] == [
        "Bearer key-1",
        "Bearer key-2",
        "Bearer key-3",
    ]


async def test_token_providers_are_asked_again() -> None:
    """Azure's token provider gives each attempt a fresh token."""
    inner, asked = Scripted([BROKEN, OK]), []

    async def token() -> str:
        asked.append(1)
        return f"token-{len(asked)}"

    client = openai.AsyncAzureOpenAI(
        azure_ad_token_provider=token,
        api_version="2024-06-01",
        azure_endpoint="https://x.openai.azure.com",
        http_client=http_client_over(inner),
    )
    await ask(wrap(client, **FAST))
    assert [headers["authorization"] for headers, _, _ in inner.sent] == [
        "Bearer token-1",
        "Bearer token-2",
    ]


async def test_retries_are_counted_as_the_sdk_counts_them() -> None:
    """The header in which the SDK numbers its retries numbers ours."""
    client, inner = scripted(BROKEN, OK, **FAST)
    await ask(client)
    assert [h["x-stainless-retry-count"] for h, _, _ in inner.sent] == ["0", "1"]


async def test_what_is_no_call_passes_through() -> None:
    """A token exchange over the same http client is neither retried nor queued."""
    client, inner = scripted(BROKEN, **FAST)
    answer = await client._client.post("https://login.test/token", json={})
    assert answer.status_code == 500
    assert len(inner.sent) == 1
    assert snapshot(client).partitions == ()


async def test_the_original_is_kept_alive() -> None:
    """The SDK's own http client closes the shared pool when collected: it must not be."""
    client = openai.AsyncOpenAI(api_key=KEY, base_url=BASE_URL)
    http_client, pool = weakref.ref(client._client), client._client._transport
    wrapped = wrap(client)
    del client
    gc.collect()
    assert http_client() is not None
    copied = wrapped.with_options(timeout=1)
    del wrapped
    gc.collect()
    assert http_client() is not None
    assert cast("Any", copied._client._transport)._inner is pool
    await copied.close()


async def test_a_dropped_wrapper_does_not_close_the_originals_pool() -> None:
    """The original goes on working when only the wrapped client is collected."""
    client = openai.AsyncOpenAI(api_key=KEY, base_url=BASE_URL)
    closed: list[int] = []

    async def note_close() -> None:
        closed.append(1)

    cast("Any", client._client._transport).aclose = note_close
    wrap(client)
    gc.collect()
    assert closed == []
    await client.close()
    assert closed == [1]


def test_what_cannot_be_wrapped() -> None:
    """Anything but an AsyncOpenAI is refused by name, a sync client with the way out."""
    with pytest.raises(TypeError, match="OpenAI, which is synchronous: use AsyncOpenAI instead"):
        wrap(openai.OpenAI(api_key=KEY))  # type: ignore[type-var]
    with pytest.raises(TypeError, match="got str"):
        wrap("client")  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"the class AsyncOpenAI: give it a client, AsyncOpenAI"):
        wrap(openai.AsyncOpenAI)  # type: ignore[type-var]
    azure = openai.AzureOpenAI(
        api_key=KEY, azure_endpoint="https://x.example", api_version="2024-10-21"
    )
    with pytest.raises(TypeError, match="AzureOpenAI, .*: use AsyncAzureOpenAI instead"):
        wrap(azure)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="expected an async transport"):
        ResilientTransport(object())
    with pytest.raises(TypeError, match=r"made by wrap\(\)"):
        snapshot(openai.AsyncOpenAI(api_key=KEY))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_retrys": 3}, TypeError, "max_retrys"),
        ({"max_retries": -1}, ValueError, "max_retries=-1: expected a whole number, 0 to 1000"),
        ({"max_retries": 2.5}, ValueError, "max_retries=2.5"),
        ({"max_retries": True}, ValueError, "max_retries=True"),
        ({"deadline": 0}, ValueError, "deadline=0: expected a number"),
        ({"backoff_max": float("nan")}, ValueError, "backoff_max=nan"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency=0"),
        ({"min_concurrency": 9, "max_concurrency": 3}, ValueError, "at most max_concurrency=3"),
        ({"retry_ambiguous": "yes"}, ValueError, "'all', 'text', 'none'"),
        ({"partition": 3}, ValueError, "partition=3: expected a function"),
        ({"on_event": "print"}, ValueError, "on_event"),
        ({"rules": [1]}, ValueError, "rules: expected Rule values"),
    ],
)
def test_bad_keywords_are_named(options: Any, error: type[Exception], words: str) -> None:
    """An error at the call of wrap names the keyword, the value and the bounds."""
    with pytest.raises(error) as caught:
        wrap(openai.AsyncOpenAI(api_key=KEY), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.cometapi.com",
        "https://api.cometapi.com/",
        "https://www.cometapi.com/v1",
        "http://api.cometapi.com/v1",
        "https://api.cometapi.com/v1/chat/completions",
        "https://api.cometapi.com/v1/v1",
        "https://cometapi.com/v1",
    ],
)
def test_a_wrong_base_url_is_warned_of(base_url: str) -> None:
    """On a CometAPI host anything but the one base URL is named at once, with the right one."""
    with pytest.warns(UserWarning, match="exactly https://api.cometapi.com/v1") as caught:
        wrap(bare_client(Scripted([OK]), base_url=base_url))
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "base_url", [BASE_URL, BASE_URL + "/", "https://proxy.test", "http://127.0.0.1:1/x"]
)
def test_other_gateways_are_left_alone(base_url: str) -> None:
    """The right base URL and gateways elsewhere are nobody's business."""
    wrap(bare_client(Scripted([OK]), base_url=base_url))


async def test_raw_and_streaming_responses_work() -> None:
    """The SDK's other ways to ask give the same answers."""
    client, _ = scripted(OK)
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.parse().choices[0].message.content == "Hi"
    async with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES
    ) as response:
        assert snapshot(client).partitions[0].in_flight == 1
        assert b"Hi" in await response.read()
    assert snapshot(client).partitions[0].in_flight == 0
