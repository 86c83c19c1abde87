"""Content encodings, undone piece by piece and within bounds.

Nothing here ever holds more than a piece of what a body decodes to, however well it was packed:
whoever asks takes the pieces one after the other and stops when there is enough. What a codec
raises, whichever it is, becomes ``UndecodableError``.

A stream is decoded as the HTTP libraries decode it, because the caller sees it through them: of
several gzip members the first, of several zstd frames all.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any, Final

from .family import NAMES

#: Decoded bytes come in pieces of about this size at most.
PIECE: Final = 65_536

#: A decoder: the pieces to which the next bytes of a body decode.
Decoder = Callable[[bytes], Iterator[bytes]]

#: Names under which a body comes as it is; some servers put a charset where the encoding belongs.
_PLAIN: Final = frozenset({"", "identity", "none", "utf-8"})
#: Encodings on top of each other; nobody means more of them.
_MOST_LAYERS: Final = 5
#: Packed bytes are given to a codec in steps of this size, so that what it has not used yet is
#: not copied again for each piece.
_STEP: Final = 4_096
#: The same for codecs that cannot be told how much to return. What one step may decode to is
#: bounded by the format: 8 bytes of zstd are at most 2 blocks of 128 KiB, 4 bytes of brotli at
#: most one meta-block of 16 MiB (and an HTTP library over such a brotli bounds nothing at all).
_ZSTANDARD_STEP: Final = 8
_OLD_BROTLI_STEP: Final = 4
#: A window is memory that is taken before the first byte comes out; the RFC recommends this much.
_WINDOW_BITS: Final = 23
#: The same in brotli's first byte, where one window more is common; nothing is taken for it
#: before that many bytes have come.
_BROTLI_WINDOW: Final = 5
_BROTLI_HEAD: Final = 4
_CODEC_MODULES: Final = frozenset(
    {"zlib", "brotli", "_brotli", "brotlicffi", "zstandard", "compression", "backports", "_zstd"}
)


class UndecodableError(Exception):
    """A body is not encoded as its header says."""


class OutOfReachError(Exception):
    """Decoding a body takes more memory than is allowed; the body may be sound."""


def is_undecodable(error: BaseException) -> bool:
    """Return True if an exception, ours, an HTTP library's or a codec's, is about an encoding."""
    if isinstance(error, UndecodableError):
        return True
    for base in type(error).__mro__:
        root = base.__module__.partition(".")[0]
        if root in _CODEC_MODULES or (root in NAMES and base.__name__ == "DecodingError"):
            return True
    return False


def decode(raw: bytes, encoding: str, cap: int) -> bytes:
    """Return a whole body decoded, cut at ``cap`` bytes; as it came where that is impossible."""
    decoder = decoder_of(encoding, all_members=True)
    if decoder is None:
        return raw
    decoded = bytearray()
    try:
        for piece in decoder(raw):
            decoded += piece[: cap - len(decoded)]
            if len(decoded) >= cap:
                break
    except (UndecodableError, OutOfReachError):
        return bytes(decoded) or raw
    return bytes(decoded)


def decoder_of(encoding: str, *, all_members: bool = False) -> Decoder | None:
    """Return the decoder for a ``content-encoding``, or ``None`` if there is none here.

    It raises ``UndecodableError`` for nonsense, and ``OutOfReachError``.
    """
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in _PLAIN]
    if not names:
        return _plain
    if len(names) > _MOST_LAYERS:
        return None
    codecs = [_codec(name, all_members) for name in reversed(names)]
    if None in codecs:
        return None
    return _guarded(reduce(_chained, filter(None, codecs)))


def _codec(name: str, all_members: bool) -> Decoder | None:
    if name in ("gzip", "x-gzip"):
        return _Inflate(zlib.MAX_WBITS | 16, all_members)
    if name == "deflate":
        return _Deflate()
    if name == "br":
        return _brotli(bounded=not all_members)
    return _zstd() if name == "zstd" else None


def _plain(data: bytes) -> Iterator[bytes]:
    yield data


def _chained(outer: Decoder, inner: Decoder) -> Decoder:
    def decoded(data: bytes) -> Iterator[bytes]:
        for piece in outer(data):
            yield from inner(piece)

    return decoded


def _guarded(decoder: Decoder) -> Decoder:
    """Turn whatever a codec raises into our own; each of the libraries has its own exception."""

    def decoded(data: bytes) -> Iterator[bytes]:
        try:
            yield from decoder(data)
        except OutOfReachError:
            raise
        except Exception as error:
            if "too much memory" in str(error):
                raise OutOfReachError(str(error)) from error
            raise UndecodableError(f"the body is not encoded as it says: {error}") from error

    return decoded


def _steps(data: bytes, size: int) -> Iterator[bytes]:
    if len(data) <= size:
        yield data
    else:
        yield from (data[at : at + size] for at in range(0, len(data), size))


class _Inflate:
    """A decoder of gzip or of deflate, in one of its two forms."""

    def __init__(self, wbits: int, all_members: bool = False) -> None:
        self._wbits = wbits
        self._all_members = all_members
        self._codec = zlib.decompressobj(wbits)

    def __call__(self, data: bytes) -> Iterator[bytes]:
        for step in _steps(data, _STEP):
            yield from self._inflated(step)

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._codec.eof:
                if not (self._all_members and data):
                    return
                self._codec = zlib.decompressobj(self._wbits)
            piece = self._codec.decompress(data, PIECE)
            if piece:
                yield piece
            data = self._codec.unused_data or self._codec.unconsumed_tail
            if not data and len(piece) < PIECE:
                return


class _Deflate:
    """A decoder of deflate with its zlib header, or, as some servers send it, without."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: _Inflate | None = None

    def __call__(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            has_header = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._inflate = _Inflate(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        yield from self._inflate(data)


def _brotli(*, bounded: bool) -> Decoder | None:
    """Return a decoder of whichever package is there, in the order of the HTTP libraries.

    ``bounded`` refuses a window beyond what is common, in which a bomb is unpacked before any of
    it comes out; for an error body the SDK takes as much as well.
    """
    module = _first_module("brotli", "brotlicffi")
    if module is None:
        return None
    codec = module.Decompressor()
    process: Callable[..., bytes] = getattr(codec, "decompress", None) or codec.process
    try:
        process(b"", output_buffer_limit=PIECE)
    except TypeError:  # a release before 1.2
        return _stepped(process, _OLD_BROTLI_STEP)

    def decoded(data: bytes) -> Iterator[bytes]:
        piece = process(data, output_buffer_limit=PIECE)
        while piece:
            yield piece
            piece = process(b"", output_buffer_limit=PIECE)

    return _within_window(decoded, codec) if bounded else decoded


def _within_window(decoder: Decoder, codec: Any) -> Decoder:
    """Stop before the first meta-block of brotli with a large window, unless it is nonsense."""
    head = b""

    def decoded(data: bytes) -> Iterator[bytes]:
        nonlocal head
        if len(head) < _BROTLI_HEAD:
            at = _BROTLI_HEAD - len(head)
            head += data[:at]
            yield from decoder(data[:at])
            data = data[at:]
            is_large = head[:1] != b"" and head[0] & 1 and (head[0] >> 1) & 7 > _BROTLI_WINDOW
            if is_large and len(head) == _BROTLI_HEAD and not codec.is_finished():
                raise OutOfReachError("too large a window")
        if data:
            yield from decoder(data)

    return decoded


def _zstd() -> Decoder | None:
    module = _first_module("compression.zstd", "backports.zstd")
    if module is not None:
        options = {module.DecompressionParameter.window_log_max: _WINDOW_BITS}
        return _Frames(lambda: module.ZstdDecompressor(options=options))
    module = _first_module("zstandard")
    if module is None:
        return None
    codec = module.ZstdDecompressor(max_window_size=2**_WINDOW_BITS)
    return _Frames(codec.decompressobj, _ZSTANDARD_STEP)


class _Frames:
    """A decoder of zstd frames, one after the other, each with a codec of its own.

    ``step`` is given where a codec takes no bound for what it returns.
    """

    def __init__(self, make: Callable[[], Any], step: int | None = None) -> None:
        self._make = make
        self._step = step
        self._codec = make()

    def __call__(self, data: bytes) -> Iterator[bytes]:
        for step in _steps(data, self._step or _STEP):
            yield from self._frames(step)

    def _frames(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._codec.eof:
                self._codec = self._make()
            yield from self._pieces(data)
            data = self._codec.unused_data if self._codec.eof else b""

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._step is not None:
            yield self._codec.decompress(data)
            return
        yield self._codec.decompress(data, PIECE)
        while not (self._codec.needs_input or self._codec.eof):
            yield self._codec.decompress(b"", PIECE)


def _stepped(process: Callable[[bytes], bytes], size: int) -> Decoder:
    def decoded(data: bytes) -> Iterator[bytes]:
        for step in _steps(data, size):
            yield process(step)

    return decoded


def _first_module(*names: str) -> Any:
    """Return the first of these modules that is in use.

    None is imported here: the HTTP library has imported those with which it decodes, and what it
    does not decode the caller does not get to see decoded.
    """
    return next((module for name in names if (module := sys.modules.get(name))), None)
