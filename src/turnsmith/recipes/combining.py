"""Combinations of models: what a `combine` step does, and a combination that can be asked and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from turnsmith.data.batch import in_step
from turnsmith.data.render import Renderer
from turnsmith.models import combination, heads, load
from turnsmith.models.combination import Combination, Member
from turnsmith.models.together import Together
from turnsmith.recipes.rendering import renderer_of
from turnsmith.sample.drafts import DraftModel
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.float16 import Weights
from turnsmith.sample.lockstep import Beside, DraftMember
from turnsmith.train.place import Dtype, device

if TYPE_CHECKING:
    from turnsmith.data.batch import Layout
    from turnsmith.models.score import Scoring
    from turnsmith.recipes.run import Trained
    from turnsmith.recipes.schema import Combine
    from turnsmith.registry import Registry


def described(step: Combine, members: Mapping[str, Trained], registry: Registry) -> Combination:
    """The combination that the step asks for."""
    entry = registry.entry("decoder", step.decoder.name)
    return Combination(
        step.decoder.name,
        entry.version,
        registry.options("decoder", step.decoder.name, step.decoder.options),
        {name: _member(members[name]) for name in entry.names("members")},
        entry.names("heads"),
        step.draft,
    )


def _member(model: Trained) -> Member:
    """Its reference, which is a path from the root where it is one."""
    place = Path(model.reference).expanduser()
    return Member(str(place.resolve() if place.exists() else model.reference), model.fingerprint)


def make(wanted: Combination, registry: Registry, directory: Path) -> dict[str, Any]:
    """Carry a `combine` step out; gives what its record says."""
    registry.function("decoder", wanted.decoder)  # one of a user's own file is known from here on
    started = time.perf_counter()
    combination.write(wanted, directory / "model")
    return {
        "kind": "model",
        "decoder": wanted.decoder,
        "options": wanted.options,
        "members": {name: member.reference for name, member in wanted.members.items()},
        "draft": wanted.draft,
        "seconds": time.perf_counter() - started,
    }


class Combined:
    """A combination whose models are loaded. models: by name, the one that leads first."""

    def __init__(self, reference: str, dtype: Dtype) -> None:
        self.of = combination.read(reference)
        self.mix = combination.mixing(self.of)
        self.models: dict[str, nn.Module] = {}
        renderers: dict[str, Renderer] = {}
        for name, member in self.of.members.items():
            loaded, words = load.load(member.reference, dtype=dtype, device=device())
            whole: Any = loaded
            self.models[name] = whole.to(getattr(torch, dtype)).eval()
            renderers[name] = renderer_of(member.reference, words)
        lead = renderers.pop(self.of.lead)
        self.renderer = Renderer(lead.tokenizer, beside=renderers)
        found = heads.projections(self.of.members[self.of.lead].reference, self.of.heads)
        self.heads = {name: head.to(device()) for name, head in found.items()}

    def engine(self, *, kept: int = 0, weights: Weights = "exact", draft: bool = True) -> LocalEngine:
        """Draws tokens by what all models say. kept, weights: of each, as of an engine. draft: whether the
        member that guesses ahead does, where there is one."""
        own, others = self.of.lead, dict(self.models)
        lead = others.pop(own)
        stop = self.renderer.stops
        members = {name: LocalEngine(model, stop=stop, weights=weights) for name, model in others.items()}
        drafter = None
        if draft and self.of.draft is not None:
            guesses: Any = self.models[self.of.draft]
            drafter = DraftMember(DraftModel(guesses), None if self.of.draft == own else self.of.draft)
        beside = Beside(members, self.mix, self.heads)
        return LocalEngine(lead, stop=stop, kept=kept, weights=weights, drafter=drafter, beside=beside)

    def scoring(self, scoring: Callable[[nn.Module], Scoring]) -> Together:
        """Scores by what all models say. scoring: of one."""
        return Together({name: scoring(model) for name, model in self.models.items()}, self.mix, self.heads)

    def layout(self, layout: Layout) -> Layout:
        """How examples are laid out for all models. layout: of one model's form."""
        return in_step(layout, list(self.renderer.beside))
