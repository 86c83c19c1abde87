"""Content encodings: undone where possible, within bounds."""

from __future__ import annotations

import gzip
import zlib

import pytest

from comet_resilience.wire.encoding import CHUNK_CAP, decode, stream_decoder


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (gzip.compress(b"hello", mtime=0), "gzip"),
        (gzip.compress(b"hello", mtime=0), "x-gzip"),
        (zlib.compress(b"hello"), "deflate"),
        (zlib.compress(b"hello")[2:-4], "deflate"),
        (gzip.compress(zlib.compress(b"hello"), mtime=0), "deflate, gzip"),
        (b"hello", "identity"),
        (b"hello", ""),
        (b"hello", "gzip"),
        (b"hello", "unheard-of"),
    ],
)
def test_encodings(raw: bytes, encoding: str) -> None:
    """What can be decoded is; what cannot stays as it came."""
    assert decode(raw, encoding, 100) == b"hello"


def test_the_cap_holds() -> None:
    """A bomb is decoded up to the cap, whole or in chunks."""
    bomb = gzip.compress(b"\0" * 50_000_000, mtime=0)
    assert len(decode(bomb, "gzip", 1_000)) == 1_000
    look = stream_decoder("gzip")
    assert look is not None
    assert len(look(bomb)) == CHUNK_CAP


@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize(
    ("raw", "encoding"),
    [(gzip.compress(b"hello", mtime=0), "gzip"), (zlib.compress(b"hello"), "deflate")],
)
def test_chunk_by_chunk(raw: bytes, encoding: str, size: int) -> None:
    """However a compressed stream is cut, its chunks decode to the same text."""
    look = stream_decoder(encoding)
    assert look is not None
    assert b"".join(look(raw[at : at + size]) for at in range(0, len(raw), size)) == b"hello"


def test_what_nobody_can_decode() -> None:
    """An unknown encoding is not looked into; none at all is plain."""
    assert stream_decoder("unheard-of") is None
    plain = stream_decoder("")
    assert plain is not None
    assert plain(b"x") == b"x"
