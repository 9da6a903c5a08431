"""Tasks, statistics and comparisons."""
