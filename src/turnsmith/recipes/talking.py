"""A model that can be talked to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turnsmith.errors import UsageError
from turnsmith.models.answering import file_of, is_llamacpp, only_answers
from turnsmith.models.endpoint import endpoint, is_endpoint
from turnsmith.types import Sampling

if TYPE_CHECKING:
    from turnsmith.data.render import Renderer
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.drafts import DraftModel, PromptLookup
    from turnsmith.sample.engine import LocalEngine
    from turnsmith.sample.float16 import Weights
    from turnsmith.sample.remote import RemoteChat
    from turnsmith.train.place import Dtype

USUAL = Sampling(temperature=0.7, top_p=0.95, max_new=256)


def chat(
    model: str | Path,
    *,
    sampling: Sampling = USUAL,
    system: str | None = None,
    draft: str | Path | None = None,
    weights: Weights = "exact",
    over: Literal["fail", "oldest"] = "fail",
) -> LocalChat | RemoteChat:
    """The model as a function from conversations to replies, in the arithmetic that is fastest here.

    model: a directory, a shipped name, a hub id, an endpoint, or `llamacpp:FILE.gguf`; a combination of
    models too. sampling: used where
    a call gives none. system: put first where a conversation has no system message. `Talk` remembers a
    conversation with it. draft: what guesses ahead, which changes the time and not the replies: `prompt`, by
    what was said before, or a smaller model with the same tokens. weights: `float16` rounds those of a model
    on a CPU to 11 significant bits, which is faster where they have more, and changes the replies a little.
    over: whether a conversation that is longer than the model's context is a Failure or loses its oldest
    turns.
    """
    if (draft or over != "fail" or weights != "exact") and only_answers(str(model)):
        raise UsageError(
            f"{model} is not loaded here: it takes no draft and no weights, and its server minds the context"
        )
    if is_endpoint(str(model)):
        return remote(str(model), sampling=sampling, system=system)
    if is_llamacpp(str(model)):
        return llamacpp(str(model), sampling=sampling, system=system)
    import torch

    from turnsmith import wheels
    from turnsmith.models import load
    from turnsmith.models.directory import is_combination
    from turnsmith.models.locate import locate
    from turnsmith.recipes.rendering import renderer_of
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.engine import KEPT, LocalEngine
    from turnsmith.train.place import arithmetic, device

    dtype, _ = arithmetic("auto", wheels.home() / "arithmetic.json")
    if is_combination(locate(str(model))):
        engine, renderer = _combined(str(model), draft, dtype, weights)
        return LocalChat(engine, renderer, sampling=sampling, system=system, over=over)
    loaded, tokenizer = load.load(str(model), dtype=dtype, device=device())
    whole: Any = loaded
    renderer = renderer_of(str(model), tokenizer)
    whole.to(getattr(torch, dtype)).eval()  # the adapter too
    drafter = None if draft is None else _drafter(str(draft), dtype)
    # Whoever talks goes on from what was said.
    engine = LocalEngine(whole, stop=renderer.stops, kept=KEPT, drafter=drafter, weights=weights)
    return LocalChat(engine, renderer, sampling=sampling, system=system, over=over)


def _combined(
    reference: str, draft: str | Path | None, dtype: Dtype, weights: Weights
) -> tuple[LocalEngine, Renderer]:
    from turnsmith.recipes.combining import Combined
    from turnsmith.sample.engine import KEPT

    if draft is not None:
        raise UsageError(
            f"{reference} combines models: which of them guesses ahead is said where they are combined"
        )
    found = Combined(reference, dtype)
    return found.engine(kept=KEPT, weights=weights), found.renderer


def _drafter(draft: str, dtype: Dtype) -> PromptLookup | DraftModel:
    import torch

    from turnsmith.models import load
    from turnsmith.sample.drafts import DraftModel, PromptLookup
    from turnsmith.train.place import device

    if draft == "prompt":
        return PromptLookup()
    loaded, _ = load.load(draft, dtype=dtype, device=device())
    whole: Any = loaded
    return DraftModel(whole.to(getattr(torch, dtype)))


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
