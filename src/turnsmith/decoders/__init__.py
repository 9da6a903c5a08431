"""How the logits of several models become those that a token is drawn by."""
