"""The vocabulary of a model: tokens that are added to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from turnsmith.models import fronts
from turnsmith.models.head import weight_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def add(model: PreTrainedModel, words: PreTrainedTokenizerBase, tokens: Sequence[str]) -> None:
    """Add special tokens that the tokenizer does not have to it, and a row for each to the model's embeddings
    and output projection where there is none left: the mean of the rows that were there."""
    known = words.get_vocab()
    words.add_tokens([token for token in tokens if token not in known], special_tokens=True)
    before = len(weight_of(model.get_input_embeddings()))
    if len(words) <= before:
        return
    with fronts.apart(model):
        model.resize_token_embeddings(len(words), mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            assert layer is not None
            weight = weight_of(layer)  # the same one twice where both are tied
            weight[before:] = weight[:before].mean(0)
