"""The names of items in a checkpoint, and a set of such names that stays small.

Ten million keys in a ``set`` take a gigabyte. Here each takes its digest: 14 bytes in one of
65,536 rows, found by the first two. At 128 bits two keys never share one.
"""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from typing import Any, Final

_DIGEST: Final = 16
_PREFIX: Final = 2
_REST: Final = _DIGEST - _PREFIX
#: Longer keys (a whole prompt, say) stand in the file as a digest.
_LONGEST_NAME: Final = 200
_BY_DIGEST: Final = b'{"blake2b":'


def name_of(key: object) -> bytes:
    """Return a key as canonical JSON: equal keys have equal names, and no others.

    A tuple is told from a list, and a number as a dict's key from text.

    Raises:
        TypeError: If the key is nothing that JSON knows, or not exactly.

    """
    try:
        name = _encoded(key).encode()
    except (TypeError, ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise TypeError(
            f"a {type(key).__name__} cannot be the key of a finished call ({why}): give"
            " key=..., a function from an item to text, a number, or lists and dicts of these"
        ) from None
    if len(name) <= _LONGEST_NAME and not name.startswith(_BY_DIGEST):
        return name
    return b'%s"%s"}' % (_BY_DIGEST, blake2b(name, digest_size=_DIGEST).hexdigest().encode())


def _encoded(key: object) -> str:
    """Encode what comes back from JSON as it was; the space marks what no key of a user's has."""
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
    """A set of names; it only grows."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytearray] = {}

    def add(self, name: bytes) -> bool:
        """Take a name in; ``False`` if it was in already."""
        digest = blake2b(name, digest_size=_DIGEST).digest()
        prefix, rest = digest[:_PREFIX], digest[_PREFIX:]
        row = self._rows.get(prefix)
        if row is None:
            self._rows[prefix] = bytearray(rest)
            return True
        at = row.find(rest)
        while at >= 0 and at % _REST:  # found across two entries: no entry
            at = row.find(rest, at + 1)
        if at < 0:
            row += rest
        return at < 0
