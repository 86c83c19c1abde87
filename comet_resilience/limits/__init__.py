"""How many requests at once, and how fast. Begin with ``limiter``.

The door
    ``limiter``: locks, waits, wakes, tells observers; ``scheduler``: who gets a free slot next
State
    ``partition``: one partition, its ``Waiter``s and ``Lease``s; ``account``: the limit above them;
    ``slots``: what both have; ``partitions``: all of them; ``queue``, ``ring``, ``priority``,
    ``too_late``: order
How many
    ``algorithm``, ``fixed``; ``guarded``: an algorithm of the user's; ``blame``, ``evidence``:
    whose ceiling a refusal met
How fast
    ``pacer``: when the next may go, and ``pressed``: those who cannot wait. Its sources are
    ``budgets`` (``budget``); ``forecasts`` (``told``, ``forecast``, ``named``, ``trust``); and
    ``learnt`` (``spacing``, ``belief``, ``explanations``, ``attempt_log``)
Outages
    ``gate``: one gate; ``gates``: those of partitions and hosts
Time and tasks
    ``eventloop``, ``timer``; ``holding``, ``standstill``: slots held by open answers; ``lookout``,
    ``collecting``: answers that were dropped
What is shown
    ``snapshot``: the values; ``views``: how they are made
"""
