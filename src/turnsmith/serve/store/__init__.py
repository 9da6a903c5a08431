"""What was said and judged: conversations as trees, in a database."""
