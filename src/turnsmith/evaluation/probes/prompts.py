"""Scenes of boxes laid out for a model, with the places in them that heads are looked for at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from turnsmith.data.batch import pad
from turnsmith.data.containers import Scene
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, ModelError
from turnsmith.models.score import Scoring, to
from turnsmith.models.sites import Place, Sites, record, sites
from turnsmith.types import Batch, Rendered

if TYPE_CHECKING:
    from turnsmith.types import Ints

Position = Literal["last", "label", "earlier"]
POSITIONS: tuple[Position, ...] = ("last", "label", "earlier")
ROWS = 128  # prompts of one batch


class Asked(NamedTuple):
    """A scene, the thing that a model is looked at for as the answer, and an id."""

    scene: Scene
    answer: str
    id: str


class Answers(NamedTuple):
    """What a model says to prompts: (B,) each. right: 1 where the answer is the likeliest of all tokens;
    probability and logit: of the answer."""

    right: Tensor
    probability: Tensor
    logit: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Rows padded on the right. at: (B,) by position, an index into each row: the last token of the prompt,
    the label that is asked for, and where that label stands earlier."""

    batch: Batch
    at: Mapping[Position, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A model to be looked into: how it is run, how it reads, and its places."""

    scoring: Scoring
    renderer: Renderer
    sites: Sites

    @classmethod
    def of(cls, scoring: Scoring, renderer: Renderer, who: str) -> Probe:
        """Raises ModelError, in the name of `who`, where the family has no such places."""
        return cls(scoring, renderer, sites(scoring.base, who))

    def prompts(self, asked: Sequence[Asked]) -> Prompts:
        """The prompts in one batch."""
        return laid_out(asked, self.renderer, self.scoring.device)

    def answers(self, prompts: Prompts) -> Answers:
        """What the model says as it is now, in whatever `edit` is open."""
        scores = self.scoring(prompts.batch, needs=("argmax", "logsumexp"))
        right = (scores.reduced["argmax"] == prompts.batch.targets[prompts.batch.entry]).float()
        return Answers(right, scores.logprobs.exp(), scores.logprobs + scores.reduced["logsumexp"])

    @torch.no_grad()
    def outputs(self, prompts: Prompts) -> tuple[dict[Place, Tensor], Answers]:
        """(B, T, heads, size) of each layer: what all heads give, and what the model says."""
        wanted = [Place("output", layer) for layer in range(len(self.sites.layers))]
        with record(self.sites, wanted) as found:
            said = self.answers(prompts)
        return found, said


def by_batch(asked: Sequence[Asked]) -> Iterator[list[Asked]]:
    """As many prompts at once as are held."""
    return (list(asked[start : start + ROWS]) for start in range(0, len(asked), ROWS))


def laid_out(asked: Sequence[Asked], renderer: Renderer, device: torch.device) -> Prompts:
    """The prompts as a model reads them.

    Raises DataError where a thing or a label is not one token of the model's, or a label that is asked for
    stands in its scene more than once.
    """
    rendered: list[Rendered] = []
    places: list[dict[Position, int]] = []
    for scene, answer, id in asked:
        (tokens,) = renderer.render(scene.said(answer), name=id)
        for thing in (*scene.things, answer):
            _one_token(thing, renderer, id, "thing")
        for label in scene.boxes:
            _one_token(label, renderer, id, "label")
        if tokens.weights[:-1].any() or tokens.inputs[-1] != _one_token(answer, renderer, id, "thing"):
            raise DataError(f"example {id!r}: the answer {answer!r} is no token behind the prompt by itself")
        places.append(_places(scene, tokens.inputs[:-1], renderer, id))
        rendered.append(Rendered(id, {"text": (tokens,)}))
    at: dict[Position, Tensor] = {
        name: torch.tensor([one[name] for one in places], device=device) for name in POSITIONS
    }
    return Prompts(to(pad(rendered), device), at)


def _places(scene: Scene, ids: Ints, renderer: Renderer, id: str) -> dict[Position, int]:
    own, said = (_one_token(one, renderer, id, "label") for one in (scene.boxes[scene.index], scene.asked))
    found = (ids == said).nonzero()[0]
    earlier = (ids == own).nonzero()[0]
    if len(found) != 1 + (own == said) or len(earlier) != 1 + (own == said):
        raise DataError(
            f"example {id!r}: the label {scene.asked!r} stands {len(found)} times in the prompt: it is "
            "needed once in the scene and once in the question"
        )
    return {"last": len(ids) - 1, "label": int(found[-1]), "earlier": int(earlier[0])}


def _one_token(word: str, renderer: Renderer, id: str, what: str) -> int:
    """The id of a word behind a blank."""
    ids: list[int] = renderer.tokenizer.encode(f" {word}", add_special_tokens=False)
    if len(ids) != 1:
        pieces = renderer.tokenizer.convert_ids_to_tokens(ids)
        raise DataError(
            f"example {id!r}: the {what} {word!r} is {len(ids)} tokens of this model's, {pieces}: give the "
            f"stage `containers` {what}s that are one each"
        )
    return ids[0]


def alike(reference: str, found: Probe, probe: Probe, who: str) -> None:
    """Raises ModelError, in the name of `who`, unless the model `found`, of this reference, has as many
    heads of one size in as many layers as the model of `probe`, and the same tokens."""
    shapes = [
        (len(one.sites.layers), one.sites.heads, one.sites.groups, one.sites.size) for one in (found, probe)
    ]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"{who}: {reference} has {_said(shapes[0])}, and the measured model {_said(shapes[1])}: heads "
            "are compared one by one, in models of one shape, such as a base and what was tuned from it"
        )
    if found.renderer.tokenizer.get_vocab() != probe.renderer.tokenizer.get_vocab():
        raise ModelError(
            f"{who}: {reference} has another vocabulary than the measured model: both have to read the same "
            "tokens, as a base and what was tuned from it do"
        )


def _said(shape: tuple[int, int, int, int]) -> str:
    layers, heads, groups, size = shape
    return f"{layers} layers of {heads} heads of size {size} with {groups} groups of keys and values"
