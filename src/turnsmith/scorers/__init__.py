"""Judgements of conversations, as rewards, metrics and filters."""
