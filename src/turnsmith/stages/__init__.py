"""Examples to examples."""
