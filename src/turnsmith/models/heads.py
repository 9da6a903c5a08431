"""Heads: further projections of the states at trained tokens, or of read-outs of a path, which learn with the
model and are saved beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from turnsmith import seeds
from turnsmith.errors import ModelError
from turnsmith.models.locate import locate
from turnsmith.models.needs import AGAINST, others
from turnsmith.models.reduce import REDUCTIONS, TAKEN, reduce
from turnsmith.types import Read, Size

READS: tuple[Read, ...] = ("last", "mean")
# In a directory of its own: all *.safetensors beside config.json count as weights of the model.
FILE = Path("heads", "heads.safetensors")


class Heads(nn.ModuleDict):
    """Linear projections of the last hidden states, by name, with weights in fp32.

    sizes: of each, how many numbers it gives, or `vocab` for one for each token; `("last", 1)` for one number
    of each path's read-out `last`. seed: of their first weights.
    """

    def __init__(self, sizes: Mapping[str, Size], *, hidden: int, vocabulary: int, seed: int = 0) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        for name, size in sizes.items():
            if not name.isidentifier() or name in AGAINST:
                raise ModelError(f"head {name!r}: its name must be a plain word, and no reduction's")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds.number(seed, "head", name))
                self[name] = nn.Linear(hidden, vocabulary if size == "vocab" else _count(name, size))

    @property
    def reads(self) -> tuple[Read, ...]:
        """The read-outs that some head sits on."""
        wanted = {size[0] for size in self.sizes.values() if isinstance(size, tuple)}
        return tuple(read for read in READS if read in wanted)

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
                if isinstance(size, tuple):
                    continue
                states = hidden.to(next(head.parameters()).dtype)
                if size != "vocab":
                    said[name] = head(states).squeeze(1)
                    continue
                found = reduce(states, targets, head, (TAKEN, *needs.get(name, ())), rows=rows)
                said[name] = found.pop(TAKEN)
                reduced |= {f"{name}:{reduction}": values for reduction, values in found.items()}
        return said, reduced

    def on_paths(self, read: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the heads on read-outs say of P paths: (P,) of a head of size 1, and (P, n) of others.

        read: (P, H) by the name of the read-out, of all `reads`.
        """
        said: dict[str, Tensor] = {}
        for name, size in self.sizes.items():
            if isinstance(size, tuple):
                head = self[name]
                states = read[size[0]].to(next(head.parameters()).dtype)
                said[name] = head(states).squeeze(1)
        return said


def _count(name: str, size: int | tuple[Read, int]) -> int:
    """How many numbers a head gives that is not over the vocabulary."""
    read, count = size if isinstance(size, tuple) else (None, size)
    if not (isinstance(count, int) and count > 0) or read not in (None, *READS):
        raise ModelError(
            f"head {name!r} has the size {size!r}: give a number from 1, 'vocab', or a read-out and a "
            "number, as ('last', 1) or ('mean', 1)"
        )
    return count


def sorted_out(
    needs: Sequence[str], sizes: Mapping[str, Size], there: Iterable[str] = ()
) -> dict[str, list[str]]:
    """The names of reductions by the head that they are of; `""` is the model's own, also against others.

    there: the names of other models. Raises ModelError where a name is no reduction, of no head over the
    vocabulary, or against a model that is not there.

    >>> sorted_out(["entropy", "q1:max", "kl:teacher"], {"q1": "vocab"}, ["teacher"])
    {'': ['entropy', 'kl:teacher'], 'q1': ['max']}
    """
    if absent := sorted(set(others(needs)) - set(there)):
        raise ModelError(f"reductions against {', '.join(absent)} are wanted, and no such model is given")
    found: dict[str, list[str]] = {}
    wide = [name for name, size in sizes.items() if size == "vocab"]
    for need in needs:
        if others([need]):
            found.setdefault("", []).append(need)
            continue
        head, _, reduction = need.rpartition(":")
        if reduction not in REDUCTIONS or (head and head not in wide):
            known = [*REDUCTIONS, *(f"{name}:{reduction}" for name in wide for reduction in REDUCTIONS)]
            known += [f"{reduction}:MODEL" for reduction in AGAINST]
            raise ModelError(
                f"no reduction over the vocabulary is called {need!r}; there is {', '.join(known)}"
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
    save_file({name: value.detach().cpu().contiguous() for name, value in heads.state_dict().items()}, file)


def projections(reference: str, names: Sequence[str]) -> dict[str, nn.Linear]:
    """The heads with these names that were saved beside a model, frozen. Raises ModelError where there is no
    such head."""
    from safetensors.torch import load_file

    file = locate(reference) / FILE
    stored = load_file(file) if names and file.is_file() else {}
    there = sorted({name.partition(".")[0] for name in stored})
    found: dict[str, nn.Linear] = {}
    for name in names:
        if name not in there:
            raise ModelError(
                f"{reference} has no head {name!r} beside it ({', '.join(there) or 'it has none'}): train it "
                "with an objective that has one"
            )
        weight = stored[f"{name}.weight"]
        found[name] = nn.Linear(weight.shape[1], weight.shape[0])
        found[name].load_state_dict({part: stored[f"{name}.{part}"] for part in ("weight", "bias")})
        found[name].requires_grad_(False)
    return found


def load(heads: Heads, reference: str) -> list[str]:
    """Fill in the heads that were saved beside a model; gives the names of those that nothing here takes.

    Raises ModelError where one of the same name has another size.
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
    return sorted({name.partition(".")[0] for name in stored if name not in own})
