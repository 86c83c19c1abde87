"""The request log: one line per attempt, and what can be read from many."""
