"""The journal: one JSON line per attempt, to see later which route and model saturates first."""
