"""How many requests at once: the algorithm that moves the limit, and the queue in front of it."""
