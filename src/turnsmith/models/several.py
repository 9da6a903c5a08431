"""Several adapters on one base, which is in memory once; each reader says whose adapter is on for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from turnsmith.errors import ModelError
from turnsmith.models import load
from turnsmith.models.directory import base_of, is_adapter, is_combination, is_own, rests_on_base, settings_of
from turnsmith.models.locate import locate

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

# What peft cannot switch from row to row, or what is not known to be switched, in adapter_config.json.
STRANGE = (
    "use_dora", "modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters",
    "alora_invocation_tokens", "megatron_config", "lora_bias",
)  # fmt: skip


def base_shared(reference: str) -> str | None:
    """The fingerprint of the base that the model could share with others: an adapter's, if it is plain LoRA,
    or a full model's own; None of any other model."""
    directory = locate(reference)
    if is_combination(directory):
        return None
    if not rests_on_base(directory):
        return load.fingerprint(reference)
    if not is_adapter(directory) or is_own(directory) or rests_on_base(locate(base_of(directory))):
        return None
    settings = settings_of(directory)
    plain = settings.get("peft_type") == "LORA" and settings.get("bias", "none") == "none"
    if not plain or any(settings.get(name) for name in STRANGE):
        return None
    return load.fingerprint(base_of(directory))


def on_one_base(
    base: str, adapters: Mapping[str, str], *, dtype: str | torch.dtype = "float32", device: str = "cpu"
) -> PeftModel:
    """The base with all of these adapters on it, in evaluation. adapters: their references, by the names that
    peft is to know them by. Raises ModelError where one does not fit."""
    from peft import PeftModel
    from safetensors import SafetensorError

    given: Any = dtype
    model, _ = load.load(base, dtype=given, device=device)
    whole: PeftModel | None = None
    for name, reference in adapters.items():
        directory = str(locate(reference))
        try:
            with warnings.catch_warnings():
                # peft only warns, and goes on with what it had drawn at random.
                warnings.filterwarnings("error", message="Found missing adapter keys")
                if whole is None:
                    whole = PeftModel.from_pretrained(model, directory, name, torch_device=device)
                else:
                    whole.load_adapter(directory, name, torch_device=device)
        except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, UserWarning) as error:
            raise ModelError(f"{reference} does not fit its base or is broken: {error}") from error
    if whole is None:
        raise ModelError(f"no adapter is given for {base}")
    return whole.eval()
