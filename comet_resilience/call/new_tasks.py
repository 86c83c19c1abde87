"""Tasks that this client created moments ago: the gateway may not show them yet.

A job such as a video is created by one request and polled by others. For the first half minute
"no such task" may only mean "not visible yet", and is worth asking again.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..wire.http import URL

#: Seconds during which an unknown task may still turn up.
VISIBLE_AFTER: Final = 30.0
_KEPT: Final = 1_024
#: An id with more characters is none, and a server is not to fill the memory with it.
_LONGEST_ID: Final = 256


class NewTasks:
    """The ids of tasks, where and when they were created, the latest only."""

    def __init__(self) -> None:
        self.created: Final[OrderedDict[tuple[object, str], float]] = OrderedDict()

    def note(self, url: URL, body: bytes, now: float) -> None:
        """Remember the task that the answer of a URL's host tells of."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return
        for name in ("id", "task_id"):
            value = data.get(name) if isinstance(data, dict) else None
            if isinstance(value, str) and 0 < len(value) <= _LONGEST_ID:
                self.created[url.netloc, value] = now
        while len(self.created) > _KEPT:
            self.created.popitem(last=False)

    def is_new(self, url: URL, now: float) -> bool:
        """Return True if a URL asks for a task that its host created moments ago."""
        names = ((url.netloc, part) for part in url.path.split("/"))
        return any(now - self.created.get(name, -inf) < VISIBLE_AFTER for name in names)
