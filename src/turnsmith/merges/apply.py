"""Carries a merge out, one file of weights after the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from turnsmith import wheels
from turnsmith.errors import ModelError
from turnsmith.models import combination
from turnsmith.models.directory import (
    INDEX,
    base_of,
    header,
    is_adapter,
    is_patch,
    read_object,
    sees,
    shards,
)
from turnsmith.models.load import load_patch
from turnsmith.models.locate import locate

if TYPE_CHECKING:
    from torch import Tensor

    from turnsmith.models.patch import Patch

Rule = Callable[[str, "Tensor", Sequence["Tensor"]], "Tensor"]


def apply(models: Sequence[str], base: str, rule: Rule, rng: Random, target: Path) -> int:
    """Write the merged model to the new directory `target`; gives how many numbers of the first model
    changed.

    rule: gives each weight from the base's and the models'; its `plan`, if it has one, is called first with
    all names and their numbers of dimensions. A rule may change the model's shape: `settings(config)` gives
    what config.json is to hold, and `rename(name)` a weight's new name, or None to leave it out. At most one
    file of weights is held in memory. Settings and tokenizer are the first model's. A sparse difference
    counts as the model that it makes of its base.
    Raises ModelError where the weights differ in name or shape, or one is an adapter.
    """
    from safetensors.torch import save_file

    sources = [_Source(reference) for reference in (base, *models)]
    shapes = _same_shapes((base, *models), [source.files for source in sources])
    if plan := getattr(rule, "plan", None):
        plan({name: len(shape) for name, shape in shapes.items()}, rng)
    first = sources[1]
    files = sorted(set(first.files.values()))
    changed = 0
    with wheels.aside(target, needed=sum(file.stat().st_size for file in files)) as written:
        written.mkdir()
        for file in (file for directory in first.directories for file in directory.iterdir()):
            if file.is_file() and file.suffix != ".safetensors" and file.name != "turnsmith.json":
                shutil.copyfile(file, written / file.name)
        if settings := getattr(rule, "settings", None):
            _rewrite(written / "config.json", settings)
        if rename := getattr(rule, "rename", None):
            _rewrite(written / INDEX, lambda index: _renamed(index, rename))
        for file in files:
            merged: dict[str, Tensor] = {}
            for name in (name for name, at in first.files.items() if at == file):
                called = rename(name) if rename else name
                if called is None:
                    continue
                tensors = [source.tensor(name) for source in sources]
                merged[called] = rule(name, tensors[0], tensors[1:]).contiguous()
                changed += int((merged[called] != tensors[1]).sum())
            if merged:
                save_file(merged, written / file.name, metadata={"format": "pt"})
    return changed


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change what the file of JSON holds, where it is there."""
    if file.exists():
        file.write_text(json.dumps(change(read_object(file)), indent=2) + "\n", encoding="utf-8")


def _renamed(index: dict[str, Any], rename: Callable[[str], str | None]) -> dict[str, Any]:
    """The index of a model's files under the new names of its weights."""
    called = {rename(name): file for name, file in index["weight_map"].items()}
    return {**index, "weight_map": {name: file for name, file in called.items() if name is not None}}


class _Source:
    """The weights of a model on the disk.

    directories: of the full model, and then of the sparse differences that lie on it. files: which file of
    the full model each weight is in.
    """

    def __init__(self, reference: str) -> None:
        directory = locate(reference)
        combination.refuse(reference, directory)
        if is_adapter(directory):
            raise ModelError(f"{reference} is an adapter: fold it into its base first (turnsmith export)")
        if sees(directory):
            raise ModelError(
                f"{reference} sees through a front, which cannot be merged: merge what it was put before"
            )
        self.directories = [directory]
        self.patches: list[Patch] = []
        if is_patch(directory):
            under = _Source(base_of(directory))
            self.directories = [*under.directories, directory]
            self.patches = [*under.patches, load_patch(str(directory))]
        self.files = shards(self.directories[0])
        if strange := sorted({name for each in self.patches for name in each} - self.files.keys()):
            raise ModelError(f"{reference} changes {strange[0]}, which no file of its base holds")

    def tensor(self, name: str) -> Tensor:
        """One weight; a changed one in fp32."""
        from turnsmith.models import patch

        found = {name: _tensor(self.files[name], name)}
        for one in ({name: each[name]} for each in self.patches if name in each):
            found[name] = found[name].float()
            patch.prove(found, one)
            patch.add(found, one)
        return found[name]


def _same_shapes(references: Sequence[str], places: Sequence[Mapping[str, Path]]) -> dict[str, list[int]]:
    """Name and shape of every weight; ModelError where a model has others than the first."""
    found: list[dict[str, list[int]]] = []
    for place in places:
        headers: dict[Path, Any] = {file: header(file) for file in set(place.values())}
        found.append({name: headers[file][name]["shape"] for name, file in place.items()})
    for reference, shapes in zip(references, found, strict=True):
        odd = sorted(
            name for name in shapes.keys() | found[0].keys() if shapes.get(name) != found[0].get(name)
        )
        if odd:
            ours, theirs = (one.get(odd[0], "missing") for one in (shapes, found[0]))
            raise ModelError(
                f"{reference} and {references[0]} cannot be merged: {odd[0]} is {ours} in the one and "
                f"{theirs} in the other"
            )
    return found[0]


def _tensor(file: Path, name: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name)
