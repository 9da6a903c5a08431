"""Sparse fine-tuning: single weights learn, chosen by how far a first training moved them, or at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from turnsmith.errors import ModelError
from turnsmith.models.load import load, load_patch
from turnsmith.models.lower import blocks
from turnsmith.registry import trainable
from turnsmith.trainables.install import Draw

if TYPE_CHECKING:
    from turnsmith.types import Mask

SELECTED = -1.0  # a size below all others, of entries that learn already


@trainable("matrices", source="arXiv:2110.07560 sec. 3")
class Matrices:
    """All weights that a sparse training may choose from: the matrices of attention and feed-forward layers.

    embeddings: the input embeddings and the output projection too; where they are tied they are one tensor,
    which counts once. l1: the paper's lambda, of the penalty lambda * sum |theta - theta0| / N towards the
    start theta0; N: of all numbers of the model. It is the paper's full phase, and with a sparse one that
    takes all entries the same.
    """

    def __init__(self, *, embeddings: bool = False, l1: float = 0.0) -> None:
        self.embeddings = embeddings
        self.anchor = _Anchor(l1)

    def select(self, model: nn.Module, draw: Draw) -> Mask:
        """Every maskable parameter, whole."""
        return self.anchor.dropped(model, dict.fromkeys(maskable(model, embeddings=self.embeddings), True))

    def penalty(self, model: nn.Module, total: Tensor | None) -> Tensor | None:
        """The L1 distance to the start, times lambda; None where that is 0."""
        return self.anchor.penalty(model)


@trainable("lottery", models=("moved", "beside"), source="arXiv:2110.07560 sec. 3")
class Lottery:
    """The K weights learn that a first training moved the most (LT-SFT); all others stay as they are.

    moved: what the first training made of the same start, e.g. with `matrices`. One threshold over
    |moved - start| holds for all maskable entries together; of equal ones the first in the model's order are
    taken, so that there are exactly K. share: K as a share of the maskable entries, rounded down; budget: K
    itself, in place of the share. embeddings: whether they are maskable too, as in `matrices`.
    beside: the sparse model of an iteration before (n > 1), which is also the start: what it changed goes on
    learning, and K more are chosen. l1: as in `matrices`. The rewind of the paper is that the step starts
    from `start` and not from `moved`.
    """

    def __init__(
        self,
        *,
        moved: str,
        share: float = 0.01,
        budget: int | None = None,
        embeddings: bool = False,
        beside: str | None = None,
        l1: float = 0.0,
    ) -> None:
        self.moved = moved
        self.count = _Count(share, budget)
        self.embeddings = embeddings
        self.beside = beside
        self.anchor = _Anchor(l1)

    def select(self, model: nn.Module, draw: Draw) -> Mask:
        """The K entries, as bool tensors."""
        start = maskable(model, embeddings=self.embeddings)
        sizes = distances(start, _weights(self.moved), self.moved)
        if not any(bool(size.any()) for size in sizes.values()):
            raise ModelError(f"lottery: {self.moved} has the weights of the start: nothing was moved")
        return self.anchor.dropped(model, chosen(sizes, self.count, _before(self.beside, start)))

    def penalty(self, model: nn.Module, total: Tensor | None) -> Tensor | None:
        """The L1 distance to the start, times lambda; None where that is 0."""
        return self.anchor.penalty(model)


@trainable("random_entries", models=("beside",), source="arXiv:2110.07560 sec. 5")
class RandomEntries:
    """K weights learn that are drawn at random, all maskable ones being as likely: what `lottery` is to beat.

    number: of the draw. Trainings of one seed and one number share their entries, which those that are to be
    added should not. share, budget, embeddings, beside, l1: as in `lottery`.
    """

    def __init__(
        self,
        *,
        share: float = 0.01,
        budget: int | None = None,
        number: int = 0,
        embeddings: bool = False,
        beside: str | None = None,
        l1: float = 0.0,
    ) -> None:
        if number < 0:
            raise ModelError(f"random_entries: draws are numbered from 0, not {number}")
        self.count = _Count(share, budget)
        self.number = number
        self.embeddings = embeddings
        self.beside = beside
        self.anchor = _Anchor(l1)

    def select(self, model: nn.Module, draw: Draw) -> Mask:
        """The K entries, as bool tensors."""
        start = maskable(model, embeddings=self.embeddings)
        drawn = [draw.rng.getrandbits(63) for _ in range(self.number + 1)]
        generator = torch.Generator().manual_seed(drawn[-1])
        sizes = {name: torch.rand(p.shape, generator=generator).to(p.device) for name, p in start.items()}
        return self.anchor.dropped(model, chosen(sizes, self.count, _before(self.beside, start)))

    def penalty(self, model: nn.Module, total: Tensor | None) -> Tensor | None:
        """The L1 distance to the start, times lambda; None where that is 0."""
        return self.anchor.penalty(model)


def maskable(model: nn.Module, *, embeddings: bool = False) -> dict[str, nn.Parameter]:
    """The matrices of the model's blocks, and if asked for those of its embeddings, in the model's order.

    A tensor that is tied to another is there once. Raises ModelError where the model has no stack of blocks.
    """
    found = blocks(model)
    if found is None:
        raise ModelError("this model has no stack of blocks, whose matrices a sparse training would take")
    within = f"{found[0]}."
    tables: set[int] = set()
    if embeddings:
        ends = (model.get_input_embeddings(), model.get_output_embeddings())  # pyright: ignore[reportCallIssue]
        tables = {id(end.weight) for end in ends if end is not None}
    return {
        name: p
        for name, p in model.named_parameters()
        if id(p) in tables or (name.startswith(within) and p.ndim > 1)
    }


def distances(start: Mapping[str, Tensor], moved: Mapping[str, Tensor], whose: str) -> dict[str, Tensor]:
    """|moved - start| of each of the start's tensors, in fp32. Raises ModelError where one has no fellow."""
    found: dict[str, Tensor] = {}
    for name, p in start.items():
        there = [*moved[name].shape] if name in moved else "missing"
        if there != [*p.shape]:
            raise ModelError(
                f"lottery: {name} is {[*p.shape]} in the start and {there} in {whose}: moved must have been "
                "trained from the same start"
            )
        found[name] = (moved[name].detach().to(p.device, torch.float32) - p.detach().float()).abs()
    return found


def largest(sizes: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Which `count` entries are the largest of all tensors together, as bool tensors of their shapes.

    Of equal entries the first count, by the order of the tensors and then row by row.
    """
    flat = torch.cat([size.flatten() for size in sizes.values()])
    threshold = flat.kthvalue(len(flat) - count + 1).values
    which = flat > threshold
    tied = (flat == threshold).nonzero()[:, 0]
    which[tied[: count - int(which.sum())]] = True
    parts = which.split([size.numel() for size in sizes.values()])
    return {name: part.view(size.shape) for (name, size), part in zip(sizes.items(), parts, strict=True)}


def chosen(sizes: Mapping[str, Tensor], count: _Count, before: Mapping[str, Tensor]) -> Mask:
    """The entries of `before`, and among all others the largest, as many as `count` says.

    Tensors without any are left out, those with all are taken whole. Raises ModelError where there are not so
    many others.
    """
    whole = sum(size.numel() for size in sizes.values())
    left = whole - sum(int(which.sum()) for which in before.values())
    wanted = count.of(whole, left)
    masked = {n: s.masked_fill(before[n], SELECTED) if n in before else s for n, s in sizes.items()}
    found = {n: which | before[n] if n in before else which for n, which in largest(masked, wanted).items()}
    return {name: True if which.all() else which for name, which in found.items() if which.any()}


class _Count:
    """How many entries are to be chosen: a share of the maskable ones, or a number in its place."""

    def __init__(self, share: float, budget: int | None) -> None:
        if budget is None and not 0 < share <= 1:
            raise ModelError(f"share is a share of the maskable weights, above 0 and up to 1, not {share}")
        if budget is not None and budget < 1:
            raise ModelError(f"budget is a number of weights, at least 1, not {budget}")
        self.share, self.budget = share, budget

    def of(self, whole: int, left: int) -> int:
        """How many of `whole` maskable entries, of which `left` may be chosen."""
        count = int(self.share * whole) if self.budget is None else self.budget
        if not 1 <= count <= left:
            raise ModelError(
                f"{count:,} weights are to be chosen, and {left:,} of the {whole:,} maskable ones are there "
                "to choose from: set share or budget accordingly"
            )
        return count


class _Anchor:
    """What learns, as it was at the start: the L1 penalty draws it back there."""

    def __init__(self, l1: float) -> None:
        if l1 < 0:
            raise ModelError(f"l1 must not be negative, is {l1}")
        self.l1 = l1
        self.start: dict[str, tuple[Tensor | None, Tensor]] = {}

    def dropped(self, model: nn.Module, mask: Mask) -> Mask:
        """The same mask; where there is a penalty, the places and numbers of what it selects are kept."""
        parameters = dict(model.named_parameters())
        for name, which in mask.items() if self.l1 else ():
            if which is False:
                continue
            at = which.flatten().nonzero()[:, 0] if isinstance(which, Tensor) else None
            flat = parameters[name].detach().float().flatten()
            self.start[name] = (at, flat.clone() if at is None else flat[at])
        return mask

    def penalty(self, model: nn.Module) -> Tensor | None:
        """lambda * sum |theta - theta0| / N; what does not learn adds nothing to the sum."""
        if not self.l1:
            return None
        parameters = dict(model.named_parameters())
        found: list[Tensor] = []
        for name, (at, start) in self.start.items():
            flat = parameters[name].flatten()
            found.append(((flat if at is None else flat[at]) - start).abs().sum())
        return self.l1 * torch.stack(found).sum() / sum(p.numel() for p in parameters.values())


def _weights(reference: str) -> dict[str, Tensor]:
    """The weights of a model by name; an adapter is folded into its base."""
    model, _ = load(reference)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    return dict(model.named_parameters())


def _before(reference: str | None, start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which of the start's entries a sparse model changed, as bool tensors; none without a model."""
    found: dict[str, Tensor] = {}
    for name, part in (load_patch(reference) if reference else {}).items():
        if name not in start or part.shape != tuple(start[name].shape):
            raise ModelError(
                f"beside: {reference} changed {name}, which may not learn here: it must be of the same "
                "model, and chosen with the same `embeddings`"
            )
        found[name] = torch.zeros(start[name].shape, dtype=torch.bool, device=start[name].device)
        found[name].view(-1)[part.indices.to(found[name].device)] = True
    return found
