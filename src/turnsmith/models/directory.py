"""A model's directory: what tells what is in it, what its files say, and how one is written."""

import contextlib
import json
import struct
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith import wheels
from turnsmith.errors import ModelError, StorageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

PARTS, NOTE = "adapter.safetensors", "turnsmith.json"  # of parts of our own, see own.py
INDEX = "model.safetensors.index.json"  # of the weights of a full model in several files
PATCH = "patch.safetensors"  # a sparse difference, see patch.py, beside the same note
FRONT = "front"  # the directory of what stands before a model that sees, see fronts.py
COMBINATION = "combination.json"  # models that decode in step, see combination.py
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "merges.txt")


def is_model(directory: Path) -> bool:
    """Whether a full model, an adapter, a sparse difference or a combination of models is in it."""
    whole = (directory / "config.json").is_file() or is_combination(directory)
    return whole or is_adapter(directory) or is_patch(directory)


def is_combination(directory: Path) -> bool:
    """Whether it names several models that decode in step, which `combination` reads."""
    return (directory / COMBINATION).is_file()


def is_adapter(directory: Path) -> bool:
    """Whether something is in it that rests on a base: peft's adapter, or parts of our own."""
    return is_peft(directory) or is_own(directory)


def is_peft(directory: Path) -> bool:
    """Whether peft's adapter is in it."""
    return (directory / "adapter_config.json").is_file()


def is_own(directory: Path) -> bool:
    """Whether parts of our own trainables are in it."""
    return (directory / PARTS).is_file() and (directory / NOTE).is_file()


def settings_of(adapter: Path) -> dict[str, Any]:
    """What an adapter or a sparse difference says of itself, in peft's file or in our own note."""
    return read_object(adapter / ("adapter_config.json" if is_peft(adapter) else NOTE))


def is_patch(directory: Path) -> bool:
    """Whether a sparse difference is in it, which `patch` reads."""
    return (directory / PATCH).is_file()


def rests_on_base(directory: Path) -> bool:
    """Whether what is in it is a model together with a base only."""
    return is_adapter(directory) or is_patch(directory)


def sees(directory: Path) -> bool:
    """Whether there is a front beside the model, through which it sees."""
    return (directory / FRONT).is_dir()


def has_tokenizer(directory: Path) -> bool:
    """Whether a tokenizer is in it; adapters may lack one."""
    return any((directory / name).is_file() for name in TOKENIZER)


def base_of(adapter: Path) -> str:
    """The reference of the base of an adapter or a sparse difference. Raises ModelError where none is named,
    it is gone, or they rest on each other."""
    found = _base_of(adapter)
    seen, place = {adapter.resolve()}, Path(found)
    while place.is_dir() and rests_on_base(place):
        if place.resolve() in seen:
            raise ModelError(f"{adapter} rests on {place}, and that on itself: no model lies under them")
        seen.add(place.resolve())
        place = Path(_base_of(place))
    return found


def _base_of(adapter: Path) -> str:
    reference = _named(adapter)
    if _gone(reference):
        raise ModelError(
            f"the base of the adapter {adapter} is not at {reference}: bring it back, or correct "
            + ("base_model_name_or_path in adapter_config.json" if is_peft(adapter) else f"base in {NOTE}")
        )
    return reference


def _named(adapter: Path) -> str:
    note = adapter / NOTE
    named = settings_of(adapter).get("base_model_name_or_path")
    if named and Path(named).is_dir():
        return str(named)
    reference = read_object(note).get("base") if note.is_file() else named
    if not reference:
        file = "adapter_config.json" if is_peft(adapter) else NOTE
        raise ModelError(f"the adapter {adapter} does not say which base it belongs to ({file})")
    return str(reference)


def _gone(reference: str) -> bool:
    return Path(reference).is_absolute() and not Path(reference).exists()


def base_is_gone(directory: Path) -> bool:
    """Whether what is in it rests on a base that is no longer where it says."""
    return rests_on_base(directory) and _gone(_named(directory))


def base_reference(adapter: Path) -> str:
    """The reference of the base as it was given, which may be a shipped name, if that is known."""
    note = adapter / NOTE
    given = read_object(note).get("base") if note.is_file() else None
    return str(given) if given else base_of(adapter)


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object that the file holds; ModelError if it holds none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object")
    return content


def header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: name -> dtype, shape, place. Raises ModelError where it is broken, or
    names bytes that the file does not have."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            rest = file.stat().st_size - 8 - length
            if rest < 0:
                raise ValueError("its header is longer than the file")
            found = json.loads(opened.read(length))
        if not isinstance(found, dict):
            raise ValueError("its header is no JSON object")
        found.pop("__metadata__", None)
        for name, told in found.items():
            _told(name, told, rest)
    except (OSError, ValueError, RecursionError, struct.error) as error:
        raise ModelError(f"{file} is no whole safetensors file: {error}") from error
    return found


def _told(name: str, told: Any, rest: int) -> None:
    """Raise ValueError unless a header's entry tells of a tensor in `rest` bytes."""
    entry: dict[str, Any] = told if isinstance(told, dict) else {}
    shape: Any = entry.get("shape")
    place: Any = entry.get("data_offsets")
    whole = isinstance(entry.get("dtype"), str) and _counts(shape) and _counts(place) and len(place) == 2
    if not whole or not place[0] <= place[1] <= rest:
        raise ValueError(f"it tells of {name!r} no dtype, shape and place inside the file")


def _counts(value: Any) -> bool:
    """Whether it is a list of whole numbers from 0."""
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def shards(directory: Path) -> dict[str, Path]:
    """Which file each weight of a full model is in. Raises ModelError where the list of files is broken, or
    names one that is not in the directory."""
    index = directory / INDEX
    if not index.exists():
        return {name: file for file in sorted(directory.glob("*.safetensors")) for name in header(file)}
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict):
        raise ModelError(f"{index} has no weight_map, which says where the weights are")
    there = {one.name for one in directory.iterdir() if one.is_file()}
    found: dict[str, Path] = {}
    for name, file in sorted(listed.items()):
        if not isinstance(file, str) or file not in there:
            raise ModelError(f"{index} says that {name} is in {file!r}, and no such file is beside it")
        found[name] = directory / file
    return found


def file_hash(file: Path) -> str:
    """The file's sha256, from the cache's list where path, size and time of change are as they were."""
    listed = wheels.home() / "fingerprints.json"
    status = file.stat()
    key, stamp = str(file.resolve()), [status.st_size, status.st_mtime_ns]
    known = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(listed.read_text())
    if key in known and known[key][:2] == stamp:
        return known[key][2]
    found = wheels.digest(file)
    # A file changed just now may change again within one tick of the clock, unseen: it is not listed yet.
    if time.time_ns() - status.st_mtime_ns > 2_000_000_000:
        known = {path: entry for path, entry in known.items() if Path(path).exists()}
        with contextlib.suppress(StorageError), wheels.aside(listed) as written:
            written.write_text(json.dumps(known | {key: [*stamp, found]}))
    return found


def size(model: "torch.nn.Module") -> int:
    """The bytes that saving will write: an adapter's are those of its own weights."""
    named = dict(model.named_parameters())
    if hasattr(model, "peft_config"):
        marks = ("lora_", "modules_to_save", "prompt_", "ia3_", "adaption_", "trainable_tokens")
        named = {name: tensor for name, tensor in named.items() if any(mark in name for mark in marks)}
    return sum(tensor.numel() * tensor.element_size() for tensor in named.values())


def write(model: "torch.nn.Module", words: "PreTrainedTokenizerBase", target: Path) -> None:
    """Writes weights, settings and tokenizer into the new directory `target`. An adapter's base keeps its
    front itself."""
    from turnsmith.models import fronts

    target.mkdir()
    alone = nullcontext() if hasattr(model, "peft_config") else fronts.apart(model)
    with quiet(), alone as front:
        model.save_pretrained(str(target))  # pyright: ignore[reportCallIssue]
        words.save_pretrained(str(target))
        if front is not None:
            fronts.write(front, target)
    readable(target)


def readable(target: Path) -> None:
    """Lets those read the weights in the directory who may read its tokenizer."""
    for weights in target.glob("*.safetensors"):
        weights.chmod((target / "tokenizer_config.json").stat().st_mode)


@contextmanager
def quiet() -> Generator[None]:
    """No progress bars of transformers inside the block."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
