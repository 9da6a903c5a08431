"""Models that carry parts of our own trainables, which no other tool knows: what they are, saved and loaded.

Such a directory holds the parts' tensors in `adapter.safetensors`, and in `turnsmith.json` the base that they
belong to, the trainable that makes them and its options. Weights of the base are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith import registry
from turnsmith.errors import ModelError, UsageError
from turnsmith.models.directory import NOTE, PARTS, is_own, quiet, read_object, readable
from turnsmith.types import Json

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

ATTRIBUTE = "turnsmith_own"  # of a model, under which what it carries is noted


@dataclass(frozen=True, slots=True)
class Own:
    """What a model carries: which trainable made it, with which options, and the names of its tensors.

    base: the reference of the model that it was put into, where the model was loaded with it.
    """

    trainable: str
    options: Mapping[str, Json]
    names: tuple[str, ...]
    base: str | None = None


def of(model: nn.Module) -> Own | None:
    """What the model carries, or None."""
    return getattr(model, ATTRIBUTE, None)


def attached(model: nn.Module, trainable: str | None, options: Mapping[str, Json], part: Any) -> nn.Module:
    """The model with what `part.attach` adds to it, noted so that it can be saved.

    part: made with the options. Nothing is noted of what peft adds, which peft saves, and of a trainable that
    is not registered, which could not be found when the model is loaded.
    """
    if (carried := of(model)) is not None:
        model = part.attach(model)
        setattr(model, ATTRIBUTE, replace(carried, options=dict(options)))
        return model
    before = set(map(id, model.state_dict(keep_vars=True).values()))
    model = part.attach(model)
    added = [name for name, one in model.state_dict(keep_vars=True).items() if id(one) not in before]
    if trainable is not None and added and not hasattr(model, "peft_config"):
        setattr(model, ATTRIBUTE, Own(trainable, dict(options), tuple(added)))
    return model


def forget(model: nn.Module) -> None:
    """Note that the model carries nothing any more: what was added is folded into its weights."""
    if hasattr(model, ATTRIBUTE):
        delattr(model, ATTRIBUTE)


def check(model: nn.Module, trainable: str | None) -> None:
    """Raise ModelError where the model carries parts that the trainable cannot go on with."""
    if (carried := of(model)) is not None:
        _refuse_other(carried.trainable, trainable)


def check_start(directory: Path, trainable: str) -> None:
    """Raise ModelError where the model in the directory carries parts that `trainable` cannot go on with."""
    if is_own(directory):
        _refuse_other(str(read_object(directory / NOTE).get("trainable")), trainable)


def _refuse_other(carried: str, trainable: str | None) -> None:
    """Raise ModelError unless the trainable is the one whose parts are carried."""
    if carried != trainable:
        raise ModelError(
            f"the model carries the parts of {carried}, which cannot be merged into its weights: go on with "
            f"the trainable {carried}, or start from the base that they belong to"
        )


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the parts, by name."""
    carried = of(model)
    assert carried is not None
    whole = model.state_dict()
    return {name: whole[name].contiguous() for name in carried.names}


def size(model: nn.Module) -> int:
    """Their bytes."""
    return sum(one.numel() * one.element_size() for one in tensors(model).values())


def write(model: nn.Module, words: PreTrainedTokenizerBase, target: Path, *, base: str | None) -> None:
    """Write parts, note and tokenizer into the new directory. base: None for the one that the parts came
    with; a directory is noted by its whole path."""
    from safetensors.torch import save_file

    carried = of(model)
    assert carried is not None
    base = base or carried.base
    if base is None:
        raise ModelError(f"what {carried.trainable} added belongs to a base: say which when it is saved")
    if Path(base).expanduser().is_dir():
        base = str(Path(base).expanduser().absolute())
    target.mkdir()
    with quiet():
        words.save_pretrained(str(target))
    save_file(tensors(model), target / PARTS, metadata={"format": "pt"})
    readable(target)
    note = {"base": base, "trainable": carried.trainable, "options": carried.options}
    (target / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def kept(directory: Path) -> dict[str, Tensor]:
    """The tensors of the parts that are saved in the directory, by name, without their base."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(directory / PARTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the parts in {directory} cannot be read: {error}") from error


def read(model: nn.Module, directory: Path, *, base: str, trainable: bool) -> nn.Module:
    """The base `model` with the parts of the directory put into it.

    base: its reference. trainable: whether the parts ask for gradients. Raises ModelError where the trainable
    is not known here, or the parts do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    note = read_object(directory / NOTE)
    name, options = str(note.get("trainable")), dict(note.get("options") or {})
    component = registry.loaded("trainable", name)
    if component is None:
        raise ModelError(
            f"{directory} carries the parts of the trainable {name!r}, which is not known here: install the "
            "package that has it"
        )
    try:
        part = component(**options)
    except (TypeError, UsageError) as error:
        raise ModelError(f"{directory / NOTE}: the options of {name!r} do not fit it: {error}") from None
    model = attached(model, name, options, part)
    try:
        found = load_file(directory / PARTS)
        wanted = tensors(model)
        if strange := sorted(found.keys() ^ wanted.keys()):
            raise ValueError(f"{strange[0]} is {'missing' if strange[0] in wanted else 'not known'}")
        model.load_state_dict(found, strict=False)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"the parts in {directory} do not fit their base or are broken: {error}") from error
    for parameter_name, parameter in model.named_parameters():
        if parameter_name in wanted:
            parameter.requires_grad_(trainable)
    carried = of(model)
    assert carried is not None
    setattr(model, ATTRIBUTE, replace(carried, base=base))
    return model
