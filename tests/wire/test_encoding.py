"""Content encodings: undone where possible, within bounds."""

from __future__ import annotations

import gzip
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.wire import encoding
from comet_resilience.wire.encoding import (
    PIECE,
    OutOfReachError,
    UndecodableError,
    decode,
    decoder_of,
    is_undecodable,
)

MB = 1_048_576
Pack = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    """Deflate without its zlib header."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def packer_of(module: str) -> Pack:
    """The function of an optional package that packs, or a skip of who needs it."""
    return lambda data: bytes(pytest.importorskip(module).compress(data))


PACKERS: dict[str, Pack] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "DEFLATE": raw_deflate,
    "br": packer_of("brotli"),
    "zstd": packer_of("zstandard"),
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data), mtime=0),
    "gzip, br": lambda data: packer_of("brotli")(gzip.compress(data, mtime=0)),
}


def unpacked(name: str, raw: bytes, size: int, **keywords: Any) -> bytes:
    """Return what a body decodes to that comes in chunks of this size."""
    decoder = decoder_of(name, **keywords)
    assert decoder is not None
    chunks = (raw[at : at + size] for at in range(0, len(raw), size))
    return b"".join(piece for chunk in chunks for piece in decoder(chunk))


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (gzip.compress(b"hello", mtime=0), "gzip"),
        (gzip.compress(b"hello", mtime=0), "x-gzip"),
        (zlib.compress(b"hello"), "deflate"),
        (raw_deflate(b"hello"), "deflate"),
        (gzip.compress(zlib.compress(b"hello"), mtime=0), "deflate, gzip"),
        (gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0), "gzip"),
        (b"hello", "identity"),
        (b"hello", ""),
        (b"hello", "gzip"),
        (b"hello", "zstd"),
        (b"hello", "unheard-of"),
        (b"hello", ", ".join(["gzip"] * 6)),
    ],
)
def test_encodings(raw: bytes, name: str) -> None:
    """What can be decoded is; what cannot stays as it came."""
    assert decode(raw, name, 100) == b"hello"


@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize("name", PACKERS)
def test_chunk_by_chunk(name: str, size: int) -> None:
    """However a compressed body is cut, its pieces decode to the same text."""
    assert unpacked(name, PACKERS[name](b"hello"), size) == b"hello"


@pytest.mark.parametrize("name", PACKERS)
def test_a_decoder_is_drained(name: str) -> None:
    """All of a well packed body comes out with its last byte, however large it is."""
    text = random.Random(3).randbytes(5_000) * 500
    assert unpacked(name, PACKERS[name](text), 1 << 30) == text


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_does_not_go_off(name: str) -> None:
    """Pieces are small, and who has enough can stop: memory does not follow what was packed."""
    bomb = PACKERS[name](b"\0" * (32 * MB))
    tracemalloc.start()
    try:
        assert len(decode(bomb, name, 1_000)) == 1_000
        decoder = decoder_of(name)
        assert decoder is not None
        sizes = [len(piece) for piece in decoder(bomb)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 32 * MB
    assert max(sizes) <= (2 * PIECE if name != "zstd" else MB)
    assert peak < 3 * MB


@pytest.mark.parametrize("name", PACKERS)
@given(noise=st.binary(min_size=1, max_size=60), at=st.integers(0, 60), size=st.integers(1, 70))
def test_a_decoder_fails_as_a_decoder(name: str, noise: bytes, at: int, size: int) -> None:
    """Whatever a codec raises is ours, and says what it is about."""
    raw = PACKERS[name](b"data: hello\n\n" * 9)
    try:
        unpacked(name, raw[:at] + noise + raw[at:], size)
    except UndecodableError as error:
        assert "not encoded as it says" in str(error)
        assert error.__cause__ is not None
        assert is_undecodable(error.__cause__)
    except OutOfReachError:
        assert "br" in name or "zstd" in name


def test_several_members_and_frames() -> None:
    """Of a stream as much is seen as the HTTP libraries show: a gzip member, all zstd frames."""
    members = gzip.compress(b"hel") + gzip.compress(b"lo")
    for size in (1, 7, 1_000):
        assert unpacked("gzip", members, size) == b"hel"
        assert unpacked("gzip", members, size, all_members=True) == b"hello"
    if find_spec("zstandard"):
        pack = PACKERS["zstd"]
        for size in (1, 7, 1_000):
            assert unpacked("zstd", pack(b"hel") + pack(b"lo"), size) == b"hello"


def test_a_window_that_takes_much_memory_is_left_alone() -> None:
    """A frame that wants 128 MB before its first byte may be sound; it is not looked into."""
    zstandard = pytest.importorskip("zstandard")
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    raw = packer.compress(b"hello") + packer.flush()
    with pytest.raises(OutOfReachError):
        unpacked("zstd", raw, 100)
    assert decode(raw, "zstd", 100) == raw
    brotli = pytest.importorskip("brotli")
    for window in (22, 24):
        bomb = brotli.compress(b"\0" * MB, lgwin=window)
        if window == 22:
            assert len(unpacked("br", bomb, 1)) == MB
            continue
        for size in (1, 3, 100):
            with pytest.raises(OutOfReachError):
                unpacked("br", bomb, size)
        assert len(decode(bomb, "br", 100)) == 100
    assert unpacked("br", brotli.compress(b"", lgwin=24), 1) == b""


class OldBrotli:
    """Brotli before 1.2: its decompressor takes no bound."""

    def __init__(self) -> None:
        self._codec = import_module("brotli").Decompressor()

    def process(self, data: bytes) -> bytes:
        """Decode all of it, whatever it decodes to."""
        return bytes(self._codec.process(data))


def test_brotli_that_takes_no_bound_is_fed_little_by_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step of four bytes decodes to one meta-block at most."""
    pack = PACKERS["br"]
    bomb, text = pack(b"\0" * (48 * MB)), os.urandom(3_000)
    small = pack(text)
    module = type("module", (), {"Decompressor": OldBrotli})
    monkeypatch.setattr(encoding, "_first_module", lambda *_names: module)
    assert unpacked("br", small, 100) == text
    decoder = decoder_of("br")
    assert decoder is not None
    assert max(len(piece) for piece in decoder(bomb)) <= 16 * MB


def test_what_nobody_can_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown encoding is not looked into, nor one whose package is missing; none is plain."""
    assert decoder_of("unheard-of") is None
    assert decoder_of("gzip, unheard-of") is None
    monkeypatch.setattr(encoding, "_first_module", lambda *_names: None)
    assert decoder_of("br") is decoder_of("zstd") is None
    assert decode(b"x", "br", 9) == b"x"
    assert unpacked("identity", b"x", 1) == unpacked("utf-8", b"x", 1) == b"x"
