"""Failures in words: diagnosis, hints, support report, and their redaction."""
