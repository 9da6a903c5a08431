"""One file for each benchmark: its items, how they are scored, and its metrics."""
