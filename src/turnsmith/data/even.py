"""A view in which long messages count no more than short ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from turnsmith.registry import view
from turnsmith.types import Sight, Tokens


@view("each_message", source="imoneoi/openchat, ochat/data/generate_dataset.py, per_sequence_loss")
def each_message(tokens: Tokens, sight: Sight) -> Tokens:
    """Every message counts the same, however long: the weight of each token is divided by how many tokens of
    its message learn, the one that ends it included.

    The weights of a conversation then sum to those of its messages, and so does what the sum of the losses is
    divided by.
    """
    learns = tokens.weights != 0
    sizes = np.bincount(tokens.turns[learns], minlength=int(tokens.turns.max(initial=0)) + 1)
    shares = np.divide(tokens.weights, sizes[tokens.turns], where=learns, out=np.zeros_like(tokens.weights))
    return replace(tokens, weights=shares)
