"""Tasks that this client created moments ago: the gateway may not show them yet.

A job such as a video is created by one request and polled by others. For the first half minute
"no such task" may only mean "not visible yet", and is worth asking again.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Final

#: Seconds during which an unknown task may still turn up.
VISIBLE_AFTER: Final = 30.0
_KEPT: Final = 1_024


class NewTasks:
    """The ids of tasks and when they were created, the latest only."""

    def __init__(self) -> None:
        self._created: OrderedDict[str, float] = OrderedDict()

    def note(self, body: bytes, now: float) -> None:
        """Remember the task that an answer tells of."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return
        for name in ("id", "task_id"):
            value = data.get(name) if isinstance(data, dict) else None
            if isinstance(value, str) and value:
                self._created[value] = now
        while len(self._created) > _KEPT:
            self._created.popitem(last=False)

    def is_new(self, path: str, now: float) -> bool:
        """Whether a path asks for a task that was created moments ago."""
        return any(
            part in self._created and now - self._created[part] < VISIBLE_AFTER
            for part in path.split("/")
        )
