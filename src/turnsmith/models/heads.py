"""Heads: further projections of the states at trained tokens, or of read-outs of a path, which learn with the
model and are saved beside it, and copies that follow them slowly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TypeAlias, get_args

import torch
from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.errors import ModelError
from turnsmith.models import needs
from turnsmith.models.locate import locate
from turnsmith.models.needs import (
    AGAINST,
    HEADS,
    LAYERS,
    OWN,
    TARGET,
    count_of,
    is_own,
    of_kind,
    others,
    read_of,
)
from turnsmith.models.reduce import REDUCTIONS, TAKEN, known, reduce
from turnsmith.types import Read, Size

READS: tuple[Read, ...] = get_args(Read)
# In a directory of its own: all *.safetensors beside config.json count as weights of the model.
FILE = Path("heads", "heads.safetensors")
SIZES = "sizes"  # under which the file says what its heads sit on


class Heads(nn.ModuleDict):
    """Projections of the last hidden states, by name, with weights in fp32.

    sizes: of each, how many numbers it gives, or `vocab` for one for each token; `("mlp", n)` or
    `("mlp", "vocab")` behind a hidden layer of twice the width; `("own", 1)` for one number of each trained
    token's own state, not of the one that predicts it; `("last", 1)` for one of each path's read-out `last`,
    and `("last", "narrow", 1)` behind two layers of a half and a quarter of the width. targets: heads that a
    copy NAME_target follows, and how much of the way to them it goes at each `follow`, from 0 to 1; a copy
    speaks as its head does, and no gradient goes into it or through it.
    seed: of their first weights.
    """

    def __init__(
        self,
        sizes: Mapping[str, Size],
        *,
        hidden: int,
        vocabulary: int,
        targets: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sizes, self.rates = dict(sizes), dict(targets or {})
        self.followers = {name + TARGET: name for name in self.rates}
        for name, size in sizes.items():
            if not name.isidentifier() or name in (*AGAINST, *LAYERS, HEADS):
                raise ModelError(f"head {name!r}: its name must be a plain word, and no reduction's")
            _check(name, size)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds.number(seed, "head", name))
                self[name] = _made(size, hidden, vocabulary)
        for copy, name in self.followers.items():
            if name not in sizes or copy in sizes or not 0 <= self.rates[name] <= 1:
                raise ModelError(
                    f"{copy!r} is to go {self.rates[name]} of the way to the head {name!r}: that has to be "
                    f"one of {', '.join(sizes)}, none of these may be called {copy!r}, and the share is from "
                    "0 to 1"
                )
            self.sizes[copy] = sizes[name]
            self[copy] = deepcopy(self[name]).requires_grad_(False)

    @property
    def reads(self) -> tuple[Read, ...]:
        """The read-outs that some head sits on."""
        wanted = {read_of(size) for size in self.sizes.values()}
        return tuple(read for read in READS if read in wanted)

    @property
    def copies(self) -> dict[str, nn.Parameter]:
        """The parameters of the copies, by their names here."""
        return {
            f"{copy}.{name}": parameter
            for copy in self.followers
            for name, parameter in self[copy].named_parameters()
        }

    @torch.no_grad()
    def follow(self) -> None:
        """Let each copy go its share of the way to its head: copy + rate * (head - copy)."""
        for copy, name in self.followers.items():
            pairs = zip(self[copy].parameters(), self[name].parameters(), strict=True)
            for behind, ahead in pairs:
                behind.lerp_(ahead, self.rates[name])

    def read(
        self, hidden: Tensor, targets: Tensor, needs: Mapping[str, Sequence[str]], *, rows: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the heads on tokens say at D of them, and the reductions `needs` of those over the vocabulary.

        hidden: (D, H). targets: (D,). The first gives (D,) of a head of size 1 and of one over the
        vocabulary, which says what it has for the target, and (D, n) of others; the second (D,) by
        `HEAD:REDUCTION`.
        """
        said: dict[str, Tensor] = {}
        reduced: dict[str, Tensor] = {}
        with torch.autocast(hidden.device.type, enabled=False):
            for name, head in self.items():
                size = self.sizes[name]
                if read_of(size) or is_own(size):
                    continue
                states = self._states(name, hidden)
                if count_of(size) != "vocab":
                    said[name] = head(states).squeeze(1)
                    continue
                found = reduce(states, targets, head, (TAKEN, *needs.get(name, ())), rows=rows)
                said[name] = found.pop(TAKEN)
                reduced |= {f"{name}:{reduction}": values for reduction, values in found.items()}
        return said, reduced

    def on_tokens(self, hidden: Tensor, place: Tensor) -> dict[str, Tensor]:
        """What the heads on trained tokens' own states say: (N,) of a head of size 1, and (N, n) of others.

        hidden: (B * T, H). place: (N,), where the tokens stand; nothing is gathered where no head asks.
        """
        return {
            name: self[name](self._states(name, hidden[place])).squeeze(1)
            for name, size in self.sizes.items()
            if is_own(size)
        }

    def on_paths(self, read: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the heads on read-outs say of P paths: (P,) of a head of size 1, and (P, n) of others.

        read: (P, H) by the name of the read-out, of all `reads`.
        """
        said: dict[str, Tensor] = {}
        for name, size in self.sizes.items():
            if on := read_of(size):
                said[name] = self[name](self._states(name, read[on])).squeeze(1)
        return said

    def _states(self, name: str, states: Tensor) -> Tensor:
        """States as the head `name` takes them; no gradient goes back through a copy."""
        mine = states.to(next(self[name].parameters()).dtype)
        return mine.detach() if name in self.followers else mine


class Deep(nn.Sequential):
    """A projection behind a hidden layer of twice the width of the states."""

    def __init__(self, hidden: int, wide: int) -> None:
        super().__init__(nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, wide))
        self.out_features = wide


class Narrow(nn.Sequential):
    """A projection behind two layers of a half and a quarter of the width of the states.

    Source: James-Yip/QuantiDCE, model/bert_metric.py.
    """

    def __init__(self, hidden: int, wide: int) -> None:
        half, quarter = hidden // 2, hidden // 4
        super().__init__(
            nn.Linear(hidden, half), nn.ELU(), nn.Linear(half, quarter), nn.ELU(), nn.Linear(quarter, wide)
        )
        self.out_features = wide


Head: TypeAlias = nn.Linear | Deep | Narrow


def _made(size: Size, hidden: int, vocabulary: int) -> Head:
    count = count_of(size)
    wide = vocabulary if count == "vocab" else count
    if isinstance(size, tuple) and len(size) == 3:
        return Narrow(hidden, int(wide))
    deep = isinstance(size, tuple) and size[0] == "mlp"
    return Deep(hidden, wide) if deep else nn.Linear(hidden, wide)


def _check(name: str, size: Size) -> None:
    """Raise ModelError where there is no such size."""
    first, *between, count = size if isinstance(size, tuple) else ("mlp", size)
    number = isinstance(count, int) and count > 0
    fits = first in READS if between == ["narrow"] else not between and first in ("mlp", OWN, *READS)
    if not fits or not (number or (count == "vocab" and first == "mlp")):
        raise ModelError(
            f"head {name!r} has the size {size!r}: give a number from 1 or 'vocab', either behind a hidden "
            "layer, as ('mlp', 1), a number of each token's own state, as ('own', 1), or a read-out and a "
            "number, as ('last', 1) or ('mean', 1), or ('first', 'narrow', 1)"
        )


def sorted_out(
    needs: Sequence[str], sizes: Mapping[str, Size], there: Iterable[str] = ()
) -> dict[str, list[str]]:
    """The names of reductions by the head that they are of; `""` is the model's own, also against others.

    A number behind a stroke, from above 0, divides the logits before. there: the names of other models.
    Raises ModelError where a name is no reduction, of no head over the vocabulary, or against a model that is
    not there.

    >>> sorted_out(["entropy", "q1:max/0.5", "kl:teacher"], {"q1": "vocab"}, ["teacher"])
    {'': ['entropy', 'kl:teacher'], 'q1': ['max/0.5']}
    """
    if absent := sorted(set(others(needs)) - set(there)):
        raise ModelError(f"reductions against {', '.join(absent)} are wanted, and no such model is given")
    found: dict[str, list[str]] = {}
    wide = [name for name, size in sizes.items() if count_of(size) == "vocab"]
    for need in needs:
        if others([need]):
            if of_kind([need], *AGAINST):  # the rest is of no vocabulary
                found.setdefault("", []).append(need)
            continue
        head, _, reduction = need.rpartition(":")
        if not known(reduction) or (head and head not in wide):
            named = [*REDUCTIONS, *(f"{name}:{reduction}" for name in wide for reduction in REDUCTIONS)]
            named += [f"{reduction}:MODEL" for reduction in AGAINST]
            raise ModelError(
                f"no reduction over the vocabulary is called {need!r}; there is {', '.join(named)}"
            )
        found.setdefault(head, []).append(reduction)
    return found


def save(heads: Heads, directory: Path) -> None:
    """Write the heads beside the model in `directory`; nothing where there are none."""
    from safetensors.torch import save_file

    if not len(heads):
        return
    file = directory / FILE
    file.parent.mkdir(exist_ok=True)
    values = {name: value.detach().cpu().contiguous() for name, value in heads.state_dict().items()}
    save_file(values, file, metadata={SIZES: json.dumps(heads.sizes)})


def sizes(reference: str) -> dict[str, Size]:
    """The heads that were saved beside a model, and their sizes; none where there is no such file."""
    from safetensors import safe_open

    file = locate(reference) / FILE
    if not file.is_file():
        return {}
    with safe_open(file, "pt") as opened:
        stored = json.loads((opened.metadata() or {}).get(SIZES, "{}"))
    return needs.heads({"heads": stored})


def projections(reference: str, names: Sequence[str]) -> dict[str, Head]:
    """The heads with these names that were saved beside a model, frozen. Raises ModelError where there is no
    such head."""
    from safetensors.torch import load_file

    file = locate(reference) / FILE
    stored = load_file(file) if names and file.is_file() else {}
    there = sorted({name.partition(".")[0] for name in stored})
    found: dict[str, Head] = {}
    for name in names:
        if name not in there:
            raise ModelError(
                f"{reference} has no head {name!r} beside it ({', '.join(there) or 'it has none'}): train it "
                "with an objective that has one"
            )
        own = {
            key.removeprefix(f"{name}."): values
            for key, values in stored.items()
            if key.startswith(f"{name}.")
        }
        found[name] = _shaped(own)
        found[name].load_state_dict(own)
        found[name].requires_grad_(False)
    return found


def _shaped(stored: Mapping[str, Tensor]) -> Head:
    """A head that has parameters of these shapes."""
    if "weight" in stored:
        wide, hidden = stored["weight"].shape
        return nn.Linear(hidden, wide)
    hidden = stored["0.weight"].shape[1]
    if "4.weight" in stored:
        return Narrow(hidden, len(stored["4.weight"]))
    return Deep(hidden, len(stored["2.weight"]))


def load(heads: Heads, reference: str) -> list[str]:
    """Fill in the heads that were saved beside a model; gives the names of those that nothing here takes.

    A copy that was not saved begins at its head. Raises ModelError where one of the same name has another
    size.
    """
    from safetensors.torch import load_file

    file = locate(reference) / FILE
    if not file.is_file():
        return []
    stored = load_file(file)
    own = heads.state_dict()
    for name, values in stored.items():
        if name in own and own[name].shape != values.shape:
            raise ModelError(
                f"{file} has {name} of shape {tuple(values.shape)}, the objective wants "
                f"{tuple(own[name].shape)}: rename the head in `heads`, or start from another model"
            )
    heads.load_state_dict({name: stored.get(name, values) for name, values in own.items()})
    for copy, name in heads.followers.items():
        if not any(key.startswith(f"{copy}.") for key in stored):
            heads[copy].load_state_dict(heads[name].state_dict())
    return sorted({name.partition(".")[0] for name in stored if name not in own})
