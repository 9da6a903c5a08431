"""A model that can be talked to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.types import Sampling

if TYPE_CHECKING:
    from turnsmith.sample.chat import LocalChat

USUAL = Sampling(temperature=0.7, top_p=0.95, max_new=256)


def chat(model: str | Path, *, sampling: Sampling = USUAL, system: str | None = None) -> LocalChat:
    """The model as a function from conversations to replies, in the arithmetic that is fastest here.

    model: a directory, a shipped name or a hub id. sampling: used where a call gives none. system: put first
    where a conversation has no system message. `Talk` remembers a conversation with it.
    """
    import torch

    from turnsmith import wheels
    from turnsmith.models import load
    from turnsmith.recipes.rendering import renderer_of
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.engine import LocalEngine
    from turnsmith.train.place import arithmetic, device

    dtype, _ = arithmetic("auto", wheels.home() / "arithmetic.json")
    loaded, tokenizer = load.load(str(model), dtype=dtype, device=device())
    whole: Any = loaded
    renderer = renderer_of(str(model), tokenizer)
    whole.to(getattr(torch, dtype)).eval()  # the adapter too
    return LocalChat(LocalEngine(whole, stop=renderer.stops), renderer, sampling=sampling, system=system)
