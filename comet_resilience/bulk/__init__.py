"""Bulk work: millions of calls from an iterable, as many at once as the limiter can soon send."""

from .progress import Progress
from .results import BulkResults
from .run import run_all

__all__ = ["BulkResults", "Progress", "run_all"]
