"""Passes of a model over one micro-batch, and the loss that an objective makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.models.score import Scoring, along_paths, to
from turnsmith.train.method import Method, slope
from turnsmith.types import Batch, Loss, Scores


class Passes:
    """A `Run` over a micro-batch. module: `scoring`, wrapped where there are several processes. reference:
    (N,) log-probs, where they are not with the batch. seed: of what is drawn. alone: passes without gradients
    so far."""

    def __init__(
        self,
        module: nn.Module,
        scoring: Scoring,
        batch: Batch,
        method: Method,
        temperature: float,
        *,
        reference: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        self.module, self.scoring, self.method = module, scoring, method
        self.batch, self.temperature, self.reference = to(batch, scoring.device), temperature, reference
        self.inputs, self.place = self.batch.inputs, self.batch.place
        self.position = self.batch.positions.flatten()[self.place]
        self.seed = seed
        self.alone = 0

    def loss(self) -> Loss:
        """What the objective says of the batch."""
        if self.method.network:
            return self.module(self.batch, ask=lambda model: self._asked(model, self))
        if self.method.forward:
            return self._asked(self)
        return self._asked(self._scores(self.module, self.method.needs))

    def __call__(
        self, embeds: Tensor | None = None, *, needs: Sequence[str] = (), gradients: bool = True
    ) -> Scores:
        self.alone += not gradients
        module = self.module if gradients else self.scoring  # a wrapper waits for the gradients of each pass
        with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
            return self._scores(module, tuple(dict.fromkeys((*self.method.needs, *needs))), embeds)

    @torch.no_grad()
    def table(self, ids: Tensor) -> Tensor:
        return self.scoring.base.get_input_embeddings()(ids)

    def rows(self) -> Tensor:
        flat, path = along_paths(self.batch)
        place = self.batch.positions.flatten()[flat]
        found = self.inputs.new_full((len(self.batch.paths), int(place.max()) + 1), -1)
        found[path, place] = self.inputs.flatten()[flat]
        return found

    def uniform(self, purpose: str, *size: int) -> Tensor:
        keyed = (seeds.tensor(self.seed, purpose, id) for id in self.batch.ids)
        return torch.stack([torch.rand(size, generator=one) for one in keyed]).to(self.inputs.device)

    def _asked(self, *given: object) -> Loss:
        """What the objective makes of this; its metrics without the graph, so that they hold nothing."""
        made = self.method.objective(*given)
        return made._replace(metrics={name: metric.detach() for name, metric in made.metrics.items()})

    def _scores(self, module: nn.Module, needs: Sequence[str], embeds: Tensor | None = None) -> Scores:
        known = self.method.linear and torch.is_grad_enabled()
        scores: Scores = module(
            self.batch,
            temperature=self.temperature,
            reads=self.method.reads,
            needs=needs,
            others=self.method.others,
            expected=slope(self.method, self.batch) if known else None,
            embeds=embeds,
            words=self.method.words,
        )
        return scores if self.reference is None else replace(scores, reference=self.reference)
