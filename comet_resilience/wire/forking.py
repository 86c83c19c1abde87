"""A forked child and the connections of its parent.

Both would write to the same sockets and could read each other's answers, so the child forgets
every connection that it inherits. It keeps the objects, unused: to close them would be to act on
the parent's event loop, and perhaps to say goodbye in its name.
"""

from __future__ import annotations

import os
from typing import Any, Final
from weakref import WeakSet

#: Where the connection pools of both families keep what is not a child's.
_INHERITED: Final = ("_connections", "_requests")

_pools: WeakSet[Any] = WeakSet()
_kept: list[Any] = []


def forget_in_children(transport: Any) -> None:
    """Let forked processes begin without the pooled connections of a transport, if it has any."""
    pool = pool_of(transport)
    if pool is not None:
        _pools.add(pool)


def pool_of(transport: Any) -> Any:
    """Return the connection pool of a transport, ``None`` if it has none that we know."""
    pool = getattr(transport, "_pool", None)
    is_known = all(isinstance(getattr(pool, name, None), list) for name in _INHERITED)
    return pool if is_known else None


def _after_fork() -> None:
    for pool in _pools:
        for name in _INHERITED:
            _kept.append(getattr(pool, name))
            setattr(pool, name, [])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
