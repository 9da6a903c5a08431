"""Scores of several models as one: their logits at the same tokens are combined slab by slab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from turnsmith.errors import ModelError
from turnsmith.models.bare import context
from turnsmith.models.combination import Mix
from turnsmith.models.head import rows
from turnsmith.models.heads import Head, sorted_out
from turnsmith.models.needs import others as others_of
from turnsmith.models.reduce import LOGPROB, Other, reduce
from turnsmith.models.score import Scoring, scores, to
from turnsmith.types import Batch, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Together(nn.Module):
    """Models that speak as one, to be measured as `Scoring` measures one; nothing of it learns.

    members: by name, the one that leads first. mix: their logits to one. heads: of the lead's model, whose
    numbers `mix` is given too.
    """

    def __init__(
        self, members: Mapping[str, Scoring], mix: Mix, heads: Mapping[str, Head] | None = None
    ) -> None:
        super().__init__()
        self.members = nn.ModuleDict(members)
        self.heads = nn.ModuleDict(heads or {})
        self.mix = mix
        self.scorings, self.named = dict(members), dict(heads or {})
        self.lead = next(iter(members))

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model that leads."""
        return self.scorings[self.lead].base

    @property
    def model(self) -> nn.Module:
        """All models."""
        return self.members

    @property
    def device(self) -> torch.device:
        """Where the models are; batches are brought there."""
        return self.scorings[self.lead].device

    @property
    def projection(self) -> Tensor:
        """There is none: a task that asks for it measures single models. Raises ModelError."""
        raise ModelError(
            f"{', '.join(self.scorings)} are measured as one, and together they have no output projection, "
            "which this task needs: measure a single model"
        )

    @torch.no_grad()
    def forward(
        self,
        batch: Batch,
        *,
        temperature: float = 1.0,
        needs: Sequence[str] = (),
        others: Mapping[str, Scoring] | None = None,
    ) -> Scores:
        """Scores of the trained tokens, and reductions `needs` over the combined logits, as `Scoring` has
        them. batch: where members read an example in another form than the lead, these are `beside` it.

        Raises ModelError where a trained token has no probability at all.
        """
        batch = to(_apart(batch), self.device)
        names = sorted_out(needs, {}, others or ()).get("", [])
        beside = {name: (others or {})[name].beside(batch, temperature) for name in others_of(needs)}
        own = self.beside(batch, temperature)
        widths = sum(len(one.projection) for one in self.scorings.values())
        held = max(1, rows(widths) // (1 + len(beside)))
        found = reduce(own.hidden, batch.targets, own.project, (LOGPROB, *names), rows=held, others=beside)
        distinct = found.pop(LOGPROB)
        if not bool(distinct.isfinite().all()):
            raise ModelError(
                f"together, {', '.join(self.scorings)} give a token of one of {', '.join(batch.ids)} no "
                "probability at all: a decoder that leaves tokens out can be asked, and not scored"
            )
        reduced = {name: values[batch.entry] for name, values in found.items()}
        return scores(batch, distinct[batch.entry], reduced=reduced, temperature=temperature)

    @torch.no_grad()
    def beside(self, batch: Batch, temperature: float) -> Other:
        """All models as one that another is compared with: their states side by side, (D, sum of H)."""
        parts = {
            name: one.beside(batch.beside.get(name, batch), temperature=1.0)
            for name, one in self.scorings.items()
        }
        self._hold_together(batch)
        sizes = [part.hidden.shape[1] for part in parts.values()]

        def project(some: Tensor) -> Tensor:
            pieces = zip(parts.items(), some.split(sizes, 1), strict=True)
            states = {name: (part, piece) for (name, part), piece in pieces}
            logits = {name: part.project(piece) for name, (part, piece) in states.items()}
            said = {name: head(states[self.lead][1].float()).squeeze(-1) for name, head in self.named.items()}
            return self.mix(logits.pop(self.lead), logits, said) / temperature

        return Other(torch.cat([part.hidden for part in parts.values()], 1), project)

    def _hold_together(self, batch: Batch) -> None:
        """Raise ModelError where the lead's own tokens are read by a member beyond its context."""
        for name, one in self.scorings.items():
            longest = int(batch.beside.get(name, batch).positions.max()) + 1
            most = context(one.base)
            if most is not None and longest > most:
                among = ", ".join(batch.ids)
                raise ModelError(
                    f"{name} reads {longest:,} tokens of one of {among}, and its context ends at "
                    f"{most:,}: lower the length, or take another member"
                )


def _apart(batch: Batch) -> Batch:
    """The batch with an entry for each trained token of each path, in all forms alike; as it is where all
    members read one form."""
    if not batch.beside:
        return batch
    forms = {"": batch, **batch.beside}
    counts = {name: torch.bincount(one.path, minlength=len(one.paths)) for name, one in forms.items()}
    for name, count in counts.items():
        if count.shape != counts[""].shape or bool((count != counts[""]).any()):
            raise ModelError(
                f"{name} would be scored at other tokens than the model that leads, in one of "
                f"{', '.join(batch.ids)}: their chat templates do not go together"
            )
    made = {name: _by_entry(one) for name, one in forms.items()}
    return replace(made.pop(""), beside=made)


def _by_entry(batch: Batch) -> Batch:
    entry = batch.entry
    every = torch.arange(len(entry), device=entry.device)
    return replace(batch, source=batch.source[entry], targets=batch.targets[entry], entry=every)
