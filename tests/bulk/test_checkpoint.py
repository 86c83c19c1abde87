"""The file of finished calls: what it holds, what a torn end costs, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from comet_resilience.bulk.checkpoint import HEADER, Checkpoint, InexactResultError, check_stored
from comet_resilience.bulk.keys import name_of


def opened(path: Path) -> Checkpoint:
    """The file, ready."""
    finished = Checkpoint(path)
    finished.open()
    return finished


def is_new(finished: Checkpoint, *keys: object) -> list[bool]:
    """Which of some keys are new."""
    return [finished.add(name_of(key)) for key in keys]


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


def test_a_result_that_was_not_taken_comes_back_once(tmp_path: Path) -> None:
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
        with pytest.raises(ValueError, match=r"data.jsonl is not a file of finished calls"):
            Checkpoint(path).open()
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


@pytest.mark.parametrize(
    "result",
    [(1, 2), {1: "a"}, float("nan"), {"a": (1,)}, [float("inf")], "\ud83d\ude00"],
    ids=["tuple", "number", "nan", "inside", "inf", "pair"],
)  # fmt: skip
def test_a_result_that_would_come_back_as_something_else_is_not_kept(
    tmp_path: Path, result: object
) -> None:
    """The file says nothing rather than something else."""
    finished = opened(tmp_path / "f")
    with pytest.raises(InexactResultError, match="cannot be stored"):
        finished.answered(b"1", result)
    finished.close()
    assert (tmp_path / "f").read_bytes() == HEADER


def test_a_deep_result_and_a_deep_line_are_errors_like_others(tmp_path: Path) -> None:
    """The first is not kept, the second is run again; neither ends anything."""
    result: list[object] = []
    for _ in range(100_000):
        result = [result]
    finished = opened(tmp_path / "f")
    with pytest.raises(InexactResultError, match="nested too deeply"):
        finished.answered(b"1", result)
    finished.close()
    with (tmp_path / "f").open("ab") as file:
        file.write(b'{"answered": "a", "result": ' + b"[" * 100_000 + b'}\n{"done": "b"}\n')
    with pytest.warns(UserWarning, match="1 lines cannot be read"):
        again = opened(tmp_path / "f")
    assert is_new(again, "a", "b") == [True, False]
    again.close()


@pytest.mark.parametrize(
    "torn", [b'{"done": "x', b'{"ans', b'{"answered": "b", "result": {"done": ']
)
def test_a_torn_line_and_the_whole_one_after_it_are_told_apart(tmp_path: Path, torn: bytes) -> None:
    """As a full disk leaves them where what writes it knows no better."""
    path = tmp_path / "f"
    path.write_bytes(HEADER + torn + b'{"answered": "a", "result": "PAID"}\n')
    with pytest.warns(UserWarning, match="1 lines begin with an incomplete one"):
        finished = opened(path)
    assert finished.stored(name_of("a")) == (True, "PAID")
    assert is_new(finished, "a", "b", "x") == [True, True, True]
    finished.close()


def test_what_a_full_disk_left_spoils_no_later_line(tmp_path: Path) -> None:
    """The next line begins on a line of its own."""
    path = tmp_path / "f"
    finished = opened(path)
    file: Any = finished._file

    class Full:
        def write(self, data: bytes) -> int:
            file.write(data[:5])
            raise OSError(28, "No space left on device")

    finished._file = cast("Any", Full())
    with pytest.raises(OSError, match="No space"):
        finished.done(b'"a"')
    finished._file = file
    finished.done(b'"b"')
    finished.close()
    with pytest.warns(UserWarning, match="1 lines cannot be read"):
        again = opened(path)
    assert is_new(again, "a", "b") == [True, False]
    again.close()


def test_an_answer_to_a_tuple_comes_back_to_the_tuple(tmp_path: Path) -> None:
    """The name in the line is taken as it stands."""
    first = opened(tmp_path / "f")
    first.answered(name_of((1, 2)), "tuple")
    first.answered(name_of([1, 2]), "list")
    first.close()
    again = opened(tmp_path / "f")
    assert again.stored(name_of((1, 2))) == (True, "tuple")
    assert again.stored(name_of([1, 2])) == (True, "list")
    again.close()


def test_a_function_that_says_what_cannot_be_stored_is_refused() -> None:
    """Before anything is asked; one that says nothing, or something general, is not."""

    async def pairs(_item: int) -> tuple[int, int]: ...  # type: ignore[empty-body]

    async def plain(_item: int) -> dict[str, Any]: ...  # type: ignore[empty-body]

    async def silent(_item): ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match="ask returns tuple"):
        check_stored(pairs)
    check_stored(plain)
    check_stored(silent)
