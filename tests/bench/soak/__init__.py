"""The soak: ``python -m tests.bench.soak``, ten minutes; ``--short``, one."""
