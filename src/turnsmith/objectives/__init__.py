"""Scores to losses per unit."""
