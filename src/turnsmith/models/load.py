"""Model references become models and tokenizers, and models become directories again."""

import json
import warnings
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turnsmith import wheels
from turnsmith.errors import ModelError, UsageError
from turnsmith.models import combination, own
from turnsmith.models.directory import (
    FRONT,
    NOTE,
    PATCH,
    TOKENIZER,
    base_is_gone,
    base_of,
    file_hash,
    has_tokenizer,
    header,
    is_adapter,
    is_combination,
    is_model,
    is_own,
    is_patch,
    quiet,
    read_object,
    readable,
    rests_on_base,
    sees,
    settings_of,
    shards,
    size,
    write,
)
from turnsmith.models.locate import locate
from turnsmith.models.mend import mend
from turnsmith.shelf import write_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from turnsmith.models.patch import Sparse

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "heads/*.safetensors", "front/*")
SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
TEMPLATES = ("chat_template*", "additional_chat_templates/*")

OURS = "turnsmith_"  # how the `model_type` of our own networks begins
NETWORKS = "turnsmith.models.networks"

# Nothing that comes with a model is run, and nobody is asked whether it may be.
OWN_CODE: Any = {"local_files_only": True, "trust_remote_code": False}
BROKEN = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
)  # of files that do not fit

Dtype = Literal["float32", "bfloat16"]


def load(
    reference: str, *, dtype: "Dtype | torch.dtype" = "float32", device: str = "cpu", trainable: bool = False
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model, in eval mode, and its tokenizer. An adapter gives its base with it on, a sparse difference
    its base with the changed weights; a combination of models has none to load, and is a ModelError.

    trainable: whether the adapter's weights ask for gradients; a full model's always do.
    The input embedding's padding index is unset: where the padding token is also the end of a turn, torch
    would give that token's embedding no gradient. device: on `meta` weights have shapes and no values, and
    those of a full model are not read. Raises ModelError if anything is missing or broken.
    """
    import torch

    from turnsmith.models import fronts

    directory = locate(reference)
    if is_combination(directory):
        combination.refuse(reference, directory)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if is_patch(directory):
        return _read_patched(directory, wanted, device)
    if not is_adapter(directory):
        words = _read_tokenizer(directory)
        model = _read_full(directory, wanted, device)
        model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
        mend(model, words)
        if sees(directory):
            fronts.read(model, directory)
        return model, words
    base = base_of(directory)
    model, words = load(base, dtype=wanted, device=device)
    if has_tokenizer(directory):
        words = _read_tokenizer(directory)
    if is_own(directory):
        return own.read(model, directory, base=base, trainable=trainable), words  # pyright: ignore[reportReturnType]
    return _read_adapter(model, directory, device, trainable), words


def tokenizer(reference: str) -> "PreTrainedTokenizerBase":
    """The tokenizer alone, without the weights; an adapter without one of its own has its base's, and a
    combination of models that of the one that leads."""
    directory = locate(reference)
    if is_combination(directory):
        return tokenizer(combination.lead_of(directory))
    if rests_on_base(directory) and not has_tokenizer(directory):
        return tokenizer(base_of(directory))
    return _read_tokenizer(directory)


def fingerprint(reference: str) -> str:
    """A sha256 over weights, settings and tokenizer: two models with the same one answer alike.

    An adapter's or a sparse difference's covers its base's, and a combination's its members', but not the
    paths that lead to them. Files that have not changed since the last time are not read again.
    """
    directory = locate(reference)
    if is_combination(directory):
        return combination.fingerprint(directory)
    whole = sha256()
    for pattern in (*WEIGHTS, *TOKENIZER, *SETTINGS, *TEMPLATES):
        for file in sorted(directory.glob(pattern)):
            whole.update(f"{file.relative_to(directory)} {file_hash(file)}\n".encode())
    if is_patch(directory):
        whole.update(fingerprint(base_of(directory)).encode())
    elif is_adapter(directory):
        settings = settings_of(directory)
        for place in ("base_model_name_or_path", "base"):
            settings.pop(place, None)
        whole.update(f"{json.dumps(settings, sort_keys=True)} {fingerprint(base_of(directory))}".encode())
    return whole.hexdigest()


def parameters(reference: str) -> int:
    """How many numbers the weights hold, read from the files' headers; an adapter's with its base's, and
    those of all members of a combination."""
    directory = locate(reference)
    if is_combination(directory):
        return sum(parameters(one.reference) for one in combination.read(reference).members.values())
    if is_patch(directory):  # it exchanges numbers of its base
        return parameters(base_of(directory))
    files = [*sorted(directory.glob("*.safetensors")), *directory.glob(f"{FRONT}/*.safetensors")]
    if not files:
        raise ModelError(f"{directory} has no .safetensors file, so that its weights cannot be counted")
    count = sum(prod(tensor["shape"]) for file in files for tensor in header(file).values())
    return count + (parameters(base_of(directory)) if is_adapter(directory) else 0)


def has_adapter(reference: str) -> bool:
    """Whether the model is an adapter on a base."""
    return is_adapter(locate(reference))


def holds_float32(reference: str) -> bool:
    """Whether any weight of a full model, or of an adapter's base, is stored in float32; those that a sparse
    difference changes are."""
    directory = locate(reference)
    if is_patch(directory):
        return True
    if is_adapter(directory):
        return holds_float32(base_of(directory))
    headers = (header(file) for file in directory.glob("*.safetensors"))
    return any(tensor["dtype"] == "F32" for found in headers for tensor in found.values())


def save(
    model: "torch.nn.Module", tokenizer: "PreTrainedTokenizerBase", directory: Path | str, *, base: str | None
) -> None:
    """Writes a full model or a plain peft adapter, with its tokenizer, as a directory that others can load;
    of a model that carries parts of our own trainables these alone, which `load` puts into their base.

    base: the reference of an adapter's base, None for what it was attached to; a full model has none. What
    plain peft cannot look up (a shipped name, a GGUF file) is written as the path of its directory, and the
    reference beside it in turnsmith.json. A model that is there already is replaced, all at once.
    Raises StorageError if the disk is full (nothing is left behind), UsageError if other things are there.
    """
    target = _room_for_a_model(directory)
    if own.of(model) is not None:
        with wheels.aside(target, needed=own.size(model)) as written:
            own.write(model, tokenizer, written, base=base)
        return
    with wheels.aside(target, needed=size(model)) as written:
        write(model, tokenizer, written)
        name_base(written, base)
        _sort_targets(written)


def save_patch(
    model: "torch.nn.Module", tokenizer: "PreTrainedTokenizerBase", directory: Path | str, *, base: str
) -> None:
    """Writes what the model's weights differ in from those of `base`, a reference of a full model or of
    another sparse difference, as a directory that `load` takes as the model.

    Raises ModelError where they are not of one shape, and else as `save`.
    """
    from turnsmith.models import patch

    target = _room_for_a_model(directory)
    before, _ = load(base)
    found = patch.between(dict(before.named_parameters()), dict(model.named_parameters()))
    bytes_needed = sum(12 * len(part.indices) for part in found.values())  # 8 of an index, 4 of a value
    with wheels.aside(target, needed=bytes_needed) as written:
        written.mkdir()
        tokenizer.save_pretrained(str(written))
        patch.write(found, written / PATCH)
        readable(written)
        note = {"base": base, "base_model_name_or_path": str(locate(base))}
        (written / NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def load_patch(reference: str) -> "dict[str, Sparse]":
    """The sparse difference that the reference names. Raises ModelError where it names another model."""
    from turnsmith.models import patch

    directory = locate(reference)
    if not is_patch(directory):
        raise ModelError(f"{reference} is no sparse difference: it has no {PATCH}")
    return patch.read(directory / PATCH)


def _room_for_a_model(directory: Path | str) -> Path:
    target = Path(directory).absolute()
    if target.exists() and not is_model(target) and any(target.iterdir()):
        raise UsageError(f"{target} holds something that is no model: choose another directory, or empty it")
    return target


def name_base(target: Path, base: str | None) -> None:
    """Writes the base's place and reference into the directory, if it holds an adapter."""
    config = target / "adapter_config.json"
    if base is None or not config.exists():
        return
    path = str(locate(base))
    settings = read_object(config) | {"base_model_name_or_path": path}
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (target / "turnsmith.json").write_text(json.dumps({"base": base}) + "\n", encoding="utf-8")


def stand_on(directory: Path, start: str) -> None:
    """Where the base is gone that an adapter or a sparse difference rests on, name the one that `start` has:
    the reference of the model it was trained from, which may have moved. An adapter of it goes on as one."""
    if not base_is_gone(directory):
        return
    goes_on = is_adapter(directory) and has_adapter(start)
    path = str(locate(base_of(locate(start)) if goes_on else start))
    for file in (directory / "adapter_config.json", directory / NOTE):
        if file.is_file():
            settings = read_object(file)
            settings |= {key: path for key in ("base_model_name_or_path", "base") if key in settings}
            write_text(file, json.dumps(settings, indent=2) + "\n")


def _sort_targets(target: Path) -> None:
    """Brings the names of an adapter's layers into order, if the directory holds one: to peft they are a set,
    so that the same adapter would have other bytes, and another fingerprint, each time that it is made."""
    config = target / "adapter_config.json"
    if not config.exists():
        return
    settings = read_object(config)
    names = settings.get("target_modules")
    if isinstance(names, list):
        settings["target_modules"] = sorted(map(str, names))
        config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _read_full(directory: Path, dtype: "torch.dtype", device: str) -> "PreTrainedModel":
    import torch
    import transformers
    from safetensors import SafetensorError

    if not any(directory.glob("*.safetensors")):
        raise ModelError(f"{directory} has no .safetensors file: other formats can run code and are not read")
    _introduce(directory)
    try:
        config = transformers.AutoConfig.from_pretrained(directory, **OWN_CODE)
        _fits(directory, config)
        maker = _maker(config)
        if device == "meta":
            make = maker.from_config if hasattr(maker, "from_config") else maker._from_config
            with torch.device(device), quiet():
                return make(config, dtype=dtype).eval()
        with quiet():
            model, report = maker.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                **OWN_CODE,
            )
    except (SafetensorError, *BROKEN) as error:
        raise ModelError(f"the model in {directory} cannot be loaded: {error}") from error
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(
            f"{directory} lacks {len(report['missing_keys'])} weights of its model, such as {some}"
        )
    return model.eval()


def _maker(config: "PreTrainedConfig") -> Any:
    """The class of transformers that the settings name, if it is a model's."""
    import transformers

    names: Any = getattr(config, "architectures", None)
    named = names[0] if isinstance(names, list) and names else None
    found = getattr(transformers, named, None) if isinstance(named, str) else None
    known = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return found if known else transformers.AutoModelForCausalLM


def _fits(directory: Path, config: "PreTrainedConfig") -> None:
    """Raise ModelError where the settings tell of more layers than there are weights: making them would not
    come to an end."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    weights = len(shards(directory))
    if not isinstance(layers, int) or layers > weights:
        raise ModelError(
            f"{directory} tells of {layers} layers and has {weights} weights: config.json is broken"
        )


def _introduce(directory: Path) -> None:
    """Make a network of our own known to transformers: its `model_type` says in which module it is."""
    kind = str(read_object(directory / "config.json").get("model_type", ""))
    name = kind.removeprefix(OURS)
    if kind.startswith(OURS) and name.isidentifier() and find_spec(f"{NETWORKS}.{name}"):
        import_module(f"{NETWORKS}.{name}")


def _read_adapter(
    model: "PreTrainedModel", directory: Path, device: str, trainable: bool
) -> "PreTrainedModel":
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (directory / "adapter_model.safetensors").is_file():
        raise ModelError(f"the adapter {directory} has no adapter_model.safetensors")
    try:
        with warnings.catch_warnings():
            # peft only warns, and goes on with what it had drawn at random.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(
                model, str(directory), is_trainable=trainable, torch_device=str(device)
            )
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError, UserWarning) as error:
        raise ModelError(f"the adapter {directory} does not fit its base or is broken: {error}") from error
    return adapted.eval()  # pyright: ignore[reportReturnType]


def _read_patched(
    directory: Path, dtype: "torch.dtype", device: str
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The base with the changed weights, which are added in fp32 and rounded once."""
    model, words = load(base_of(directory), device=device)
    if device != "meta":
        _patch(model, directory)
    if has_tokenizer(directory):
        words = _read_tokenizer(directory)
    model.to(dtype)  # pyright: ignore[reportArgumentType]
    return model, words


def _patch(model: "PreTrainedModel", directory: Path) -> None:
    from turnsmith.models import patch

    weights, changes = dict(model.named_parameters()), load_patch(str(directory))
    try:
        patch.prove(weights, changes)
    except ModelError as error:
        raise ModelError(f"{directory}: {error}") from None
    patch.add(weights, changes)


def _read_tokenizer(directory: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    if not has_tokenizer(directory):
        raise ModelError(f"{directory} has no tokenizer (looked for {', '.join(TOKENIZER)})")
    try:
        return AutoTokenizer.from_pretrained(directory, **OWN_CODE)
    except Exception as error:
        raise ModelError(f"the tokenizer in {directory} cannot be loaded: {error}") from error
