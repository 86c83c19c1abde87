"""Mode 12: what a server may ask for with ``Retry-After``, and what it may not."""

from __future__ import annotations

from email.utils import formatdate

import anyio
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience import diagnose, snapshot
from comet_resilience.limits.algorithm import RETRY_AFTER_MAX, RETRY_AFTER_SPREAD
from tests.conftest import (
    OK,
    Scripted,
    ask,
    bare_client,
    envelope,
    run_in_virtual_time,
    scripted,
)

pytestmark = pytest.mark.timeout(120)
NOW = 1_793_589_240.0


DATE = formatdate(NOW, usegmt=True)
#: Headers of a 429, and how long the next attempt then waits; ``None``: given up at once.
HINTS: list[tuple[dict[str, str], float | None]] = [
    ({"retry-after": "86400"}, None),
    ({"retry-after": "121"}, None),
    ({"retry-after": "120"}, 120.0),
    ({"retry-after-ms": "120001"}, None),
    ({"retry-after": formatdate(NOW + 119, usegmt=True), "date": DATE}, 119.0),
    ({"retry-after": "-1"}, 0.0),
    ({"retry-after": "NaN"}, 0.0),
    ({"retry-after": "inf"}, 0.0),
    ({"retry-after": "1e309"}, 0.0),
    ({"retry-after": "9" * 100_000}, 0.0),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": "soon"}, 0.0),
    ({"retry-after": formatdate(NOW - 60, usegmt=True), "date": DATE}, 0.0),
    ({"retry-after": formatdate(NOW + 7, usegmt=True), "date": DATE}, 7.0),
    ({"retry-after": formatdate(NOW + 86_400, usegmt=True), "date": DATE}, None),
    ({"retry-after": "2, 9"}, 9.0),
    ({"retry-after-ms": "2500"}, 2.5),
    ({"retry-after-ms": "2500", "retry-after": "9"}, 2.5),
    ({"retry-after-ms": "-5", "retry-after": "9"}, 9.0),
    ({"retry-after-ms": "86400000"}, None),
]


@pytest.mark.parametrize(("headers", "waits"), HINTS, ids=lambda value: str(value)[:60])
def test_fm12_retry_after_is_honoured_up_to_a_cap_or_not_at_all(
    headers: dict[str, str], waits: float | None
) -> None:
    """A sane wish is waited out, one above the cap ends it with the wish in the error."""

    async def main() -> None:
        client, inner = scripted(
            (429, envelope("", ""), headers), OK, backoff_initial=0.0, backoff_max=0.0
        )
        started = anyio.current_time()
        if waits is None:
            with pytest.raises(openai.RateLimitError) as caught:
                await ask(client)
            assert "max_retry_after" in diagnose(caught.value).reason
            shown = {**caught.value.response.headers}
            assert all(shown[name] == value for name, value in headers.items())
        else:
            assert await ask(client) == "Hi"
            assert len(inner.sent) == 2
        passed = anyio.current_time() - started
        assert (waits or 0.0) <= passed <= (waits or 0.0) * 1.06 + 0.001

    run_in_virtual_time(main)


@pytest.mark.parametrize(
    "headers",
    [{"retry-after": str(seconds)} for seconds in (30, 61, 90, 119, 120, 121, 600, 86_400)]
    + [{"retry-after-ms": "90500"}, {"retry-after-ms": "120001"}],
    ids=lambda headers: next(iter(headers.values())),
)
def test_fm12_a_wait_that_the_sdk_takes_upon_itself_is_waited(headers: dict[str, str]) -> None:
    """A call that the bare SDK keeps by waiting as long as it was asked to is kept by us, too."""

    async def outcome(client: openai.AsyncOpenAI) -> tuple[bool, float]:
        started = anyio.current_time()
        try:
            return await ask(client) == "Hi", anyio.current_time() - started
        except openai.RateLimitError:
            return False, anyio.current_time() - started

    async def main() -> None:
        answers = [(429, envelope("", ""), headers), OK]
        bare_kept, bare_waited = await outcome(bare_client(Scripted([*answers]), max_retries=2))
        kept, waited = await outcome(scripted(*answers, max_retries=2)[0])
        [(name, value)] = headers.items()
        asked = float(value) / (1000 if name == "retry-after-ms" else 1)
        if bare_kept and bare_waited >= asked:
            assert kept
        assert asked <= waited <= asked * 1.06 if kept else waited == 0.0

    run_in_virtual_time(main)


odd_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
odd_values = (
    odd_text
    | st.floats().map(str)
    | st.integers(-(10**20), 10**20).map(str)
    | st.integers(0, 4_000_000_000).map(lambda moment: formatdate(moment, usegmt=True))
)


@settings(max_examples=60)
@given(
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "x-should-retry"]), odd_values
    ),
    message=odd_text.map(lambda text: f"try again in {text}"),
)
def test_fm12_no_header_makes_a_request_wait_longer_than_the_cap(
    headers: dict[str, str], message: str
) -> None:
    """Whatever the headers say: one wait within the cap, or the server's own error at once."""

    async def main() -> None:
        client, inner = scripted((429, envelope("", message), headers), OK, max_retry_after=40.0)
        started = anyio.current_time()
        try:
            await ask(client)
        except openai.RateLimitError:
            assert len(inner.sent) == 1
        assert 0 <= anyio.current_time() - started <= 40.0 * 1.05 + 0.5

    run_in_virtual_time(main)


@pytest.mark.anyio
async def test_fm12_the_shared_pause_is_capped_too() -> None:
    """A partition is never closed for longer than a minute and its spread, whatever is asked."""
    client, _ = scripted((429, envelope("", ""), {"retry-after": "86400"}))
    for _ in range(10):
        if (snapshot(client).partitions or (None,))[0] is not None and (
            (snapshot(client).partitions[0].closed_for or 0.0) > 0.0  # tested once before
        ):
            break
        with pytest.raises(openai.RateLimitError):
            await ask(client)
    closed_for = snapshot(client).partitions[0].closed_for
    assert closed_for is not None
    assert 50 < closed_for <= RETRY_AFTER_MAX * (1 + RETRY_AFTER_SPREAD)
