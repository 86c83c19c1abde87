"""Bodies of requests: what can be sent again, and how large the parts are."""

from __future__ import annotations

import io
from typing import Any

from comet_resilience.wire.body import part_sizes, why_not_replayable
from tests.conftest import BASE_URL, httpx


def request(method: str, path: str, **keywords: Any) -> Any:
    """A request of the installed family."""
    return httpx.Request(method, BASE_URL + path, **keywords)


async def chunks() -> Any:
    """A body that can be read once."""
    yield b"{}"


class Blocked(io.RawIOBase):
    """A file that raises when asked whether it can be rewound."""

    def read(self, _size: int = -1) -> bytes:
        """Nothing."""
        return b""

    def seekable(self) -> bool:
        """Fail."""
        raise OSError("no")


def test_which_bodies_can_be_sent_again() -> None:
    """Bytes, JSON and files that can be rewound; not streams, not pipes."""
    upload = "/audio/transcriptions"
    seekable = {"file": ("a.wav", io.BytesIO(b"RIFF"))}
    blocked = {"file": ("a.wav", Blocked())}
    assert why_not_replayable(request("POST", "/embeddings", json={})) == ""
    assert why_not_replayable(request("GET", "/models")) == ""
    assert why_not_replayable(request("POST", upload, files=seekable)) == ""
    assert "rewound" in why_not_replayable(request("POST", upload, files=blocked))
    assert "once" in why_not_replayable(request("POST", "/x", content=chunks()))


class Fielded(httpx.AsyncByteStream):  # type: ignore[misc]
    """A caller's own stream that happens to have fields."""

    fields = ("a", "b")

    async def __aiter__(self) -> Any:
        yield b"{}"


def test_a_stream_of_the_callers_is_no_form() -> None:
    """Whatever attributes it has, it can be read once and has no parts."""
    sent = request("POST", "/audio/transcriptions", stream=Fielded())
    sent.headers["transfer-encoding"] = "chunked"
    assert "once" in why_not_replayable(sent)
    assert part_sizes(sent) == {}


def test_sizes_of_parts() -> None:
    """Each field of a multipart body has its size; other bodies have no parts."""
    files = {"image": ("a.png", io.BytesIO(b"x" * 5_000))}
    sizes = part_sizes(request("POST", "/images/edits", files=files, data={"prompt": "hi"}))
    assert sizes["image"] >= 5_000
    assert 0 < sizes["prompt"] < 200
    assert part_sizes(request("POST", "/x", json={})) == {}
