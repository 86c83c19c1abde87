"""Limits on concurrency and on rates. Start with ``limiter``; the README follows a request through.

Entry
    ``limiter``: lock, waits, wake-ups, observers; ``scheduler``: which waiter gets a free slot
State
    ``partition``: one partition, its ``Waiter``s and ``Lease``s; ``account``: the limit above them;
    ``slots``: common to both; ``partitions``: all of them
Order
    ``queue`` of a partition, ``ring`` of an account, ``priority``, ``too_late``
Concurrency
    ``algorithm``, ``fixed``; ``guarded``: an algorithm of the user's; ``blame``: the attribution of
    refusals to a model or its account
Rates
    ``pacer``: when the next attempt may go; ``pressed``: requests that cannot wait. Its sources:
    ``budgets`` (``budget``); ``forecasts`` (``told``, ``forecast``, ``named``, ``trust``); and
    ``learnt`` (``spacing``, ``belief``, ``explanations``, ``attempt_log``)
Outages
    ``gate``: one circuit breaker; ``gates``: those of partitions and hosts
Event loops and open answers
    ``eventloop``, ``timer``; ``holding``, ``standstill``: slots held by open answers; ``lookout``,
    ``collecting``: slots of answers that were dropped
Inspection
    ``snapshot``: the values; ``views``: how they are made
"""
