"""Concurrency: the algorithm that moves the limit, and the queue in front of it."""
