"""Tiny models of the families that layouts are held to, and arithmetic fine enough to compare them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCABULARY = 61
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,  # peaked attention, so that a token too many or too few is seen
    "pad_token_id": 0,
}
WINDOW: dict[str, Any] = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = ("llama", "qwen3", "gemma3", "mixtral", "gpt2")


def family(name: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """The untouched tiny model of a family: the same weights each time, in training mode, without dropout."""
    kind, config = _classes(name)
    config._attn_implementation = "sdpa"
    config._experts_implementation = "eager"  # the default, grouped_mm, has no float64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: PreTrainedModel = kind(config).to(dtype).train()
    return made


def _classes(name: str) -> tuple[Any, Any]:
    import transformers as hf

    sizes = copy.deepcopy(SIZES)
    if name == "llama":
        return hf.LlamaForCausalLM, hf.LlamaConfig(**sizes)
    if name == "qwen3":
        return hf.Qwen3ForCausalLM, hf.Qwen3Config(**sizes)
    if name == "gemma3":
        return hf.Gemma3ForCausalLM, hf.Gemma3TextConfig(**sizes, **copy.deepcopy(WINDOW))
    if name == "mixtral":
        return hf.MixtralForCausalLM, hf.MixtralConfig(**sizes, num_local_experts=4)
    if name == "gpt2":
        shape = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
        off: dict[str, Any] = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
        return hf.GPT2LMHeadModel, hf.GPT2Config(**shape, **off)
    raise ValueError(f"no family {name!r}; there is {', '.join(FAMILIES)}")


class Double(TorchFunctionMode):
    """Lifts transformers' float32 islands (norms, routers), which round gradients of float64 to 1e-7."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        casts = func is Tensor.float or (func is Tensor.to and torch.float32 in args)
        if casts and args[0].dtype is torch.float64:
            return args[0]
        if func is Tensor.matmul and args[0].dtype != args[1].dtype:  # positions times frequencies
            args = (args[0].double(), args[1].double())
        return func(*args, **(kwargs or {}))


# For `recompute`: the mode is not on where a backward recomputes; without float64 it does nothing.
CONTEXTS: dict[str, Any] = {"context_fn": lambda: (nullcontext(), Double())}


def gradients(model: nn.Module) -> Tensor:
    """All gradients in float64, one behind the other, in the order of the parameters that learn."""
    learn = {name: p for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, p in learn.items() if p.grad is None]
    assert not missing, f"{missing} learn and have no gradient"
    return torch.cat([p.grad.flatten().double() for p in learn.values() if p.grad is not None])
