"""The frozen lowest blocks of a model: how many they are, what they give, and calls of the model without
them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from turnsmith.models.score import to

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from turnsmith.models.score import Scoring
    from turnsmith.types import Batch


def blocks(model: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """The model's stack of blocks and its name; None where it has none."""
    stacks = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 1]
    paths = tuple(f"{name}." for name, _ in stacks)
    # Experts are stacks within blocks, and there may be more of them.
    stacks = [(name, m) for name, m in stacks if not name.startswith(paths)]
    return max(stacks, key=lambda named: len(named[1]), default=None)


def depth(model: PreTrainedModel) -> int:
    """How many of the lowest blocks hold nothing that learns; 0 where the embeddings learn.

    An output projection that is tied to the embeddings and learns is such a case.
    """
    found = blocks(model)
    embeddings = model.get_input_embeddings()
    if found is None or any(p.requires_grad for p in embeddings.parameters()):
        return 0
    stack = found[1]
    learn = (number for number, block in enumerate(stack) if any(p.requires_grad for p in block.parameters()))
    return next(learn, len(stack))


class Lower:
    """The lowest `depth` blocks of the model of `scoring`: what they give, and calls without them."""

    def __init__(self, scoring: Scoring, depth: int) -> None:
        found = blocks(scoring.base)
        if found is None or not 0 < depth <= len(found[1]):
            raise ValueError(f"the model has no {depth} lowest blocks")
        self.scoring = scoring
        stack = list(found[1])
        self.below, self.above = stack[:depth], stack[depth:]

    @property
    def share(self) -> str:
        """How many of how many blocks they are, for people."""
        return f"{len(self.below)} of {len(self.below) + len(self.above)}"

    def refusal(self, batch: Batch) -> str | None:
        """Why what the blocks give for `batch` may not be used again, or None; tried as in training."""
        if any(_first(block) != "hidden_states" for block in (*self.below, *self.above)):
            return "its blocks do not take hidden states first"
        self.scoring.train()
        before = _generators(self.scoring.device)
        with torch.enable_grad():
            states = self._given(batch)
        drawn = any(
            not torch.equal(*pair) for pair in zip(before, _generators(self.scoring.device), strict=True)
        )
        self.scoring.eval()
        if not isinstance(states, Tensor) or states.shape[:2] != batch.inputs.shape:
            return "its blocks give more than hidden states"
        if states.requires_grad:
            return "something below them learns"
        return "they draw random numbers in training, as dropout does" if drawn else None

    @torch.no_grad()
    def states(self, batch: Batch) -> Tensor:
        """(B, T, H): what the topmost of the blocks gives, without dropout; nothing above it runs."""
        self.scoring.eval()
        return self._given(batch)

    def _given(self, batch: Batch) -> Any:
        kept: list[Any] = []
        hook = self.below[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            with self.scoring.arithmetic(), _instead(self.above, _pass):
                self.scoring.hidden(to(batch, self.scoring.device))
        finally:
            hook.remove()
        return kept[0]

    @contextmanager
    def replaced(self, states: Tensor) -> Iterator[None]:
        """While this is open, the blocks do not run: what comes out of the topmost are `states` (B, T, H)."""
        with _instead(self.below[:-1], _pass), _instead(self.below[-1:], lambda *inputs, **options: states):
            yield


def _pass(hidden_states: Tensor, *inputs: Any, **options: Any) -> Tensor:
    return hidden_states


@contextmanager
def _instead(modules: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Lets `forward` run in place of that of each module, and puts theirs back."""
    own = [vars(module).get("forward") for module in modules]  # most have their class's alone
    try:
        for module in modules:
            module.forward = forward
        yield
    finally:
        for module, before in zip(modules, own, strict=True):
            if before is None:
                del module.forward
            else:
                module.forward = before


def _first(block: nn.Module) -> str:
    return next(iter(inspect.signature(block.forward).parameters))


def _generators(device: torch.device) -> list[Tensor]:
    """The states of the generators that layers on this device draw from."""
    found = [torch.get_rng_state()]
    if device.type != "cpu":
        found.append(torch.get_device_module(device).get_rng_state())
    return found
