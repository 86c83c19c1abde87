"""Measurements: the simulation of the limiter. ``python -m tests.bench.simulate``."""
