"""The answers that the running task has open, known to the calls that it makes meanwhile.

The entries are weak references, and each belongs to one limiter: a released slot, a dropped answer
and another client's are skipped, so nothing has to be cleared on any way out. Tasks that a reader
starts inherit the entries (a ``ContextVar``), because it usually waits for those tasks.
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
    held = (entry for entry in _open_answers.get() if (each := entry()) and not each.released)
    _open_answers.set((*held, ref(lease)))


def held_here(limiter: object) -> tuple[Lease, ...]:
    """Return the leases of a limiter that the running task, or one that started it, holds."""
    entries = _open_answers.get()
    if not entries:
        return ()
    leases = (entry() for entry in entries)
    return tuple(each for each in leases if each and not each.released and each.limiter is limiter)
