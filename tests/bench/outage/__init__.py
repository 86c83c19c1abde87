"""Outages of every kind: the bare SDK and the wrapped client, beside each other."""
