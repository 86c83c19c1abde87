"""The gateway in a thread has the face of `Gateway`, and so has the fixture."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import anyio
import openai
import pytest

from comet_resilience.testing import ConcurrencyCap, Gateway, GatewayInThread
from tests.conftest import MESSAGES, ask

if TYPE_CHECKING:
    from collections.abc import Callable

#: The methods of `Gateway` that are about the event loop it runs on.
OF_ITS_LOOP = {"begin", "limit_at", "now", "transport"}


def face_of(kind: type) -> dict[str, str]:
    """Return the public methods with their signatures, and the public properties."""
    face = {}
    for name, member in inspect.getmembers(kind):
        if not name.startswith("_"):
            is_method = inspect.isfunction(member)
            face[name] = str(inspect.signature(member)) if is_method else "property"
    return face


def test_both_have_the_same_methods_with_the_same_signatures() -> None:
    """What works on one works on the other; `requests` is an attribute of the first."""
    gateway = {**face_of(Gateway), "requests": "property"}
    shared = {name: gateway[name] for name in gateway.keys() - OF_ITS_LOOP}
    assert face_of(GatewayInThread) == shared
    for name in shared:
        assert inspect.getdoc(getattr(GatewayInThread, name))


def test_the_fixture_is_that_gateway(comet_gateway: object) -> None:
    """There is no third face."""
    assert type(comet_gateway) is GatewayInThread


WAYS: dict[str, Callable[[Any], object]] = {
    "name": lambda gateway: gateway.fail("unavailable", 2),
    "times": lambda gateway: gateway.fail("unavailable", times=2, retry_after=0),
    "status": lambda gateway: gateway.fail(503, 2),
    "keyword": lambda gateway: gateway.fail(status=503, times=2, model="m"),
    "fields": lambda gateway: gateway.fail(name="unavailable", times=2, headers={"x-a": "b"}),
    "script": lambda gateway: gateway.script("unavailable", 503),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_way_of_writing_a_failure_for_both(comet_gateway: Any, way: str) -> None:
    """Each gives two failures with status 503 and then an answer."""

    async def statuses(gateway: Any) -> list[int]:
        found = []
        async with gateway.client(max_retries=0) as client:
            for _ in range(3):
                try:
                    await ask(client)
                    found.append(200)
                except openai.InternalServerError as error:
                    found.append(error.status_code)
        return found

    in_memory = Gateway()
    for gateway in (in_memory, comet_gateway):
        WAYS[way](gateway)
        assert anyio.run(statuses, gateway) == [503, 503, 200]
        assert len(gateway.requests) == 3


WRONG: dict[str, tuple[Callable[[Any], object], type[Exception], str]] = {
    "nothing": (lambda g: g.fail(), ValueError, "a name or a status"),
    "both": (lambda g: g.fail("saturated", status=503), ValueError, "a name or a status"),
    "name": (lambda g: g.fail("nonsense"), ValueError, "no failure called 'nonsense'"),
    "status": (lambda g: g.fail(status=200), ValueError, "no failure called 200"),
    "type": (lambda g: g.fail(5.03), ValueError, r"no failure called 5\.03"),
    "times": (lambda g: g.fail(503, 0), ValueError, "times must be 1 or more"),
    "field": (lambda g: g.fail(503, delays=1), TypeError, "no field 'delays'; .* delay, "),
    "keys": (lambda g: g.change(keys=["other"]), TypeError, "cannot change the keys"),
    "setting": (lambda g: g.change(latencie=1), TypeError, "no keyword 'latencie'; .* latency, "),
    "limit": (lambda g: g.limit(-1), ValueError, "limit"),
    "hint": (
        lambda g: g.limit(ConcurrencyCap(1), retry_after=1), ValueError, "goes with a number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_refused_alike(comet_gateway: Any, mistake: str) -> None:
    """The error comes out of the call that is wrong, and says what is allowed."""
    call, kind, message = WRONG[mistake]
    for gateway in (Gateway(), comet_gateway):
        with pytest.raises(kind, match=message):
            call(gateway)


async def outcomes(gateway: Any) -> tuple[str, str | None]:
    """Meet a limit, a stream that is cut, and an answer after all of it is forgotten."""
    gateway.limit(0, retry_after=3)
    gateway.change(text="Changed")
    async with gateway.client(max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await ask(client)
        gateway.limit(None)
        gateway.cut_streams(model="m")
        cut = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIConnectionError):
            [chunk async for chunk in cut]
        gateway.always(503)
        gateway.recover()
        return refused.value.response.headers["retry-after"], await ask(client)


def test_both_do_the_same(comet_gateway: GatewayInThread) -> None:
    """Limits, changes, cuts and counts are those of the gateway itself."""
    for gateway in (Gateway(), comet_gateway):
        assert anyio.run(outcomes, gateway) == ("3", "Changed")
        counts = (gateway.answered, gateway.refused, gateway.peak_in_flight, gateway.in_flight)
        assert counts == (1, 1, 1, 0)
        assert [sample.in_flight for sample in gateway.samples] == [1, 0, 1, 0]
        assert gateway.front_end.startswith("http://")
        assert gateway.base_url in repr(gateway)
