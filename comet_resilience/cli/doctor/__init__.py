"""``doctor``: the guide's triage as a program, for someone whose calls fail."""

from .command import add_to

__all__ = ["add_to"]
