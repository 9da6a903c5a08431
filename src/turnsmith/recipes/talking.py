"""A model that can be talked to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.models.answering import file_of, is_llamacpp
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.types import Sampling

if TYPE_CHECKING:
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.remote import RemoteChat

USUAL = Sampling(temperature=0.7, top_p=0.95, max_new=256)


def chat(
    model: str | Path, *, sampling: Sampling = USUAL, system: str | None = None
) -> LocalChat | RemoteChat:
    """The model as a function from conversations to replies, in the arithmetic that is fastest here.

    model: a directory, a shipped name, a hub id, an endpoint, or `llamacpp:FILE.gguf`. sampling: used where
    a call gives none. system: put first where a conversation has no system message. `Talk` remembers a
    conversation with it.
    """
    if is_endpoint(str(model)):
        return remote(str(model), sampling=sampling, system=system)
    if is_llamacpp(str(model)):
        return llamacpp(str(model), sampling=sampling, system=system)
    import torch

    from turnsmith import wheels
    from turnsmith.models import load
    from turnsmith.recipes.rendering import renderer_of
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.engine import KEPT, LocalEngine
    from turnsmith.train.place import arithmetic, device

    dtype, _ = arithmetic("auto", wheels.home() / "arithmetic.json")
    loaded, tokenizer = load.load(str(model), dtype=dtype, device=device())
    whole: Any = loaded
    renderer = renderer_of(str(model), tokenizer)
    whole.to(getattr(torch, dtype)).eval()  # the adapter too
    engine = LocalEngine(whole, stop=renderer.stops, kept=KEPT)  # whoever talks goes on from what was said
    return LocalChat(engine, renderer, sampling=sampling, system=system)


def remote(reference: str, *, sampling: Sampling = Sampling(), system: str | None = None) -> RemoteChat:  # noqa: B008
    """The model behind an endpoint; what it has answered once is taken from Turnsmith's cache."""
    from turnsmith import wheels
    from turnsmith.sample.remote import RemoteChat

    return RemoteChat(endpoint(reference), wheels.home() / "replies", sampling=sampling, system=system)


def llamacpp(reference: str, *, sampling: Sampling = Sampling(), system: str | None = None) -> LocalChat:  # noqa: B008
    """The model in a GGUF file, run by llama.cpp in this process."""
    from turnsmith.data.render import Renderer
    from turnsmith.models.locate import gguf_tokenizer
    from turnsmith.sample import able
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.llamacpp import LlamaCppEngine

    able.refuse(sampling, "gguf", reference)
    file = file_of(reference)
    renderer = Renderer(gguf_tokenizer(file))
    return LocalChat(LlamaCppEngine(file, stop=renderer.stops), renderer, sampling=sampling, system=system)
