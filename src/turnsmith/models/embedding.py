"""A text as one point: the mean of the states that a model has of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith.models.bare import bare

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOGETHER = 4096  # tokens of a forward pass, padding included, where it has several texts


@torch.no_grad()
def embedded(model: nn.Module, texts: Sequence[Sequence[int]], *, adapter: str | None = None) -> Tensor:
    """(len(texts), H) in fp32: of each text, given as ids, the mean of the model's last states over all of
    its tokens, divided by its length, so that products of two are cosines.

    model: a causal language model, an encoder, or a peft model of one, in evaluation. adapter: the one of
    several that reads; None: what is active. The states are those that logits are made of, behind the last
    norm. Source: arXiv:1908.10084 sec. 3 (mean pooling).
    """
    found: dict[int, Tensor] = {}
    for some in _together([len(ids) for ids in texts]):
        means = _means(model, [texts[number] for number in some], adapter)
        found.update(zip(some, F.normalize(means, dim=1).cpu(), strict=True))
    return torch.stack([found[number] for number in range(len(texts))])


def _together(sizes: Sequence[int]) -> list[list[int]]:
    """Numbers of the texts of each pass, the longest first.

    >>> _together([2000, 10, 2001])
    [[2, 0], [1]]
    """
    found: list[list[int]] = []
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        some = found[-1] if found else []
        if some and (len(some) + 1) * sizes[some[0]] <= TOGETHER:
            some.append(number)
        else:
            found.append([number])
    return found


def _means(model: nn.Module, texts: Sequence[Sequence[int]], adapter: str | None) -> Tensor:
    """(B, H) in fp32."""
    base: Any = bare(model)
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=base.device)
    sizes = torch.tensor([len(text) for text in texts], device=base.device)
    mask = torch.arange(longest, device=base.device) < sizes[:, None]
    more: dict[str, Any] = {} if adapter is None else {"adapter_names": [adapter] * len(texts)}
    if base.get_output_embeddings() is not None:
        more |= {"use_cache": False, "logits_to_keep": 1}
    states: list[Tensor] = []
    hook = _body(base).register_forward_hook(lambda *given: states.append(given[2].last_hidden_state))
    try:
        model(input_ids=ids, attention_mask=mask.long(), **more)
    finally:
        hook.remove()
    return (states[0].float() * mask[..., None]).sum(1) / sizes[:, None]


def _body(base: PreTrainedModel) -> nn.Module:
    """What gives the states: an encoder is that itself."""
    return getattr(base, base.base_model_prefix, base)
