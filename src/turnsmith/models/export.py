"""A model, or an adapter folded into its base, as files for other tools, proved by reading them back."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from turnsmith import wheels
from turnsmith.errors import ModelError, UsageError
from turnsmith.models.directory import base_of, is_adapter, size, write
from turnsmith.models.load import Dtype, load, name_base
from turnsmith.models.locate import locate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Of the largest logit. float32: a merged product is summed in another order; bfloat16: weights keep 8 bits.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
PROBE = "The quick brown fox asks: what is the capital of France?"


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
    if form == "adapter" and not is_adapter(source):
        raise ModelError(f"'{reference}' is a full model, no adapter: export it with form 'merged'")
    model, words = load(str(source))
    expected = _logits(model, words)
    if form == "merged":
        model = _merged(model, reference)
        _agree(_logits(model, words), expected, "float32", "merging the adapter")
    model.to(getattr(torch, dtype))
    with wheels.aside(target, needed=size(model)) as written:
        write(model, words, written)
        name_base(written, base_of(source) if is_adapter(source) else None)
        del model
        again, words = load(str(written))
        return _agree(_logits(again, words), expected, dtype, "writing and reading back")


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
