"""A model whose circuit is known because its weights were written by hand.

Two layers of four heads of size 16, in groups of two that share keys and values; the feed-forward layers add
nothing. Every token has a constant and one mark: which thing it is, which label, or that it is another word.
Layer 0, head 0, looks two tokens back: a label in the scene learns which thing is in its box (a structure
reader). Layer 0, head 1, looks one token back: the last token learns which label is asked for (a position
transmitter, which has labels to transmit here). Layer 1, head 0, looks for that label where a thing was
learnt, and brings the thing (a value fetcher). The other heads read nothing that differs and write nothing.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.evaluation.suite import Subject
from turnsmith.models.networks.llama import llama
from turnsmith.models.score import Scoring
from turnsmith.stages.containers import containers
from turnsmith.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

THINGS, LABELS = ("book", "car", "hat", "cup"), "ABCD"
WORDS = ("The", "the", "is in Box", "Box", "contains the", *THINGS, *LABELS)
CONSTANT, THING, LABEL, HELD, SOUGHT, OTHER = 0, 1, 5, 9, 13, 17  # where the numbers of a state begin
SIZE = 16
STILL = (4, 12, 5, 13)  # dimensions of a head that rotation hardly moves, one for each label
PRESENT = 7


def written() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer."""
    model: Any
    model, words = llama(layers=2, hidden=64, wide=8, heads=4, shared=2, words=WORDS)
    known = words.get_vocab()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        table = model.model.embed_tokens.weight
        table[:, CONSTANT] = 1
        marks = {known[one]: THING + at for at, one in enumerate(THINGS)}
        marks |= {known[one]: LABEL + at for at, one in enumerate(LABELS)}
        for token in range(len(table)):
            table[token, marks.get(token, OTHER)] = 1
        lower, upper = (layer.self_attn for layer in model.model.layers)
        for head, back in ((0, 2), (1, 1)):
            look_back(lower, head, back)
        for at in range(4):
            lower.v_proj.weight[at, THING + at] = lower.v_proj.weight[4 + at, LABEL + at] = 0.25
            lower.o_proj.weight[HELD + at, at] = 1
            lower.o_proj.weight[SOUGHT + at, SIZE + 4 + at] = 1
            upper.q_proj.weight[STILL[at], SOUGHT + at] = upper.k_proj.weight[STILL[at], LABEL + at] = 3.5
            upper.k_proj.weight[PRESENT, HELD + at] = 3.35
            upper.v_proj.weight[at, HELD + at] = 0.3
            upper.o_proj.weight[THING + at, at] = 10
        upper.q_proj.weight[PRESENT, CONSTANT] = 3.35
    return model.eval(), words


def look_back(attention: Any, head: int, back: int) -> None:
    """The head sees what stands so many tokens before, by two of rotation's frequencies."""
    for pair, frequency in ((0, 1.0), (2, 0.1)):
        attention.k_proj.weight[pair, CONSTANT] = 3.87
        attention.q_proj.weight[head * SIZE + pair, CONSTANT] = 3.87 * math.cos(frequency * back)
        attention.q_proj.weight[head * SIZE + 8 + pair, CONSTANT] = -3.87 * math.sin(frequency * back)


def subject(model: nn.Module, words: PreTrainedTokenizerBase) -> Subject:
    """The model, ready to be measured by tasks that ask it for no replies."""

    def chat(*asked: Any, **options: Any) -> NoReturn:
        raise AssertionError("nothing is asked")

    return Subject("written", Scoring(model), Renderer(words), chat, pad)


def examples(count: int, *, seed: int = 0, least: int = 2, most: int = 3) -> list[Example]:
    """Scenes of things and labels that the model knows."""
    return list(
        containers([], count=count, least=least, most=most, things=THINGS, labels=LABELS, rng=Random(seed))
    )
