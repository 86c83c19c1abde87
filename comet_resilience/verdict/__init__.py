"""What happened, what it means, what to do about it: pure, without await, clock or randomness."""
