"""What went wrong, in words: diagnosis, hints, support report, and what redacts them."""
