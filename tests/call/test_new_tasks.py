"""Tasks created moments ago."""

from __future__ import annotations

from typing import Any

from comet_resilience.call.new_tasks import VISIBLE_AFTER, NewTasks

from ..conftest import httpx


def at(path: str, host: str = "a.test") -> Any:
    """A URL of the installed family."""
    return httpx.URL(f"https://{host}{path}")


def test_a_task_is_new_for_a_while() -> None:
    """By either id, in any path, until it should have become visible."""
    tasks = NewTasks()
    tasks.note(at("/v1/videos"), b'{"id": "video_1", "task_id": "t-1"}', 100.0)
    assert tasks.is_new(at("/v1/videos/video_1"), 101.0)
    assert tasks.is_new(at("/v1/videos/t-1/content"), 101.0)
    assert not tasks.is_new(at("/v1/videos/video_2"), 101.0)
    assert not tasks.is_new(at("/v1/videos/video_1"), 100.0 + VISIBLE_AFTER)


def test_a_task_is_new_where_it_was_created() -> None:
    """Another host that is reached through the same limiter knows nothing of it."""
    tasks = NewTasks()
    tasks.note(at("/v1/videos"), b'{"id": "video_1"}', 100.0)
    assert not tasks.is_new(at("/v1/videos/video_1", host="b.test"), 101.0)


def test_it_stays_small_and_harmless() -> None:
    """Only the latest are kept, and no answer upsets it."""
    tasks = NewTasks()
    for body in (b"", b"[]", b"null", b'{"id": 3}', b"\xff"):
        tasks.note(at("/v1/videos"), body, 0.0)
    for number in range(5_000):
        tasks.note(at("/v1/videos"), b'{"id": "v%d"}' % number, 0.0)
    tasks.note(at("/v1/videos"), b'{"id": "%s"}' % (b"x" * 100_000), 0.0)
    assert len(tasks.created) <= 1_024
    assert max(len(name) for _, name in tasks.created) < 300
    assert not tasks.is_new(at("/v0"), 1.0)
