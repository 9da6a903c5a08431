"""Models made of the weights of others."""
