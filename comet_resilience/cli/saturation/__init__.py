"""``saturation``: which route and model saturates first, when, and at what concurrency."""

from .command import add_to

__all__ = ["add_to"]
