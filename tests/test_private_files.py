"""Files of the owner's alone, in directories where others write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from comet_resilience.private_files import open_private

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
SOMEBODY = 4_242

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes mean little there")
as_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="makes files of somebody else's"
)


def mode_of(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_the_owners(tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        os.close(open_private(str(tmp_path / "f"), FLAGS))
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "f") == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o666, 0o640])
def test_a_file_of_ours_that_others_may_read_is_closed_to_them(tmp_path: Path, mode: int) -> None:
    """Its contents stay."""
    path = tmp_path / "f"
    path.write_text("kept")
    path.chmod(mode)
    os.close(open_private(str(path), FLAGS))
    assert mode_of(path) == 0o600
    assert path.read_text() == "kept"


def test_links_of_our_own_are_followed(tmp_path: Path) -> None:
    """Relative ones and chains, to files that are there or not yet."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "f")
    file = open_private(str(tmp_path / "one"), FLAGS)
    os.write(file, b"x")
    os.close(file)
    assert (tmp_path / "f").read_bytes() == b"x"
    assert mode_of(tmp_path / "f") == 0o600


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """With the error that the system has for it."""
    (tmp_path / "one").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(str(tmp_path / "one"), FLAGS)


def test_links_of_somebody_else_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written where they lead."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "link").symlink_to(victim)
    owner = (tmp_path / "link").lstat().st_uid or SOMEBODY
    if os.geteuid() == 0:
        os.lchown(tmp_path / "link", owner, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    with pytest.raises(PermissionError, match="link made by another user"):
        open_private(str(tmp_path / "link"), FLAGS)
    assert victim.read_text() == "mine"


@as_root
def test_files_of_somebody_else_are_refused(tmp_path: Path) -> None:
    """They stay as they are."""
    path = tmp_path / "f"
    path.write_text("theirs")
    path.chmod(0o666)
    os.chown(path, SOMEBODY, -1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        open_private(str(path), FLAGS)
    assert mode_of(path) == 0o666


def test_a_device_is_no_file() -> None:
    """Its mode is the system's business."""
    os.close(open_private(os.devnull, os.O_WRONLY))
