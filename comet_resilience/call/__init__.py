"""One request on its way: acquire, send, check, release, wait, again."""
