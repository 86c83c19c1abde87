"""The meaning of an outcome and the decision that follows: no await, clock or randomness."""
