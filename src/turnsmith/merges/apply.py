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
from turnsmith.models.directory import header, is_adapter
from turnsmith.models.locate import locate

if TYPE_CHECKING:
    from torch import Tensor

Rule = Callable[[str, "Tensor", Sequence["Tensor"]], "Tensor"]


def apply(models: Sequence[str], base: str, rule: Rule, rng: Random, target: Path) -> int:
    """Write the merged model to the new directory `target`; gives how many numbers of the first model
    changed.

    rule: gives each weight from the base's and the models'; its `plan`, if it has one, is called first with
    all names and their numbers of dimensions. At most one file of weights is held in memory. Settings and
    tokenizer are the first model's. Raises ModelError where the weights differ in name or shape, or one is an
    adapter.
    """
    from safetensors.torch import save_file

    places = [_weights(reference) for reference in (base, *models)]
    shapes = _same_shapes((base, *models), places)
    if plan := getattr(rule, "plan", None):
        plan({name: len(shape) for name, shape in shapes.items()}, rng)
    first = locate(models[0])
    files = sorted(set(places[1].values()))
    changed = 0
    with wheels.aside(target, needed=sum(file.stat().st_size for file in files)) as written:
        written.mkdir()
        for file in first.iterdir():
            if file.is_file() and file.suffix != ".safetensors":
                shutil.copyfile(file, written / file.name)
        for file in files:
            merged: dict[str, Tensor] = {}
            for name in (name for name, at in places[1].items() if at == file):
                tensors = [_tensor(place[name], name) for place in places]
                merged[name] = rule(name, tensors[0], tensors[1:]).contiguous()
                changed += int((merged[name] != tensors[1]).sum())
            save_file(merged, written / file.name, metadata={"format": "pt"})
    return changed


def _weights(reference: str) -> dict[str, Path]:
    """Which file each weight of a model is in."""
    directory = locate(reference)
    if is_adapter(directory):
        raise ModelError(f"{reference} is an adapter: fold it into its base first (turnsmith export)")
    index = directory / "model.safetensors.index.json"
    if index.exists():
        listed: Mapping[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
        return {name: directory / file for name, file in sorted(listed.items())}
    files = sorted(directory.glob("*.safetensors"))
    return {name: file for file in files for name in header(file)}


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
