"""Networks that a recipe makes up itself, with weights drawn at random."""
