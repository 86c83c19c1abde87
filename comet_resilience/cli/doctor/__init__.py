"""``doctor``: the guide's triage as a program."""
