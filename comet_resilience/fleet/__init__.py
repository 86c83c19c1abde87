"""One limit for many processes: shares of it, renewed through Redis or Valkey.

Each process holds a *share* of the fleet's limit and gives out its slots by itself, so no request
waits for Redis. A thread of its own renews the share: every half second, and at once where
somebody waits, where the gateway refused, or where slots were left over.

What is where:

* ``sync.lua``: the script that divides limits among the members. Redis' clock, not ours.
* ``draw.lua``: the script that spends budgets; ``draws`` its messages, ``spending`` a budget in one
  process.
* ``scope``: which processes share, and the names of the keys.
* ``message``: share request and share reply, checked: nothing that Redis says is trusted.
* ``memory``: the limit algorithm's state as text, so that it lives in Redis and in no process.
* ``merge``: the samples of members, told to the algorithm in the fleet's terms. One algorithm
  decides, the same as without a fleet; whoever has a sample runs it and commits, if nobody was
  faster.
* ``demand``: which limit those who wait are waiting for.
* ``renewal``: one exchange with the script for all that is due; ``pace``: when the next one is due.
* ``share``: a partition's part in one process, a ``LimitAlgorithm`` like any other; ``sampler``:
  what it observed since its last report.
* ``store``: the only file that knows a Redis client. ``coordinator``: the thread.
"""
