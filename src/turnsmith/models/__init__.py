"""Models: where they come from, how they are run, and where they go."""
