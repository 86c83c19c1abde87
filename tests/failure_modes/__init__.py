"""The failure modes of a client behind a gateway, each with tests named after it.

==  ===========================================  ===================================
1   cancelled at every await point               by_hand, on_loops
2   cancelled twice, or during the clean-up      by_hand, on_loops
3   a grant races a cancellation                 on_loops
4   a stream dropped without being closed        streams
5   left early, closed twice, consumer fails     streams
6   observers and hooks that raise anything      observers
7   one client in several event loops            loops_and_forks
8   forked processes                             loops_and_forks
9   asyncio.timeout and anyio scopes             scopes
10  starvation in the queue                      queue
11  unbounded queues, 100 000 waiters            queue
12  Retry-After: absurd, broken, several         retry_after
13  clocks that jump                             loops_and_forks
14  bodies that can be read once                 resending
15  billed twice                                 resending
16  retries that multiply                        resending
17  a stream that breaks in the middle           streams
18  secrets in what outlives a request           leaks
19  a server's text in logs and errors           leaks
20  huge error bodies                            error_bodies
21  zip bombs                                    error_bodies
22  error bodies that drip                       error_bodies
23  JSON that breaks parsers                     error_bodies
24  redirects to elsewhere                       redirects
25  cookies                                      redirects
26  web pages under a success status             redirects
27  everybody comes back at once                 queue
28  shared state that others write to            shared_state
==  ===========================================  ===================================

A test of mode 7 is called ``test_fm07_...``. ``test_backoff`` and ``test_guide`` hold
what others have published: the numbers of the AWS SDKs, and the gateway's own guide.
``test_index`` compares this table with the tests.
"""
