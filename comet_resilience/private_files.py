"""Files that are private to their owner: the journal and the file of finished calls.

Both may be in a directory where other users write, such as ``/tmp``. A symbolic link that another
user made there would redirect our writes to a file of that user's choice, so it is refused, and so
is another user's file. A file of our own that others may read is closed to them.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_LINKS_MOST: Final = 8


def open_private(path: str, flags: int) -> int:
    """Open a file as ``os.open`` does, with mode 0600 if it is new.

    Raises:
        PermissionError: If it belongs to another user, or is reached by another user's link.
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
    """Return the file behind a path, following only links of our own or of the system."""
    for _ in range(_LINKS_MOST if _NO_FOLLOW else 0):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(found.st_mode):
            return path
        if found.st_uid not in (os.geteuid(), 0):
            raise PermissionError(
                errno.EPERM, "a symbolic link made by another user is not followed", path
            )
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return path


def _make_private(path: str, file: int) -> None:
    found = os.fstat(file)
    if not hasattr(os, "geteuid") or not stat.S_ISREG(found.st_mode):
        return  # a device or a pipe has no contents to keep
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the file belongs to another user", path)
    if found.st_mode & 0o077:
        os.fchmod(file, stat.S_IMODE(found.st_mode) & 0o700)
