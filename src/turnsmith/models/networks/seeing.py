"""A language model that sees: EfficientNet-Lite0 and a projector in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnsmith.registry import network

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEES = "image_tokens"  # in the tokenizer's settings, where the renderer looks


@network("seeing", source="arXiv:2310.03744 sec. 3.3; arXiv:2502.03333 sec. 3.2")
def seeing(
    *, language: str | None = None, encoder: str | None = None, size: int = 224
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model with an encoder of images and a projector that nobody has trained yet: two linear
    layers from the seed. What it sees means nothing to it before the projector has learnt.

    language: a model's reference; the small Llama of `llama` where absent. encoder: of the weights of
    EfficientNet-Lite0, e.g. `efficientnet-lite0`; random ones where absent. size: images become squares of so
    many pixels, and a token for each 32 x 32 of them: 49 of the 224 that the encoder was trained on.
    """
    from turnsmith.models import efficientnet, fronts, load
    from turnsmith.models.networks.llama import llama

    if language is None:
        model, words = llama()
    else:
        exact = load.holds_float32(language)
        model, words = load.load(language, dtype="float32" if exact else "bfloat16")
    seen = efficientnet.EfficientNet() if encoder is None else efficientnet.load(encoder)
    front = fronts.Front(seen, model.config.get_text_config().hidden_size, size=size)
    fronts.attach(model, front)
    words.init_kwargs[SEES] = front.tokens
    return model, words
