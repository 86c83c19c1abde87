"""The file of finished calls: what it holds, what a torn end costs, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comet_resilience.bulk.finished import HEADER, Finished
from comet_resilience.bulk.keys import name_of


def opened(path: Path) -> Finished:
    """The file, ready."""
    finished = Finished(path)
    finished.open()
    return finished


def is_new(finished: Finished, *keys: object) -> list[bool]:
    """Which of some keys are new."""
    return [finished.is_new(name_of(key)) for key in keys]


def test_what_is_done_stays_done(tmp_path: Path) -> None:
    """Keys of any plain kind come back."""
    keys = ["a", 1, {"id": [2, "ü"]}, "long " * 100]
    first = opened(tmp_path / "f")
    assert is_new(first, *keys) == [True] * 4
    assert is_new(first, *keys) == [False] * 4
    for key in keys:
        first.done(name_of(key))
    first.close()
    assert (tmp_path / "f").read_bytes().startswith(HEADER + b'{"done": "a"}\n{"done": 1}\n')
    again = opened(tmp_path / "f")
    assert is_new(again, *keys, "1") == [False] * 4 + [True]
    again.close()


def test_a_result_nobody_took_comes_back_once(tmp_path: Path) -> None:
    """One that was taken does not."""
    first = opened(tmp_path / "f")
    long = "long " * 100
    for key in ("taken", "left", long):
        first.answered(name_of(key), {"text": key})
    first.done(name_of("taken"))
    first.close()
    again = opened(tmp_path / "f")
    assert is_new(again, "taken", "left", long) == [False, True, True]
    assert again.stored(name_of("left")) == (True, {"text": "left"})
    assert again.stored(name_of("left")) == (False, None)
    assert again.stored(name_of(long)) == (True, {"text": long})
    assert again.stored(name_of("taken")) == (False, None)
    again.close()


def test_wherever_it_was_torn_all_whole_lines_count(tmp_path: Path) -> None:
    """Cut at every byte, the file opens, knows what was whole, and takes more."""
    path = tmp_path / "f"
    first = opened(path)
    first.answered(b'"a"', "A")
    first.done(b'"a"')
    first.close()
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        torn = opened(path)
        is_answered = size >= len(HEADER) + len(b'{"answered": "a", "result": "A"}\n')
        assert is_new(torn, "a") == [size < len(whole)]
        assert torn.stored(b'"a"')[0] is (is_answered and size < len(whole))
        torn.done(b'"b"')
        torn.close()
        assert path.read_bytes().endswith(b'\n{"done": "b"}\n')
        again = opened(path)
        assert is_new(again, "b") == [False]
        again.close()


def test_lines_that_say_nothing_are_run_again(tmp_path: Path) -> None:
    """With a warning, and without harm to the others."""
    path = tmp_path / "f"
    path.write_bytes(HEADER + b'{"done": "a"}\n\0\0\0\n[1]\n{"answered": "b"}\n{"done": "c"}\n')
    with pytest.warns(UserWarning, match="3 lines cannot be read; their calls are run again"):
        finished = opened(path)
    assert is_new(finished, "a", "b", "c") == [False, True, False]
    finished.close()


def test_any_other_file_is_left_as_it_is(tmp_path: Path) -> None:
    """Somebody's data with or without a last newline is refused."""
    path = tmp_path / "data.jsonl"
    for content in (b'{"id": 1}\n', b"not a line", HEADER[:-1] + b" "):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data.jsonl is no file of finished calls"):
            Finished(path).open()
        assert path.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_runs_cannot_share_a_file(tmp_path: Path) -> None:
    """The second says so instead of doing the work twice."""
    first = opened(tmp_path / "f")
    with pytest.raises(BlockingIOError, match="in use by another run"):
        opened(tmp_path / "f")
    first.close()
    opened(tmp_path / "f").close()


def test_results_must_be_plain(tmp_path: Path) -> None:
    """The error says what would be."""
    finished = opened(tmp_path / "f")
    with pytest.raises(TypeError, match="object cannot be stored .* return text"):
        finished.answered(b"1", object())
    finished.close()


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    """And closing twice is closing."""
    finished = opened(tmp_path / "f")
    finished.close()
    finished.close()
    with pytest.raises(ValueError, match="is closed"):
        finished.done(b"1")
