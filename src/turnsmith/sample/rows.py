"""Rows of tokens that a model has read: their keys and values in memory taken once, and reading on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from turnsmith.models.heads import Head
    from turnsmith.sample.lean import Lean

BASE = "__base__"  # peft's name for no adapter, where rows have several
FULL, SLIDING = "full_attention", "sliding_attention"  # of the layer types in transformers' configs


@dataclass
class _At:
    """Where the next forward pass writes and reads. slots: (B * S,) places for its keys and values. rows,
    used: the rows and columns that its queries look at."""

    slots: Tensor
    rows: slice | list[int]
    used: int


class Layer(CacheLayerMixin):
    """Keys and values of one layer, (R * C + 1, heads, D) each: C columns for each of R rows, and a last
    place for what nobody reads. dtype: what they are kept in, or None for what they come in."""

    def __init__(self, rows: Rows, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.of, self.kept = rows, dtype
        self.whole: list[Tensor] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the memory. It is set to 0: what is masked out is multiplied by 0, and 0 times NaN is NaN."""
        places = self.of.count * self.of.capacity + 1
        self.whole = [
            states.new_zeros(places, states.shape[1], states.shape[3], dtype=self.kept or states.dtype)
            for states in (key_states, value_states)
        ]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **options: object
    ) -> tuple[Tensor, Tensor]:
        """Write (B, heads, S, D) each; gives all that the B rows have, (B, heads, used, D)."""
        return self.write(key_states.transpose(1, 2), value_states.transpose(1, 2))

    def write(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same from (B, S, heads, D) each."""
        if not self.is_initialized:
            self.lazy_initialization(keys.transpose(1, 2), values.transpose(1, 2))
        at = self.of.at
        for whole, states in zip(self.whole, (keys, values), strict=True):
            whole.index_copy_(0, at.slots, states.flatten(0, 1).to(whole.dtype))
        held_keys, held_values = (table[at.rows, : at.used].transpose(1, 2) for table in self.tables())
        return held_keys, held_values

    def tables(self) -> list[Tensor]:
        """(R, C, heads, D) each."""
        shape = (self.of.count, self.of.capacity)
        return [whole[:-1].view(*shape, *whole.shape[1:]) for whole in self.whole]

    def get_seq_length(self) -> int:
        """Not asked for where positions and mask are given, as they are here."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The same."""
        return query_length, 0

    def get_max_length(self) -> int:
        """Columns of a row."""
        return self.of.capacity


class Rows:
    """`count` rows of at most `capacity` tokens that `base` has read.

    tokens: of each row, the ids that its columns hold. readers: by which adapter of `whole`, the peft model
    around the base, they were read, or BASE; where all are "", by what is active. dtype: of keys and values,
    or None for what comes. lean: does what the base does, if it is set. heads: what they make of the states
    that logits come from stands behind these.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        count: int,
        capacity: int,
        *,
        whole: nn.Module | None = None,
        dtype: torch.dtype | None = None,
        heads: Mapping[str, Head] | None = None,
    ) -> None:
        self.base, self.count, self.capacity = base, count, capacity
        self.heads = heads or {}
        self.lean: Lean | None = None
        self.whole = whole or base
        self.device = base.device
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.readers = [""] * count
        self.windows = _windows(base.config.get_text_config(decoder=True))
        number = base.config.get_text_config(decoder=True).num_hidden_layers
        self.layers = [Layer(self, dtype) for _ in range(number)]
        self.cache = Cache(layers=self.layers)  # pyright: ignore[reportArgumentType] - a list is invariant
        self.at = _At(torch.empty(0), slice(0), 0)

    def read(self, rows: Sequence[int], news: Sequence[Sequence[int]], *, keep: int = 1) -> Tensor:
        """Read on: `news` are ids behind what each of the rows holds, at least `keep` for each.

        Gives the logits (B, keep, V) after the last `keep` of each, and behind them what the heads say.
        """
        starts = [len(self.tokens[row]) for row in rows]
        longest = max(map(len, news))
        device = self.device
        # On the left they are filled up, so that all of them end in one column.
        ids = torch.tensor([[0] * (longest - len(new)) + list(new) for new in news], device=device)
        blank = torch.tensor([longest - len(new) for new in news], device=device)[:, None]
        steps = torch.arange(longest, device=device) - blank  # (B, S), below 0 in what was filled up
        positions = torch.tensor(starts, device=device)[:, None] + steps
        home = torch.tensor(rows, device=device)[:, None] * self.capacity
        slots = torch.where(steps < 0, self.count * self.capacity, home + positions)
        positions = torch.where(steps < 0, 0, positions)
        used = max(start + len(new) for start, new in zip(starts, news, strict=True))
        self.at = _At(slots.flatten(), _run(rows), used)
        named = [self.readers[row] for row in rows]
        several = {"adapter_names": named} if any(named) else {}
        mask = self._mask(positions, used)
        for row, new in zip(rows, news, strict=True):
            self.tokens[row].extend(new)
        if self.lean is not None:
            return self.lean(ids, positions, mask, self.layers, keep)
        with self._listening() as states:
            output = (self.whole if several else self.base)(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=keep,
                **several,
            )
        logits: Tensor = output.logits[:, -keep:]
        if not self.heads:
            return logits
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([logits, *(head(states[-1].float()) for head in self.heads.values())], -1)

    @contextmanager
    def _listening(self) -> Iterator[list[Tensor]]:
        """The states (B, keep, H) that logits are made of within, where there are heads."""
        states: list[Tensor] = []
        if not self.heads:
            yield states
            return
        projection: Any = self.base.get_output_embeddings()
        hook = projection.register_forward_pre_hook(lambda _, given: states.append(given[0]))
        try:
            yield states
        finally:
            hook.remove()

    def _mask(self, positions: Tensor, used: int) -> Tensor | Mapping[str, Tensor]:
        """What may be seen, 0 or -inf, (B, 1, S, used): of each kind of layer where there are several."""
        behind = positions[:, :, None] - torch.arange(used, device=self.device)
        masks = {
            kind: torch.zeros((), dtype=self.base.dtype, device=self.device).where(
                (behind >= 0) & (behind < (window or used)), -torch.inf
            )[:, None]
            for kind, window in self.windows.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def begin(self, row: int, reader: str) -> None:
        """An empty row, to be read by `reader`."""
        self.tokens[row], self.readers[row] = [], reader

    def cut(self, row: int, length: int) -> None:
        """Forget all but the first `length` tokens of a row."""
        del self.tokens[row][length:]

    def swap(self, one: int, other: int) -> None:
        """Exchange two rows."""
        if one == other:
            return
        used = max(len(self.tokens[one]), len(self.tokens[other]))
        for layer in self.layers:
            for table in layer.tables() if layer.is_initialized else ():
                kept = table[one, :used].clone()
                table[one, :used] = table[other, :used]
                table[other, :used] = kept
        self.tokens[one], self.tokens[other] = self.tokens[other], self.tokens[one]
        self.readers[one], self.readers[other] = self.readers[other], self.readers[one]

    def copy(self, row: int, source: Rows, origin: int, length: int) -> None:
        """Make the first `length` tokens of another row, of these or of others, those of `row`."""
        for layer, given in zip(self.layers, source.layers, strict=True):
            if not given.is_initialized:  # in a model that looks back at nothing
                continue
            if not layer.is_initialized:  # only where all of it comes from elsewhere
                layer.lazy_initialization(*(table[:1, :1].transpose(1, 2) for table in given.tables()))
            for table, other in zip(layer.tables(), given.tables(), strict=True):
                table[row, :length] = other[origin, :length]
        self.tokens[row], self.readers[row] = source.tokens[origin][:length], source.readers[origin]


def _run(rows: Sequence[int]) -> slice | list[int]:
    """Rows as a slice where they follow each other, which is read without a copy."""
    first, last = rows[0], rows[-1]
    return slice(first, last + 1) if list(rows) == list(range(first, last + 1)) else list(rows)


def _windows(config: PretrainedConfig) -> dict[str, int | None]:
    """The window of each kind of layer that the model has, None where it sees all."""
    window: int | None = getattr(config, "sliding_window", None) or getattr(config, "window_size", None)
    kinds = list(dict.fromkeys(getattr(config, "layer_types", None) or (SLIDING if window else FULL,)))
    return {kind: window if kind == SLIDING else None for kind in kinds}


# --------------------------------------------------------------------------------- what is known already


class Known:
    """Finds the row that begins as a prompt does, for as many tokens as possible."""

    def __init__(self, tables: Sequence[Rows]) -> None:
        held = [
            (table.readers[row], tuple(tokens), place, row)
            for place, table in enumerate(tables)
            for row, tokens in enumerate(table.tokens)
            if tokens
        ]
        self.tables, self.held = tables, sorted(held)

    def find(self, prompt: Sequence[int], reader: str = "") -> tuple[int, Rows, int] | None:
        """(how many tokens, whose rows, which row) of what `reader` has read; the longest common beginning
        stands beside the place that the prompt would have in the order."""
        wanted = tuple(prompt)
        at = bisect_left(self.held, (reader, wanted))
        near = [
            (common(wanted, tokens), place, row)
            for by, tokens, place, row in self.held[max(0, at - 1) : at + 1]
            if by == reader
        ]
        length, place, row = max(near, default=(0, 0, 0))
        return (length, self.tables[place], row) if length else None


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with together.

    >>> common((1, 2, 3), (1, 2, 4, 5))
    2
    """
    most = min(len(one), len(other))
    return next((i for i in range(most) if one[i] != other[i]), most)
