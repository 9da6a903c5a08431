"""What the tests of Turnsmith are built with, public so that components of your own can be tested the same
way."""

from turnsmith.testing.builders import (
    Figures,
    chat,
    conversations,
    directory,
    examples,
    jsonl,
    model,
    scores,
    tokenizer,
    tokens,
)

__all__ = [
    "Figures",
    "chat",
    "conversations",
    "directory",
    "examples",
    "jsonl",
    "model",
    "scores",
    "tokenizer",
    "tokens",
]
