"""Several models that write one reply: each reads it behind its own prompt, and their logits become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from turnsmith.models.combination import Mix
from turnsmith.models.heads import Head
from turnsmith.sample.reading import Prompt, read_prompts
from turnsmith.sample.rows import Rows
from turnsmith.types import Sampling

if TYPE_CHECKING:
    from turnsmith.sample.decoding import Drafter
    from turnsmith.sample.engine import LocalEngine


@dataclass(frozen=True, slots=True)
class Beside:
    """What reads in step with the model of an engine, which leads.

    members: engines of the other models, by name. mix: logits by member to those that are drawn from. heads:
    of the lead's model, whose numbers `mix` is given too.
    """

    members: Mapping[str, LocalEngine]
    mix: Mix
    heads: Mapping[str, Head] = field(default_factory=dict[str, Head])


class Lockstep:
    """Rows of several models that hold the same replies, behind a prompt of each model's own.

    tokens, readers, base, count, capacity: of the lead's rows. ahead: for each row, by how many tokens the
    prompt of each other model is longer than the lead's.
    """

    def __init__(self, lead: Rows, beside: Mapping[str, Rows], of: Beside) -> None:
        self.lead, self.beside, self.of = lead, beside, of
        self.base, self.count, self.capacity = lead.base, lead.count, lead.capacity
        self.ahead: list[tuple[int, ...]] = [()] * lead.count

    @property
    def tokens(self) -> list[list[int]]:
        return self.lead.tokens

    @property
    def readers(self) -> list[str]:
        return self.lead.readers

    def read(self, rows: Sequence[int], news: Sequence[Sequence[int]], *, keep: int = 1) -> Tensor:
        """Read on in all models; gives the logits (B, keep, V) that they make together."""
        others = {name: one.read(rows, news, keep=keep) for name, one in self.beside.items()}
        return self.mixed(self.lead.read(rows, news, keep=keep), others)

    def mixed(self, lead: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """The logits (..., V) of all models as one. lead: (..., V + h), with what its heads say behind."""
        sizes = [head.out_features for head in self.lead.heads.values()]
        logits, *said = lead.split([lead.shape[-1] - sum(sizes), *sizes], -1)
        named = zip(self.lead.heads, said, strict=True)
        return self.of.mix(logits, others, {name: numbers.squeeze(-1) for name, numbers in named})

    def begin(self, row: int, reader: str) -> None:
        """An empty row in all models, to be read by `reader`."""
        for rows in (self.lead, *self.beside.values()):
            rows.begin(row, reader)
        self.ahead[row] = (0,) * len(self.beside)

    def copy(self, row: int, source: Lockstep, origin: int, length: int) -> None:
        """Make the first `length` tokens of another row those of `row`; of the other models as many more as
        their prompts are longer."""
        self.lead.copy(row, source.lead, origin, length)
        for (name, one), more in zip(self.beside.items(), source.ahead[origin], strict=True):
            one.copy(row, source.beside[name], origin, length + more)
        self.ahead[row] = source.ahead[origin]

    def cut(self, row: int, length: int) -> None:
        """Forget all but the first `length` tokens of a row, which the prompt is among."""
        self.lead.cut(row, length)
        for one, more in zip(self.beside.values(), self.ahead[row], strict=True):
            one.cut(row, length + more)

    def swap(self, one: int, other: int) -> None:
        """Exchange two rows."""
        for rows in (self.lead, *self.beside.values()):
            rows.swap(one, other)
        self.ahead[one], self.ahead[other] = self.ahead[other], self.ahead[one]


def read_in_step(rows: Lockstep, prompts: Sequence[Prompt], first: int, known: Sequence[Lockstep]) -> Tensor:
    """Make `prompts` the rows from `first` on in all models; gives the logits (P, V) after each."""
    others: dict[str, Tensor] = {}
    for place, (name, one) in enumerate(rows.beside.items()):
        own = [Prompt(prompt.reader, prompt.beside[place]) for prompt in prompts]
        others[name] = read_prompts(one, own, first, [earlier.beside[name] for earlier in known])
    lead = read_prompts(rows.lead, prompts, first, [earlier.lead for earlier in known])
    for row, prompt in enumerate(prompts, start=first):
        rows.ahead[row] = tuple(len(ids) - len(prompt.ids) for ids in prompt.beside)
    return rows.mixed(lead, others)


class DraftMember:
    """Guesses by one of the models in step, on what that model itself reads.

    member: its name, or None for the lead. drafter: that does it.
    """

    def __init__(self, drafter: Drafter, member: str | None) -> None:
        self.drafter, self.member = drafter, member

    def guess(
        self,
        rows: Lockstep,
        news: Sequence[int],
        uniforms: Sequence[NDArray[np.float32]],
        samplings: Sequence[Sampling],
    ) -> list[list[int]]:
        """Its guesses, up to the first id that the lead does not know."""
        own = rows.lead if self.member is None else rows.beside[self.member]
        head: Any = rows.base.get_output_embeddings()
        known = len(head.weight)
        guesses = self.drafter.guess(own, news, uniforms, samplings)
        return [ids[: next((i for i, id in enumerate(ids) if id >= known), len(ids))] for ids in guesses]

    def swap(self, one: int, other: int) -> None:
        """Two rows have changed places."""
        self.drafter.swap(one, other)
