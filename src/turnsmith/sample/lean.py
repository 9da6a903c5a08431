"""The forward pass of Llama-shaped models for few tokens at a time on a CPU, with a third of the operations.

What the layers of transformers do in 45 operations, each of which costs as much to start as to carry out
where there are a few rows, is done in 16: queries, keys and values in one product, gate and up in another,
weights packed, norms fused, queries and keys rotated together. The weights are copies, packed by `packed.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from turnsmith.sample.float16 import Weights
from turnsmith.sample.packed import Forward, fits, product, state

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from turnsmith.sample.rows import Layer

MODELS = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
}  # by which the layers below are written


@dataclass(frozen=True, slots=True)
class Block:
    """One layer of the model: its products, norms and sizes."""

    into: Forward  # queries, keys and values
    out: Forward
    up: Forward  # gate and up
    down: Forward
    norms: tuple[Any, Any]
    heads: int
    groups: int  # key heads
    scale: float
    kind: str


class Lean:
    """`base` by its products alone. dtype, weights: see `packed.product`."""

    def __init__(
        self, base: PreTrainedModel, dtype: torch.dtype | None = None, weights: Weights = "exact"
    ) -> None:
        self.base: Any = base
        self.product = partial(product, dtype=dtype, weights=weights)
        self.blocks: list[Block] = []
        self.head: Forward | None = None
        self.of: list[list[tuple[int, ...]]] = []  # the weights that these were made of

    @staticmethod
    def able(base: PreTrainedModel, dtype: torch.dtype | None) -> bool:
        """Whether the model is one of those that this is written for, without adapters, and can be packed."""
        whole: Any = base
        if type(base).__name__ not in MODELS or base.config.hidden_act != "silu":
            return False
        layers = [module for module in base.modules() if isinstance(module, nn.Linear)]
        # What others put into the model would be passed by.
        plain = {type(layer) for layer in layers} == {nn.Linear} and all(
            type(module).__module__.startswith(("torch.", "transformers.")) for module in base.modules()
        )
        return plain and len(layers) == 7 * len(whole.model.layers) + 1 and fits(layers, dtype)

    def __call__(
        self,
        ids: Tensor,
        positions: Tensor,
        mask: Tensor | Mapping[str, Tensor],
        layers: list[Layer],
        keep: int,
    ) -> Tensor:
        """Logits (B, keep, V) after the last of `ids` (B, S), whose keys and values go into `layers`."""
        assert self.head is not None
        model = self.base.model
        states = model.embed_tokens(ids)
        cos, sin = model.rotary_emb(states, position_ids=positions)
        half = cos.shape[-1] // 2
        turn = cos[:, :, None, :half], sin[:, :, None, :half]
        masks = mask if isinstance(mask, Mapping) else {}
        wide: dict[str, Tensor] = {}  # a mask for each of the queries that share a key head
        for block, kept in zip(self.blocks, layers, strict=True):
            if block.kind not in wide:
                one = masks.get(block.kind, mask)
                assert isinstance(one, Tensor)
                wide[block.kind] = one.repeat(1, 1, block.heads // block.groups, 1)
            states = states + _attend(block, _normed(states, block.norms[0]), turn, wide[block.kind], kept)
            gate, up = block.up(_normed(states, block.norms[1])).chunk(2, -1)
            states = states + block.down(F.silu(gate) * up)
        return self.head(_normed(states[:, -keep:], model.norm))

    def watched(self) -> bool:
        """Whether somebody has hooks in the model, or has put something in place of a layer's forward."""
        return any(
            module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
            for module in self.base.modules()
        )

    def refresh(self) -> None:
        """Make the products of those layers anew whose weights have changed."""
        layers = self.base.model.layers
        linear = [*map(_linear, layers), [self.base.lm_head]]
        now = [[state(one) for one in ones] for ones in linear]
        if now == self.of:
            return
        before = self.of or [[] for _ in now]
        kinds = getattr(self.base.config, "layer_types", None) or [""] * len(layers)
        self.blocks = [
            self.blocks[number] if before[number] == now[number] else self._block(layer, kinds[number])
            for number, layer in enumerate(layers)
        ]
        if before[-1] != now[-1]:
            self.head = self.product(self.base.lm_head)
        self.of = now

    def _block(self, layer: Any, kind: str) -> Block:
        query, key, value, out, gate, up, down = _linear(layer)
        return Block(
            self.product(query, key, value),
            self.product(out),
            self.product(gate, up),
            self.product(down),
            (layer.input_layernorm, layer.post_attention_layernorm),
            self.base.config.num_attention_heads,
            self.base.config.num_key_value_heads,
            layer.self_attn.scaling,
            kind,
        )


def _linear(layer: Any) -> list[nn.Linear]:
    attention, feed = layer.self_attn, layer.mlp
    return [
        attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
        feed.gate_proj, feed.up_proj, feed.down_proj,
    ]  # fmt: skip


def _attend(block: Block, states: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor, kept: Layer) -> Tensor:
    """What attention adds to states (B, S, H)."""
    batch, length = states.shape[:2]
    both, groups = block.heads + block.groups, block.groups
    made = block.into(states).view(batch, length, both + groups, -1)
    first, second = made[:, :, :both].chunk(2, -1)
    cos, sin = turn
    turned = torch.cat(
        (torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)), -1
    )
    keys, values = kept.write(turned[:, :, block.heads :], made[:, :, both:])
    # Queries that share a key head stand behind each other, so that keys and values are read as they are.
    queries = turned[:, :, : block.heads].to(keys.dtype)
    queries = queries.view(batch, length, groups, -1, queries.shape[-1]).permute(0, 2, 3, 1, 4).flatten(2, 3)
    found = F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask.to(keys.dtype), scale=block.scale
    )
    found = found.unflatten(2, (-1, length)).permute(0, 3, 1, 2, 4).flatten(2)
    return block.out(found)


def _normed(states: Tensor, norm: Any) -> Tensor:
    return F.rms_norm(states, (states.shape[-1],), norm.weight, norm.variance_epsilon)
