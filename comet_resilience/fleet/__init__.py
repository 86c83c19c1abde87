"""One limit for many processes: shares of it, renewed through Redis or Valkey.

Each process holds a *share* of the fleet's limit and assigns its slots locally, so no request waits
for Redis. A background thread renews the share: every half second, and at once when a request is
waiting, the gateway refused one, or slots are unused.

* ``sync.lua``: the script that divides limits among the members, by the clock of Redis.
* ``draw.lua``: the script that spends budgets; ``draws``: its request and reply; ``spending``: a
  budget in one process. ``batch.lua`` precedes both: it answers each scope or budget in turn.
* ``scope``: the processes that share, and the names of the keys.
* ``message``: share request and share reply, validated: nothing read from Redis is trusted.
* ``memory``: the limit algorithm's state as text, kept in Redis and owned by no process.
* ``merge``: feeds the members' samples to the algorithm. It is the same one as without a fleet; any
  member that has a sample runs it, and commits unless another was faster.
* ``demand``: the limit that waiting requests are waiting for.
* ``renewal``: one exchange with the script for all shares due; ``pace``: when the next one is due.
* ``share``: a partition's share in one process, a ``LimitAlgorithm`` like any other; ``sampler``:
  its observations since the last report.
* ``store``: the only file that knows a Redis client. ``coordinator``: the thread.
"""
