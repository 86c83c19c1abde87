"""What befalls which share of the requests, and the draw that decides for one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: A share for all that may happen together, or one for each name or status; 1 in sum at most.
Rate = float | Mapping[str, float] | Mapping[int, float] | Mapping[str | int, float]
Shares = tuple[tuple[str | int, float], ...]

#: Shares that were added up may miss 1 by this much.
_ROUNDING = 1e-9


def checked_shares(keyword: str, given: Iterable[tuple[str | int, float]]) -> Shares:
    """Return shares by name or status. Raises `ValueError`, naming *keyword*, if they cannot be."""
    shares = tuple(given)
    sizes = [share for _, share in shares]
    if any(size < 0 for size in sizes) or sum(sizes) > 1 + _ROUNDING:
        raise ValueError(f"{keyword}: shares are 0 or more and 1 in sum at most, not {shares}")
    return shares


def drawn(shares: Shares, draw: float) -> str | int | None:
    """Return what *draw*, from 0 to below 1, falls upon; None for the rest."""
    for name, share in shares:
        if draw < share:
            return name
        draw -= share
    return None
