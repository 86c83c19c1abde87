"""Real processes at one gateway in shared memory, sharing a limit through a real server."""
