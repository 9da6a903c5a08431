"""A model, or an adapter with its base, as files for other tools, proved by reading them back."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from turnsmith import wheels
from turnsmith.errors import ModelError, UsageError
from turnsmith.models import card, combination, gguf, parity, preflight, rendered
from turnsmith.models.directory import base_reference, rests_on_base, size
from turnsmith.models.gguf import QUANTISATIONS, Quantisation
from turnsmith.models.load import Dtype, load
from turnsmith.models.locate import locate
from turnsmith.models.mend import mend
from turnsmith.models.preflight import FORMS, Form
from turnsmith.models.writers import WRITERS, Exported, Job

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from turnsmith.data.render import Renderer

__all__ = ["FORMS", "QUANTISATIONS", "Exported", "Form", "Quantisation", "export"]


def export(
    reference: str,
    directory: Path | str,
    *,
    form: Form,
    renderer: "Callable[[PreTrainedTokenizerBase], Renderer]",
    dtype: Dtype | None = None,
    quantise: Quantisation | None = None,
) -> Exported:
    """Writes the model for others to load, reads it back, compares, and adds a model card.

    renderer: makes the renderer of a tokenizer; it is handed in since models know nothing of conversations.
    dtype: of safetensors, an adapter and vllm; None: bfloat16, an adapter's float32. quantise: of gguf and
    ollama; None: f16. Where ids, weights or logits differ by more than `parity` allows, nothing is kept.
    Raises ModelError if the form cannot hold a part of the model or the files are not the same model,
    UsageError for an option of another form or a directory with something in it, StorageError if the disk is
    full.
    """
    target = Path(directory).absolute()
    kind = _kind(form, dtype, quantise)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty: export writes into a new or empty directory only")
    source = locate(reference)
    combination.refuse(reference, source)
    preflight.check(source, form)
    known = card.history(reference)
    job = _job(reference, source, kind, renderer, tuned=known is not None or rests_on_base(source))
    with wheels.aside(target, needed=_needed(job.model, form, kind)) as written:
        done, told = WRITERS[form](job, written)
        for place in (file.parent for file in [*written.rglob("tokenizer_config.json")]):
            if job.words.chat_template:
                rendered.write(place, renderer(job.words))
        card.write(told, written, base=_base(reference, source, known), known=known)
    return done


def _job(
    reference: str,
    source: Path,
    kind: Quantisation | Dtype,
    renderer: "Callable[[PreTrainedTokenizerBase], Renderer]",
    *,
    tuned: bool,
) -> Job:
    """The loaded model and what it makes of the fixed texts."""
    model, words = load(str(source))
    own = renderer(words) if words.chat_template else None
    if own is not None:
        rendered.check(reference, own)
        words.chat_template = own.template  # as it is used: with the day and the thoughts settled
    stops = _stops(model, words, own)
    before = parity.measure(model, words, own)
    return Job(_name(reference), source, model, words, renderer, kind, stops, before, tuned)


def _kind(form: Form, dtype: Dtype | None, quantise: Quantisation | None) -> Quantisation | Dtype:
    """The type of the weights in the files."""
    if form in ("gguf", "ollama"):
        if dtype is not None:
            raise UsageError(f"--dtype is for safetensors, adapter and vllm; for {form} say --quantise f16")
        return quantise or "f16"
    if quantise is not None:
        raise UsageError(f"--quantise is for gguf and ollama; for {form} say --dtype bfloat16")
    return dtype or ("float32" if form == "adapter" else "bfloat16")


def _needed(model: "PreTrainedModel", form: Form, kind: Quantisation | Dtype) -> int:
    """The bytes of the weights that will be written; what lies beside them is small."""
    if form == "adapter":
        return size(model)
    count = sum(each.numel() for each in model.parameters())
    if kind == "float32" or kind == "bfloat16":
        return count * {"float32": 4, "bfloat16": 2}[kind]
    return int(count * gguf.bytes_per_weight(kind))


def _stops(
    model: "PreTrainedModel", words: "PreTrainedTokenizerBase", renderer: "Renderer | None"
) -> tuple[int, ...]:
    """Every token that ends a reply, which the model's generation settings list from here on."""
    mend(model, words)
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return ()
    listed = settings.eos_token_id
    known = listed if isinstance(listed, list) else [listed]
    stops = [*known, *(renderer.stops if renderer else ()), words.eos_token_id]
    found = tuple(dict.fromkeys(stop for stop in stops if stop is not None))
    if not found:
        raise ModelError(
            "neither model nor chat template names a token that ends a reply: it would never stop"
        )
    settings.eos_token_id = found[0] if len(found) == 1 else list(found)
    return found


def _base(reference: str, source: Path, known: card.History | None) -> str:
    """The reference of the model that was tuned; this one's own where nothing is known of any tuning."""
    if known is not None:
        return str(known.run["base"]["reference"])
    if not rests_on_base(source):
        return reference
    return base_reference(source)


def _name(reference: str) -> str:
    """A name for files: the last part of the reference, in letters that every file system takes.

    >>> _name("runs/quickstart/tuned"), _name("pypi:a==1/b/model one.gguf")
    ('tuned', 'model-one')
    """
    last = reference.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "model"
