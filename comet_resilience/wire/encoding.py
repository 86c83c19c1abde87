"""Content encodings, undone within bounds: a bomb does not go off, nonsense stays as it came."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any, Final

#: A compressed chunk of a stream is looked into up to this size, decoded.
CHUNK_CAP: Final = 1_048_576


def decode(raw: bytes, encoding: str, cap: int) -> bytes:
    """A whole body decoded, cut at ``cap`` bytes."""
    try:
        for name in reversed([part.strip().lower() for part in encoding.split(",")]):
            raw = _decode_one(raw, name, cap)
    except (zlib.error, ValueError, ImportError, OSError, MemoryError):
        pass
    return raw


def stream_decoder(encoding: str) -> Callable[[bytes], bytes] | None:
    """A function that decodes one chunk after the other; ``None`` if nobody here can."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return bytes
    if name in ("gzip", "x-gzip", "deflate"):
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        return lambda chunk: inflater.decompress(inflater.unconsumed_tail + chunk, CHUNK_CAP)
    try:
        if name == "br":
            return _brotli()
        if name == "zstd":
            return _zstandard()
    except ImportError:
        pass
    return None


def _decode_one(raw: bytes, name: str, cap: int) -> bytes:
    if name in ("gzip", "x-gzip"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, cap)
    if name == "deflate":
        return _inflate(raw, cap)
    if name == "zstd":
        import zstandard  # type: ignore[import-not-found] # noqa: PLC0415 - there where it is used

        reader = zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(io.BytesIO(raw))
        return bytes(reader.read(cap))
    if name == "br":
        import brotli  # type: ignore[import-not-found] # noqa: PLC0415 - there where it is used

        return bytes(brotli.Decompressor().process(raw, output_buffer_limit=cap))[:cap]
    return raw


def _inflate(raw: bytes, cap: int) -> bytes:
    """Deflate comes with a zlib header, as RFC 9110 says, and without, as some servers send it."""
    try:
        return zlib.decompressobj().decompress(raw, cap)
    except zlib.error:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, cap)


def _brotli() -> Callable[[bytes], bytes]:
    import brotli  # noqa: PLC0415 - there where it is used

    decompressor: Any = brotli.Decompressor()
    return lambda chunk: bytes(decompressor.process(chunk))


def _zstandard() -> Callable[[bytes], bytes]:
    import zstandard  # noqa: PLC0415 - there where it is used

    decompressor: Any = zstandard.ZstdDecompressor(max_window_size=2**23).decompressobj()
    return lambda chunk: bytes(decompressor.decompress(chunk))
