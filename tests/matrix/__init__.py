"""The versions that the suite runs with: `python -m tests.matrix`."""
