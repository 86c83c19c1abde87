"""The ring of an account: whose turn it is among partitions that only the account holds back. Pure.

1. A partition stands at the priority of its most urgent request. The more urgent goes first, and
   a priority that others overtook too often is next, by the rules of the ``Queue``.
2. Of one priority those are next that hold less, and those that hold as much take turns: whoever
   was served stands behind the others.
3. Which of its requests a partition then sends is for its own queue to say.
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
    """Those who take turns, each of them once."""

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
        """Let a member stand among those of a priority, behind those that hold as much.

        If it stands among them already it keeps its turn.
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
        """Return whose turn it is; there must be one."""
        return self._queue.head().member

    def priority_of(self, member: MemberT) -> int:
        """Return the priority at which a member stands; it must be in the ring."""
        return self._turns[member].priority

    def pop(self) -> MemberT:
        """Take out whose turn it is, to be served: all lower priorities are overtaken once more."""
        turn = self._queue.pop()
        del self._turns[turn.member]
        return turn.member

    def leave(self, member: MemberT) -> None:
        """Let a member go out of its turn, if it is there: it needs no slot of the account's."""
        turn = self._turns.pop(member, None)
        if turn is not None:
            self._queue.leave(turn)
