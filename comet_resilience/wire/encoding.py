"""Content encodings, undone within bounds: a bomb does not go off, nonsense stays as it came."""

from __future__ import annotations

import contextlib
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


class UndecodableError(ConnectionError):
    """A body is not encoded as its header says; to who waits for it the connection is broken."""


def stream_decoder(encoding: str) -> Callable[[bytes], bytes] | None:
    """A function that decodes one chunk after the other; ``None`` if nobody here can.

    The function raises ``UndecodableError`` for nonsense.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return bytes
    try:
        make = _STREAM_DECODERS.get(name)
        return None if make is None else _guarded(make())
    except ImportError:
        return None


def _guarded(decode_chunk: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def decoded(chunk: bytes) -> bytes:
        try:
            return decode_chunk(chunk)
        except Exception as error:  # each of the libraries has an exception of its own
            raise UndecodableError(f"the body is not encoded as it says: {error}") from error

    return decoded


def _inflater() -> Callable[[bytes], bytes]:
    """Gzip and deflate; the latter with a zlib header or, as some servers send it, without."""
    inflater, begun = zlib.decompressobj(zlib.MAX_WBITS | 32), False

    def inflated(chunk: bytes) -> bytes:
        nonlocal inflater, begun
        if not begun and chunk:
            begun = True
            with contextlib.suppress(zlib.error):
                return inflater.decompress(chunk, CHUNK_CAP)
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return inflater.decompress(inflater.unconsumed_tail + chunk, CHUNK_CAP)

    return inflated


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


_STREAM_DECODERS: Final = {
    "gzip": _inflater,
    "x-gzip": _inflater,
    "deflate": _inflater,
    "br": _brotli,
    "zstd": _zstandard,
}
