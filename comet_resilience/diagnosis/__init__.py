"""For the person who has to find out what went wrong."""
