"""What an item is called in a file, and a set of such names that stays small.

Ten million keys in a ``set`` take a gigabyte. Here each takes its digest: 14 bytes in one of
65,536 rows, found by the first two. At 128 bits two keys never share one.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Final

_DIGEST: Final = 16
_PREFIX: Final = 2
_REST: Final = _DIGEST - _PREFIX
#: Longer keys (a whole prompt, say) stand in the file as a digest.
_LONGEST_NAME: Final = 200


def name_of(key: object) -> bytes:
    """A key as canonical JSON: equal keys have equal names.

    Raises:
        TypeError: If the key is nothing that JSON knows.

    """
    try:
        name = json.dumps(key, sort_keys=True, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"a {type(key).__name__} cannot be the key of a finished call ({error}): give"
            " key=..., a function from an item to text, a number, or lists and dicts of these"
        ) from None
    if len(name) <= _LONGEST_NAME:
        return name
    return b'{"blake2b":"%s"}' % blake2b(name, digest_size=_DIGEST).hexdigest().encode()


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
