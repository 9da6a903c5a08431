"""Models that judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch

from turnsmith import wheels
from turnsmith.data.batch import Layout, pack, pad
from turnsmith.data.render import Renderer
from turnsmith.models import forest, load, rendered
from turnsmith.models.score import Scoring
from turnsmith.train.place import arithmetic, device
from turnsmith.types import Size

ROW = 4096  # most tokens of a batch

Judge: TypeAlias = "tuple[Scoring, Renderer, Layout]"


def loaded(reference: str, heads: Mapping[str, Size] | None = None, asked: str = "auto") -> Judge:
    """The model with these heads, which are as they are drawn, its renderer, and what lays out a batch for
    it. asked: the dtype to compute in; the one that is faster here where it is `auto`."""
    dtype, _ = arithmetic(asked, wheels.home() / "arithmetic.json")
    model, words = load.load(reference, dtype=dtype, device=device())
    model.to(getattr(torch, dtype)).eval()
    renderer = Renderer(words)
    rendered.check(reference, renderer)
    packed = not forest.refusal(model)
    if packed:
        forest.attach(model)
    return Scoring(model, heads=heads or {}).eval(), renderer, pack if packed else pad
