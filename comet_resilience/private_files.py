"""Files that are the owner's alone: how the journal and the file of finished calls are opened.

Both may stand in a directory where others write, such as ``/tmp``. A symbolic link that somebody
else made there would have us write into a file of its maker's choice, so it is refused; so is a
file of somebody else's. A file of our own that others may read is closed to them.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_LINKS_MOST: Final = 8


def open_private(path: str, flags: int) -> int:
    """Open a file as ``os.open`` does, made with mode 0600 where it is new.

    Raises:
        PermissionError: If it is somebody else's, or is reached by a link that somebody else made.
        OSError: If it cannot be opened.

    """
    file = os.open(_own_target(path), flags | _NO_FOLLOW, 0o600)
    try:
        _make_private(path, file)
    except BaseException:
        os.close(file)
        raise
    return file


def _own_target(path: str) -> str:
    """Follow links as long as they are our own, or the system's."""
    for _ in range(_LINKS_MOST if _NO_FOLLOW else 0):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(found.st_mode):
            return path
        if found.st_uid not in (os.geteuid(), 0):
            raise PermissionError(
                errno.EPERM, "a symbolic link that somebody else made is not followed", path
            )
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return path


def _make_private(path: str, file: int) -> None:
    found = os.fstat(file)
    if not hasattr(os, "geteuid") or not stat.S_ISREG(found.st_mode):
        return  # a device or a pipe has no contents to keep
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the file belongs to somebody else", path)
    if found.st_mode & 0o077:
        os.fchmod(file, stat.S_IMODE(found.st_mode) & 0o700)
