"""Tools that models call: their schemas, and a sandbox for the programs that models write."""
