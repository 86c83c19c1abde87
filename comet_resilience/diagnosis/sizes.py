"""Sizes in bytes, as people read them."""

from __future__ import annotations


def shown_size(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit, factor in (("MB", 1_000_000), ("kB", 1_000)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
