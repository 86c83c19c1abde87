"""Whose credentials a request carries: those of its own client, on every way out of a call."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import openai
import pytest

from comet_resilience import wrap
from comet_resilience.client import _unprepared

from .conftest import BROKEN, FAST, OK, Answer, Scripted, ask, bare_client, httpx

pytestmark = pytest.mark.anyio
SECRET: Final = {"x-tenant": "tenant-of-a"}

Client: TypeAlias = openai.AsyncOpenAI
Key: TypeAlias = Callable[[], Awaitable[str]]


def client_of(inner: Any, host: str, key: str | Key, **options: Any) -> Client:
    """A wrapped client of a host of its own."""
    return wrap(bare_client(inner, base_url=f"https://{host}/v1", api_key=key), **FAST, **options)


def azure_of(inner: Any, token: Key) -> Client:
    """The same of Azure's client, whose options become a request in another way."""
    client = openai.AsyncAzureOpenAI(
        azure_ad_token_provider=token,
        api_version="2024-06-01",
        azure_endpoint="https://a.test",
        http_client=httpx.AsyncClient(transport=inner),
    )
    client._platform = "Unknown"
    return wrap(client, **FAST)


def openai_of(inner: Any, key: Key) -> Client:
    return client_of(inner, "a.test", key)


async def raising() -> str:
    raise LookupError("the vault is shut")


async def endless() -> str:
    await anyio.sleep_forever()
    return ""


def cancelling() -> Key:
    """A key function whose own task is cancelled from inside."""

    async def key() -> str:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        raise LookupError("cancelled")

    return key


async def leave_by_raising(make: Callable[[Any, Key], Client]) -> None:
    with pytest.raises(LookupError):
        await ask(make(Scripted([OK]), raising), extra_headers=SECRET)


async def leave_by_cancelling(make: Callable[[Any, Key], Client]) -> None:
    with anyio.move_on_after(1):
        await ask(make(Scripted([OK]), endless), extra_headers=SECRET)


async def leave_by_inner_cancelling(make: Callable[[Any, Key], Client]) -> None:
    with pytest.raises(LookupError):
        await ask(make(Scripted([OK]), cancelling()), extra_headers=SECRET)


async def leave_by_closing_a_generator(make: Callable[[Any, Key], Client]) -> None:
    async def texts() -> AsyncGenerator[str | None, None]:
        try:
            yield "before"
            await ask(make(Scripted([OK]), raising), extra_headers=SECRET)
        finally:
            with pytest.raises(LookupError):
                await ask(make(Scripted([OK]), raising), extra_headers=SECRET)

    generator = texts()
    assert await anext(generator) == "before"
    await generator.aclose()


async def leave_by_failing_to_build(make: Callable[[Any, Key], Client]) -> None:
    async def key() -> str:
        return "key-of-a"

    with pytest.raises(TypeError):
        await ask(make(Scripted([OK]), key), extra_headers=SECRET, extra_body={"x": object()})


async def leave_before_building(make: Callable[[Any, Key], Client]) -> None:
    """As the SDK does where it opens a websocket: nothing is ever built."""

    async def key() -> str:
        return "key-of-a"

    options = openai._models.FinalRequestOptions(method="post", url="/x", headers=SECRET)
    await make(Scripted([OK]), key)._prepare_options(options)


EXITS: Final = [
    leave_by_raising,
    leave_by_cancelling,
    leave_by_inner_cancelling,
    leave_by_closing_a_generator,
    leave_by_failing_to_build,
    leave_before_building,
]


@pytest.mark.parametrize("make", [openai_of, azure_of])
@pytest.mark.parametrize("leave", EXITS)
async def test_what_one_call_left_behind_is_found_by_no_other(
    leave: Callable[[Callable[[Any, Key], Client]], Awaitable[None]],
    make: Callable[[Any, Key], Client],
) -> None:
    """A call of another client in the same task retries with what is its own, and nothing stays."""
    inner = Scripted([BROKEN, BROKEN, OK])
    other = client_of(inner, "b.test", "key-of-b")
    await leave(make)
    await ask(other)
    gc.collect()
    assert [headers["authorization"] for headers, _, _ in inner.sent] == ["Bearer key-of-b"] * 3
    assert all("x-tenant" not in headers for headers, _, _ in inner.sent)
    assert not _unprepared._kept


async def test_a_key_function_may_ask_another_client() -> None:
    """Calls inside of a key function, and beside it, have their own headers at each attempt."""
    vault, inner = Scripted([BROKEN, OK]), Scripted([BROKEN, OK])

    async def key_of_the_vault() -> str:
        await anyio.lowlevel.checkpoint()
        return "key-of-the-vault"

    nested = client_of(vault, "vault.test", key_of_the_vault)

    async def key() -> str:
        await ask(nested, extra_headers={"x-vault": "1"})
        return "key-of-a"

    client = client_of(inner, "a.test", key)

    async def ask_as(name: str) -> None:
        await ask(client, extra_headers={"x-name": name})

    async with anyio.create_task_group() as tasks:
        for name in "one", "two", "three":
            tasks.start_soon(ask_as, name)
    assert {headers["authorization"] for headers, _, _ in inner.sent} == {"Bearer key-of-a"}
    assert all("x-vault" not in headers for headers, _, _ in inner.sent)
    assert {h["authorization"] for h, _, _ in vault.sent} == {"Bearer key-of-the-vault"}
    assert all(h["x-vault"] == "1" and "x-name" not in h for h, _, _ in vault.sent)
    names = [headers["x-name"] for headers, _, _ in inner.sent]
    assert sorted(set(names)) == ["one", "three", "two"]
    assert len(names) == 4


async def test_a_copy_for_another_host_asks_its_own_key_function() -> None:
    """``with_options`` gives a client of its own, that of the original keeps its host."""
    inner = Scripted([BROKEN, OK, BROKEN, OK])

    def key_of(name: str) -> Key:
        async def key() -> str:
            return f"key-of-{name}"

        return key

    client = client_of(inner, "a.test", key_of("a"))
    await ask(client.with_options(base_url="https://b.test/v1", api_key=key_of("b")))
    await ask(client)
    assert [(url[8:14], headers["authorization"]) for headers, url, _ in inner.sent] == [
        ("b.test", "Bearer key-of-b"),
        ("b.test", "Bearer key-of-b"),
        ("a.test", "Bearer key-of-a"),
        ("a.test", "Bearer key-of-a"),
    ]


async def test_a_client_that_moved_takes_its_new_key_to_its_new_host_only() -> None:
    """A call that began before goes on with what it was sent with."""
    inner, asked = Scripted([BROKEN, OK, OK]), []

    async def key() -> str:
        asked.append(1)
        if len(asked) == 2:
            client.base_url = "https://b.test/v1"
        return f"key-{len(asked)}"

    client = client_of(inner, "a.test", key)
    await ask(client)
    await ask(client)
    assert [(url[8:14], headers["authorization"]) for headers, url, _ in inner.sent] == [
        ("a.test", "Bearer key-1"),
        ("a.test", "Bearer key-1"),
        ("b.test", "Bearer key-3"),
    ]


REDIRECTS: Final = [
    # away, and back to a path that the other host chose
    (["https://files.test/v", "https://a.test/v1/again"], ["again"]),
    # to the same host in the clear, where anybody can read
    (["http://a.test/v1/clear", "http://a.test/v1/clear-too"], ["clear", "clear-too"]),
]


@pytest.mark.parametrize(("hops", "paths"), REDIRECTS)
async def test_a_renewed_key_does_not_follow_redirects(hops: list[str], paths: list[str]) -> None:
    """Where a redirect led away once, a retry adds no credentials, wherever it leads next."""
    to: list[Answer] = [(302, b"", {"location": hop}) for hop in hops]
    inner = Scripted([*to, BROKEN, (200, b"{}", {})])

    async def key() -> str:
        return "key-of-a"

    client = client_of(inner, "a.test", key)
    await client.with_options(default_headers=SECRET).files.content("file-1")
    assert len(inner.sent) > len(hops) + 1
    for headers, url, _ in inner.sent:
        is_home = url == "https://a.test/v1/files/file-1/content"
        assert ("authorization" in headers) == is_home, url
        assert ("x-tenant" in headers) == is_home, url
    assert {url.rpartition("/")[2] for _, url, _ in inner.sent} >= set(paths)
