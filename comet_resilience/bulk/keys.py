"""The names of items in a checkpoint, and a compact set of such names.

Ten million keys in a ``set`` take a gigabyte. Here each takes 14 bytes of its digest, in one of
65,536 rows that the first two bytes select. With 128 bits collisions do not happen.
"""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from typing import Any, Final

_DIGEST: Final = 16
_PREFIX: Final = 2
_REST: Final = _DIGEST - _PREFIX
#: Longer keys (a whole prompt, say) are stored as a digest.
_LONGEST_NAME: Final = 200
_BY_DIGEST: Final = b'{"blake2b":'


def name_of(key: object) -> bytes:
    """Return a key as canonical JSON: equal keys have equal names, and no others.

    A tuple differs from a list, and a number as a dict's key from text.

    Raises:
        TypeError: If the key has no exact JSON form.

    """
    try:
        name = _encoded(key).encode()
    except (TypeError, ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise TypeError(
            f"a {type(key).__name__} cannot be the key of a finished call ({why}): pass"
            " key=..., a function from an item to text, a number, or lists and dicts of these"
        ) from None
    if len(name) <= _LONGEST_NAME and not name.startswith(_BY_DIGEST):
        return name
    return b'%s"%s"}' % (_BY_DIGEST, blake2b(name, digest_size=_DIGEST).hexdigest().encode())


def _encoded(key: object) -> str:
    """Return an exact encoding; the space marks types beyond JSON, no user's key has one."""
    if isinstance(key, list | tuple):
        items = ",".join([_encoded(item) for item in key])
        return f"[{items}]" if isinstance(key, list) else f'{{"tuple": [{items}]}}'
    if isinstance(key, dict):
        return _encoded_dict(key)
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, float) and math.isnan(key):
        raise TypeError("NaN is equal to nothing, not even to itself")
    return json.dumps(key)


def _encoded_dict(key: dict[Any, Any]) -> str:
    if all(isinstance(name, str) for name in key):
        members = ",".join(f"{_text(name)}:{_encoded(key[name])}" for name in sorted(key))
        return f"{{{members}}}"
    pairs = sorted(f"[{_encoded(name)},{_encoded(value)}]" for name, value in key.items())
    return f'{{"dict": [{",".join(pairs)}]}}'


def _text(text: str) -> str:
    encoded = json.dumps(text)
    if not text.isascii() and json.loads(encoded) != text:
        raise TypeError("a pair of surrogates would become one character")
    return encoded


class Names:
    """A set of names that only grows."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytearray] = {}

    def add(self, name: bytes) -> bool:
        """Add a name; ``False`` if it is in the set already."""
        digest = blake2b(name, digest_size=_DIGEST).digest()
        prefix, rest = digest[:_PREFIX], digest[_PREFIX:]
        row = self._rows.get(prefix)
        if row is None:
            self._rows[prefix] = bytearray(rest)
            return True
        at = row.find(rest)
        while at >= 0 and at % _REST:  # a match across two entries is none
            at = row.find(rest, at + 1)
        if at < 0:
            row += rest
        return at < 0
