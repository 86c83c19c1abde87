"""Slots that a task holds by answers it has open, known to the calls that it makes meanwhile.

The entries are weak and belong to one limiter each: what was given back, was dropped, or is
another client's means nothing here, so nothing has to be cleared on any way out. Tasks that a
reader begins inherit them, because it usually waits for those.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from .partition import Lease

_open_answers: ContextVar[tuple[ref[Lease], ...]] = ContextVar(
    "comet_resilience_open_answers", default=()
)


def note_open(lease: Lease) -> None:
    """Note that the running task is handed an answer whose slot stays held."""
    held = [entry for entry in _open_answers.get() if _is_held(entry())]
    _open_answers.set((*held, ref(lease)))


def held_here(limiter: object) -> tuple[Lease, ...]:
    """Return the leases of a limiter that the running task, or one that began it, holds so."""
    entries = _open_answers.get()
    if not entries:
        return ()
    leases = (entry() for entry in entries)
    return tuple(each for each in leases if each and not each.released and each.limiter is limiter)


def _is_held(lease: Lease | None) -> bool:
    return lease is not None and not lease.released
