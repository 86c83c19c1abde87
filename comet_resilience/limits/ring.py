"""The ring of an account: the order among partitions that only the account holds back. Pure.

1. A partition has the priority of its most urgent request. The highest priority goes first, except
   that one which was overtaken too often is next, by the rules of the ``Queue``.
2. Within a priority the partition that holds less goes first, and partitions that hold the same
   take turns: the one just served goes last.
3. The partition's own queue says which of its requests is then sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from .queue import Queue

MemberT = TypeVar("MemberT")


class _Turn(Generic[MemberT]):
    __slots__ = ("held", "left", "member", "priority", "serial")

    def __init__(self, member: MemberT, priority: int, held: int, serial: int) -> None:
        self.member: MemberT = member
        self.priority: int = priority
        self.held: int = held
        self.serial: int = serial
        self.left: bool = False

    def __lt__(self, other: _Turn[MemberT]) -> bool:
        return (self.held, self.serial) < (other.held, other.serial)


class Ring(Generic[MemberT]):
    """The members that take turns, each of them once."""

    __slots__ = ("_queue", "_serial", "_turns")

    def __init__(self) -> None:
        self._turns: dict[MemberT, _Turn[MemberT]] = {}
        self._queue: Queue[_Turn[MemberT]] = Queue()
        self._serial = 0

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[MemberT]:
        """Iterate over all members, in no order."""
        return iter(self._turns)

    def place(self, member: MemberT, priority: int, held: int) -> None:
        """Put a member among those of a priority, behind those that hold as much.

        If it is among them already it keeps its turn.
        """
        turn = self._turns.get(member)
        serial = self._serial = self._serial + 1
        if turn is not None:
            if (turn.priority, turn.held) == (priority, held):
                return
            self._queue.leave(turn)
            serial = turn.serial if turn.priority == priority else serial
        turn = self._turns[member] = _Turn(member, priority, held, serial)
        self._queue.push(turn)

    def head(self) -> MemberT:
        """Return the next member; there must be one."""
        return self._queue.head().member

    def priority_of(self, member: MemberT) -> int:
        """Return the priority of a member; it must be in the ring."""
        return self._turns[member].priority

    def pop(self) -> MemberT:
        """Remove the next member, to serve it: lower priorities are overtaken once more."""
        turn = self._queue.pop()
        del self._turns[turn.member]
        return turn.member

    def leave(self, member: MemberT) -> None:
        """Remove a member, if it is there: it needs no slot of the account."""
        turn = self._turns.pop(member, None)
        if turn is not None:
            self._queue.leave(turn)
