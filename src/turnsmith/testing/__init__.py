"""What the tests of Turnsmith are built with, public so that components of your own can be tested the same
way."""

from turnsmith.testing.builders import chat, directory, model, scores, tokenizer, tokens

__all__ = ["chat", "directory", "model", "scores", "tokenizer", "tokens"]
