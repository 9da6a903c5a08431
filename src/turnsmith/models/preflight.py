"""What a form of export cannot hold: known from names and settings, before weights are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from turnsmith.errors import ModelError
from turnsmith.models import gguf
from turnsmith.models.directory import (
    base_of,
    header,
    is_adapter,
    is_own,
    is_patch,
    read_object,
    sees,
    settings_of,
)
from turnsmith.models.locate import foundation, locate

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Form = Literal["safetensors", "adapter", "gguf", "ollama", "vllm"]
FORMS: tuple[Form, ...] = get_args(Form)

VIRTUAL = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "ADAPTION_PROMPT")
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM's --max-lora-rank takes


def check(source: Path, form: Form) -> None:
    """Raises ModelError where the form cannot hold every part of the model, and names what would be lost.

    source: the directory of a full model or an adapter. An adapter whose base is not to be found is refused
    too: without it there is nothing to fold it into and nothing to prove it against.
    """
    if form == "adapter" and not is_adapter(source):
        raise ModelError(f"{source} is a model by itself, no adapter: export it with --to safetensors")
    if is_own(source):
        parts = settings_of(source).get("trainable")
        raise ModelError(
            f"{source} carries the parts of {parts}, which cannot be folded into weights, and which no other "
            "tool knows: nothing was written. `turnsmith chat` and `turnsmith evaluate` use it as it is"
        )
    if sees(foundation(str(source))):
        raise ModelError(
            f"{source} sees images through a front that no other tool knows: nothing was written. `turnsmith "
            "chat` and `turnsmith evaluate` use it as it is"
        )
    if lost := losses(source, form):
        instead = {
            "safetensors": "--to adapter keeps an adapter as it is",
            "adapter": "--to safetensors folds the adapter into its base",
            "vllm": "--to safetensors folds the adapter into its base, and vllm serves that folder too",
        }
        way_out = "--to safetensors keeps what transformers can load"
        if is_adapter(source):
            way_out = instead.get(form, way_out)
        raise ModelError(
            f"{form} cannot hold all of this model, so nothing was written. Lost would be: "
            f"{'; '.join(lost)}. Instead: {way_out}"
        )


def losses(source: Path, form: Form) -> list[str]:
    """The parts of the model in the directory that the form cannot hold; empty where it holds all of them."""
    adapter = is_adapter(source)
    base = foundation(str(source))
    lost = _of_adapter(source, form) if adapter else []
    if form == "adapter":
        return lost
    config = _config(base)
    lost += _extra_heads(base, config)
    if form in ("gguf", "ollama", "vllm"):
        lost += _other_head(config)
    if form in ("gguf", "ollama"):
        lost += _experts(config) or gguf.lacks(config)
    return lost


def lora_rank(adapter: Path) -> int:
    """The smallest --max-lora-rank of vLLM that the adapter fits under."""
    rank = int(read_object(adapter / "adapter_config.json")["r"])
    return next(known for known in LORA_RANKS if known >= rank)


def _of_adapter(source: Path, form: Form) -> list[str]:
    """What is in the adapter and would be lost."""
    settings = read_object(source / "adapter_config.json")
    kind = str(settings.get("peft_type"))
    if form == "adapter":
        patched = is_patch(locate(base_of(source)))
        return ["the base, which is a sparse difference that peft cannot read"] if patched else []
    if form == "vllm":
        return _unserved(settings, kind)
    if kind in VIRTUAL:
        return [f"the virtual tokens of {kind.lower()}, which cannot be folded into weights"]
    return []


def _unserved(settings: dict[str, Any], kind: str) -> list[str]:
    """What vLLM would refuse of an adapter, or, worse, leave out of it in silence."""
    if kind != "LORA":
        return [f"the whole adapter: it is {kind.lower()}, and vllm serves LoRA only"]
    lost: list[str] = []
    if modules := settings.get("modules_to_save"):
        lost.append(f"modules_to_save ({', '.join(modules)}): whole layers, where vllm adds low ranks only")
    if settings.get("trainable_token_indices"):
        lost.append("the embeddings of single tokens (trainable_token_indices)")
    resized = [name for name in _targets(settings) if name.endswith(("embed_tokens", "lm_head"))]
    if resized:
        lost.append(f"what was learnt in {', '.join(resized)}: vllm keeps the base's embeddings")
    for name, what in (
        ("use_dora", "the magnitudes of DoRA"),
        ("rank_pattern", "the ranks and scales of single layers (rank_pattern)"),
        ("alpha_pattern", "the scales of single layers (alpha_pattern)"),
        ("target_parameters", "what was learnt in experts (target_parameters)"),
    ):
        if settings.get(name):
            lost.append(what)
    if settings.get("bias", "none") != "none":
        lost.append("the learnt bias terms")
    if int(settings.get("r") or 0) > LORA_RANKS[-1]:
        lost.append(f"ranks above {LORA_RANKS[-1]}")
    return lost


def _targets(settings: dict[str, Any]) -> list[str]:
    """The names of the adapted layers, as far as the adapter lists them."""
    targets = settings.get("target_modules") or []
    return [targets] if isinstance(targets, str) else sorted(targets)


def _config(base: Path) -> "PretrainedConfig":
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the model in {base} cannot be loaded: {error}") from error


def _extra_heads(base: Path, config: "PretrainedConfig") -> list[str]:
    """Weights beside those of the architecture, such as a value head: transformers drops them in silence."""
    import torch
    import transformers

    names = {name for file in base.glob("*.safetensors") for name in header(file)}
    kind = (getattr(config, "architectures", None) or ["AutoModelForCausalLM"])[0]
    maker = getattr(transformers, kind, None)
    with torch.device("meta"):
        model = maker(config) if maker else transformers.AutoModelForCausalLM.from_config(config)
    body = getattr(model, model.base_model_prefix, model)
    known = {name.partition(".")[0] for part in (model, body) for name in part.state_dict()}
    extra = sorted({name.partition(".")[0] for name in names} - known - {model.base_model_prefix})
    return [f"the head {name!r}, which is no part of {kind}" for name in extra]


def _other_head(config: "PretrainedConfig") -> list[str]:
    """The head of a model that is no language model."""
    kind = (getattr(config, "architectures", None) or ["?ForCausalLM"])[0]
    return [] if kind.endswith("ForCausalLM") else [f"what {kind} gives out: it is no causal language model"]


def _experts(config: "PretrainedConfig") -> list[str]:
    """The experts of a mixture."""
    counts = (
        getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts")
    )
    count = next((count for count in counts if count), None)
    if count is None:
        return []
    return [f"the {count} experts of each layer ({config.model_type}): this writer knows dense layers only"]
