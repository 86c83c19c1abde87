"""The journal: one JSON line per attempt, to find out which route and model saturates first."""
