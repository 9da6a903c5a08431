"""The renderer of a model, which must be the one that the model was tuned with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnsmith.data.render import Renderer
from turnsmith.models import load, rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def renderer_of(reference: str, tokenizer: PreTrainedTokenizerBase | None = None) -> Renderer:
    """The renderer of the model at `reference`. tokenizer: its own, where it is loaded already.

    Raises RenderError where the chat template cannot be rendered, ModelError where the model was tuned with
    another rendering.
    """
    made = Renderer(tokenizer or load.tokenizer(reference))
    rendered.check(reference, made)
    return made
