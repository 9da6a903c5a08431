"""Attention over a forest of segments: which tokens of one flat row see which, and which models can have it.

A row of T tokens is cut into S segments. A segment may continue another one, its parent: its positions go on
where the parent's end, and its tokens see themselves causally and their ancestors fully, nothing else. A chat
is a root; k replies to one prompt are a root with k children: the prompt is computed once, in both passes.

After `attach(model)` the call is `model(input_ids, position_ids=..., forest=forest, use_cache=False)`, with
`input_ids` and `position_ids` (1, T) and no attention mask: padding would be a root of its own. Without
`forest` the model is what it is under `sdpa`: padded batches, KV caches and `generate` go on working.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from turnsmith.errors import ModelError
from turnsmith.models.attention import attend, attend_by_mask, sight
from turnsmith.models.bare import bare

NAME = "turnsmith"  # what the attention function is called in transformers' AttentionInterface
_LAYERS = {"full_attention", "sliding_attention"}  # of the layer types in transformers' configs
# What some attention layers ask for beyond scaled_dot_product_attention, as their arguments are called.
_BEYOND = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices", "cache")


@dataclass(frozen=True, slots=True)
class Forest:
    """How a row of T tokens is cut into S segments, and which segment continues which.

    bounds: S + 1 offsets, from 0 up to T; segment s is bounds[s]:bounds[s + 1] and is not empty.
    parent: S, each an earlier segment, or -1 for a root.
    forgets: empty, or S, of each segment the share of earlier tokens that each of its tokens does not see,
    and the seed of the draw, or None; a segment that forgets is a root without children.
    Raises ValueError where the two do not describe a forest.

    >>> Forest(bounds=(0, 3, 5, 6), parent=(-1, 0, 0)).positions()
    [0, 1, 2, 3, 4, 3]
    """

    bounds: tuple[int, ...]
    parent: tuple[int, ...]
    forgets: tuple[tuple[float, int] | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.parent or len(self.bounds) != len(self.parent) + 1:
            raise ValueError(f"{len(self.parent)} segments need one bound more, not {len(self.bounds)}.")
        if self.bounds[0] != 0 or any(start >= end for start, end in pairwise(self.bounds)):
            raise ValueError(f"bounds {self.bounds} do not rise from 0: no segment may be empty.")
        for segment, parent in enumerate(self.parent):
            if not -1 <= parent < segment:
                raise ValueError(f"segment {segment} has parent {parent}: give an earlier segment, or -1.")
        if self.forgets and (len(self.forgets) != len(self.parent) or max(self.parent) >= 0):
            raise ValueError("a forest that forgets says so for each segment, and all of these are roots.")

    def positions(self) -> list[int]:
        """The position of each of the T tokens on its path, counted from 0 at the root."""
        ends: list[int] = []  # S, how many tokens a path has at the end of each segment
        result: list[int] = []
        for (start, end), parent in zip(pairwise(self.bounds), self.parent, strict=True):
            first = 0 if parent < 0 else ends[parent]
            ends.append(first + end - start)
            result.extend(range(first, ends[-1]))
        return result

    def families(self) -> list[tuple[int, int]]:
        """For each segment a number, and where the numbers of its descendants, which follow its own, end.

        >>> Forest(bounds=(0, 3, 5, 6), parent=(-1, 0, 0)).families()
        [(0, 3), (1, 2), (2, 3)]
        """
        sizes = [1] * len(self.parent)
        for segment in reversed(range(len(self.parent))):
            if (parent := self.parent[segment]) >= 0:
                sizes[parent] += sizes[segment]
        result: list[tuple[int, int]] = []
        free = [0] * (len(self.parent) + 1)  # the next number within each segment; the last one of the roots
        for segment, parent in enumerate(self.parent):
            number = free[parent]
            free[parent] += sizes[segment]
            free[segment] = number + 1
            result.append((number, number + sizes[segment]))
        return result

    def ancestors(self, segment: int) -> list[int]:
        """The segments that `segment` continues, root first, without itself."""
        path: list[int] = []
        while (segment := self.parent[segment]) >= 0:
            path.append(segment)
        return path[::-1]


def attach(model: nn.Module) -> None:
    """Lets `model`, bare or wrapped by peft, be called with `forest=`; else ModelError with `refusal`."""
    whole = bare(model)
    if (reason := refusal(model)) or not isinstance(whole, PreTrainedModel):
        raise ModelError(f"{reason} Use plain padded rows for it.")
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    whole.set_attn_implementation(NAME)


def refusal(model: nn.Module) -> str | None:
    """Why `model` cannot run a forest, as a sentence, or None if it can; judged from config and modules."""
    whole = bare(model)
    if not isinstance(whole, PreTrainedModel):
        return f"{type(whole).__name__} is no transformers model, so its attention cannot be set."
    return next((f"{type(whole).__name__} {obstacle}." for obstacle in _obstacles(whole)), None)


def _obstacles(model: PreTrainedModel) -> Iterator[str]:
    config = model.config.get_text_config(decoder=True)
    layers = set(getattr(config, "layer_types", None) or _LAYERS)
    modules = dict(model.get_decoder().named_modules())
    if model.config.is_encoder_decoder:
        yield "is an encoder-decoder: its replies do not stand behind their prompts in one row"
    if strange := sorted(layers - _LAYERS):
        yield f"has layers of type {', '.join(strange)}, which do not keep to one path of a forest"
    if model._is_stateful or any(isinstance(module, (nn.RNNBase, nn.Conv1d)) for module in modules.values()):
        yield "is recurrent or convolutional: its layers mix neighbours in a row, related or not"
    if not model._can_set_attn_implementation():
        yield "does not take its attention from transformers' attention interface"
    if not model._supports_sdpa or getattr(config, "attn_logit_softcapping", None):
        yield "has attention that sdpa cannot compute (capped logits, sinks or the like)"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        yield "takes no position_ids, so a segment could not continue its parent's positions"
    attentions = [name for name, module in modules.items() if hasattr(module, "is_causal")]
    if not attentions or not all(modules[name].is_causal for name in attentions):
        yield "has no causal attention layers, or some that are not causal"
    window = "sliding_attention" in layers and getattr(config, "sliding_window", None)
    if window and not all("sliding_window" in _source(modules[name]) for name in attentions):
        yield "puts its sliding window into masks only, which a forest does not use"
    for key, module in modules.items():
        above = not key or any(f"{name}.".startswith(f"{key}.") for name in attentions)
        # Twice: where a forward takes unknown arguments, and where it hands them on.
        if above and not isinstance(module, nn.ModuleList) and _source(module).count("**kwargs") < 2:
            yield f"has a {type(module).__name__} that does not hand a forest on to its attention"


def _source(module: nn.Module) -> str:
    return inspect.getsource(inspect.unwrap(type(module).forward))


def _attention(
    module: nn.Module,
    query: Tensor,  # (B, heads, T, D)
    key: Tensor,  # (B, key heads, T, D)
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    forest: Forest | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: its own sdpa function, or attention over a forest. Gives (B, T, heads, D)."""
    if forest is None:
        options |= {"dropout": dropout, "scaling": scaling, "is_causal": is_causal}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    kind, beyond = type(module).__name__, [name for name in _BEYOND if options.get(name) is not None]
    if query.shape[0] != 1 or not query.shape[2] == key.shape[2] == forest.bounds[-1]:
        raise ValueError(
            f"{kind} got {query.shape[0]} rows of {query.shape[2]} queries and {key.shape[2]} keys for a"
            f" forest of {forest.bounds[-1]} tokens: give one row, without a KV cache (use_cache=False)."
        )
    if beyond or not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise ValueError(f"{kind} asks for {', '.join(beyond) or 'no causal order'}: no forest can give it.")
    # The mask is left aside: transformers guessed it from the positions, for a row of unrelated roots.
    if not dropout and query.device.type in ("cpu", "cuda"):
        run = attend_by_mask if query.is_cuda else attend
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        return run(query, key, value, forest, scale=scale, window=sliding_window), None
    settings = {"dropout_p": dropout, "scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    return _over_segments(query, key, value, forest, sliding_window, settings), None


_sight = lru_cache(maxsize=4)(sight)  # once for all layers of a row, those with a window and those without


def _over_segments(
    query: Tensor, key: Tensor, value: Tensor, forest: Forest, window: int | None, settings: dict[str, Any]
) -> Tensor:
    lengths = [end - start for start, end in pairwise(forest.bounds)]
    places = torch.arange(forest.bounds[-1], device=query.device).split(lengths)
    sees = _sight(forest, window, query.device)
    # One split each, because the backward of every slice would write a whole row of zeros.
    queries, keys, values = (states.split(lengths, dim=2) for states in (query, key, value))
    outputs: list[Tensor] = []
    for segment, length in enumerate(lengths):
        path = [*forest.ancestors(segment), segment]
        total = sum(lengths[each] for each in path)
        plain = total == length and (window is None or length <= window) and not forest.forgets
        seen = None if plain else sees(places[segment][:, None], torch.cat([places[each] for each in path]))
        output = scaled_dot_product_attention(
            queries[segment],
            torch.cat([keys[each] for each in path], dim=2),
            torch.cat([values[each] for each in path], dim=2),
            attn_mask=seen,  # is_causal would align queries and keys at their first tokens, not at their last
            is_causal=plain,
            **settings,
        )
        outputs.append(output.transpose(1, 2))
    return torch.cat(outputs, dim=1)
